"""Starts and ends transactions for statements, with all that follows from it.

`Transaction` decides; this module applies the effects to settings, timers, portals and the
session's row of pg_stat_activity.
Source: tcop/postgres.c: start_xact_command(), finish_xact_command(); access/transam/xact.c.
"""

from collections.abc import Callable, Iterable, Sequence

from pglife_impl.session.context import SessionContext
from pglife_impl.session.output import Output
from pglife_impl.session.pending import PendingInterrupts
from pglife_impl.session.settings import Settings
from pglife_impl.session.timers import Timer
from pglife_impl.session.transaction import Effect, Happening, Transaction, TransactionVerb


class XactCommands:
    """The transactions of one session."""

    def __init__(
        self,
        context: SessionContext,
        settings: Settings,
        interrupts: PendingInterrupts,
        output: Output,
    ) -> None:
        self._context = context
        self._settings = settings
        self._interrupts = interrupts
        self._output = output
        self.transaction = Transaction()
        self.transaction_start = self.statement_start = context.now()
        self.at_end: list[Callable[[], None]] = []
        settings.on_assign(Timer.TRANSACTION.value, self._transaction_timeout_assigned)

    def begin_command(self, query: str, activity: str | None = None) -> None:
        """Show the session as active with this query (SE-03), and note when the command began."""
        self._output.statement = query
        self.statement_start = self._context.now()
        self._context.report(
            state=self._settings.visible_state("active"),
            query=query,
            query_start=self.statement_start,
        )
        if activity is not None:
            self._context.set_activity(activity)

    def start(self, *, implicit_block: bool = False) -> None:
        """Start a transaction unless there is one, and the timers of a statement."""
        self._apply(self.transaction.start_statement(implicit_block=implicit_block))
        self._interrupts.arm_statement()

    def finish(self) -> None:
        """Commit the transaction if it was started for this statement only."""
        self._apply(self.transaction.finish())

    def fail(self) -> None:
        """An ERROR: abort the transaction, or mark the block as failed."""
        self._apply(self.transaction.fail())

    def control(
        self,
        verb: TransactionVerb,
        savepoint: str,
        settings: Sequence[tuple[str, str]],
        *,
        chain: bool,
    ) -> str:
        """Run BEGIN, COMMIT and the like; return the command tag."""
        outcome = self.transaction.control(verb, savepoint, chain=chain)
        self._output.notice(outcome.notice)
        self._apply(outcome.effects)
        for name, value in settings:
            self._settings.set(name, value, local=True)
        return outcome.tag

    def _apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self._settings.follow(effect)
            match effect.happening:
                case Happening.STARTED:
                    self.transaction_start = self.statement_start
                    self._context.report(xact_start=self.transaction_start)
                    self._interrupts.arm(Timer.TRANSACTION)
                case Happening.COMMITTED | Happening.ABORTED:
                    self._context.report(xact_start=0.0)
                    self._interrupts.disarm(Timer.TRANSACTION)
                    for callback in self.at_end:
                        callback()

    def _transaction_timeout_assigned(self) -> None:
        if self.transaction.in_progress:
            self._interrupts.arm(Timer.TRANSACTION)
