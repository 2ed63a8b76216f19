"""The parts of a session that statements act on; the message loop stands above them."""

from pglife_impl.session.context import SessionContext
from pglife_impl.session.output import Output
from pglife_impl.session.pending import PendingInterrupts
from pglife_impl.session.settings import Settings
from pglife_impl.session.timers import Clock
from pglife_impl.session.xact_commands import XactCommands

APPLICATION_NAME = "application_name"


class SessionState:
    """Context, output, settings, interrupts and transactions of one session."""

    def __init__(self, context: SessionContext, clock: Clock) -> None:
        self.context = context
        self.output = Output(context)
        self.settings = Settings(context.gucs, superuser=context.superuser)
        self.interrupts = PendingInterrupts(context, self.settings, clock)
        self.xact = XactCommands(context, self.settings, self.interrupts, self.output)
        self.settings.on_assign(APPLICATION_NAME, self._report_application_name)

    def _report_application_name(self) -> None:
        self.context.report(application_name=self.settings.show(APPLICATION_NAME))
