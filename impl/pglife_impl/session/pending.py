"""The pending interrupts of a session: collected from signals and timers, served at safe points.

Begin with PendingInterrupts.check(), which is CHECK_FOR_INTERRUPTS().
Source: tcop/postgres.c: ProcessInterrupts(); utils/misc/timeout.c.
"""

from pglife_impl.base.exits import EXIT_FATAL, ProcExit
from pglife_impl.session.context import SessionContext, Wake
from pglife_impl.session.interrupts import Interrupt, serve
from pglife_impl.session.settings import Settings
from pglife_impl.session.timers import Clock, Timer, Timers

TIMEOUTS = {
    Timer.STATEMENT: Interrupt.STATEMENT_TIMEOUT,
    Timer.IDLE_IN_TRANSACTION: Interrupt.IDLE_IN_TRANSACTION_TIMEOUT,
    Timer.TRANSACTION: Interrupt.TRANSACTION_TIMEOUT,
    Timer.IDLE_SESSION: Interrupt.IDLE_SESSION_TIMEOUT,
}


class PendingInterrupts:
    """The interrupts and timers of one session."""

    def __init__(self, context: SessionContext, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        self._context = context
        self._settings = settings
        self._timers = Timers(clock)
        self._pending: set[Interrupt] = set()

    # --- timers -------------------------------------------------------------------------------

    def arm(self, timer: Timer) -> None:
        """Start a timer with the length that its setting gives; zero stops it."""
        self._timers.arm(timer, self._settings.milliseconds(timer.value))

    def disarm(self, *timers: Timer) -> None:
        """Stop timers and forget the interrupts of those that have expired."""
        self._timers.disarm(*timers)
        self._pending -= {TIMEOUTS[timer] for timer in timers if timer in TIMEOUTS}

    def arm_idle(self, *, in_transaction: bool) -> None:
        """Start the timeout of a session that waits for a command."""
        self.disarm(Timer.CLIENT_CHECK)
        if not in_transaction:
            self.arm(Timer.IDLE_SESSION)
        elif not self._transaction_timeout_is_shorter(Timer.IDLE_IN_TRANSACTION):
            self.arm(Timer.IDLE_IN_TRANSACTION)

    def arm_statement(self) -> None:
        """Start the timers of a statement, unless they run since an earlier message."""
        is_armed = self._timers.is_armed(Timer.STATEMENT)
        if not is_armed and not self._transaction_timeout_is_shorter(Timer.STATEMENT):
            self.arm(Timer.STATEMENT)
        if not self._timers.is_armed(Timer.CLIENT_CHECK):
            self.arm(Timer.CLIENT_CHECK)

    def _transaction_timeout_is_shorter(self, timer: Timer) -> bool:
        transaction_ms = self._settings.milliseconds(Timer.TRANSACTION.value)
        return 0 < transaction_ms <= self._settings.milliseconds(timer.value)

    # --- interrupts ---------------------------------------------------------------------------

    def check(self, *, reading_command: bool = False) -> None:
        """Serve what is pending.

        Raises:
            SqlError: the ERROR or FATAL that an interrupt asks for, the most urgent one (SE-40).
        """
        flags = self._context.interrupts
        for timer in self._timers.take_expired():
            self._expire(timer)
        if flags.die:
            self._pending.add(Interrupt.DIE)
        if flags.cancel:
            self._pending.add(Interrupt.CANCEL)
        if not self._pending:
            return
        decision = serve(self._pending, reading_command=reading_command)
        self._pending -= decision.settled
        if Interrupt.CANCEL in decision.settled:
            flags.cancel = False
        if decision.raised is not None:
            raise decision.raised

    def _expire(self, timer: Timer) -> None:
        """A timer has expired. A timeout that was set to 0 meanwhile does nothing (TO-12)."""
        if not self._settings.milliseconds(timer.value):
            return
        if timer is not Timer.CLIENT_CHECK:
            self._pending.add(TIMEOUTS[timer])
        elif self._context.client.has_gone():
            self._pending.add(Interrupt.CLIENT_LOST)
        else:
            self.arm(timer)

    def wait_for_client(self) -> Wake:
        """Sleep until the client sends something, a timer expires or a signal arrives."""
        return self._context.client.wait(self._timers.remaining_s(), readable=True)

    def sleep(self, seconds: float) -> None:
        """Sleep within a statement, at most `seconds`; an interrupt ends the sleep and is served.

        Raises:
            ProcExit: the postmaster died. The session exits silently (WL_EXIT_ON_PM_DEATH).
        """
        limit = self._timers.remaining_s()
        self.check()
        wait_s = seconds if limit is None else min(seconds, limit)
        wake = self._context.client.wait(wait_s, readable=False)
        if Wake.POSTMASTER_DEATH in wake:
            raise ProcExit(EXIT_FATAL)
        self.check()
