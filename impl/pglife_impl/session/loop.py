"""The loop of a session: read a message, act, answer, until the client or somebody ends it.

Begin with   Session.run().
Owns         the order of a simple query, what an error does, session states and titles (6.4).
Leaves out   the extended protocol (extended.py), statements (portal.py, commands.py).
Source       tcop/postgres.c: PostgresMain(), exec_simple_query(), start_xact_command(),
             finish_xact_command(), ProcessInterrupts().
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pglife_impl.protocol import (
    Report,
    Severity,
    SqlError,
    SqlState,
    TransactionStatus,
    error_response,
    notice_response,
    ready_for_query,
)
from pglife_impl.protocol.frontend import (
    EXTENDED_PROTOCOL,
    Frame,
    FrameReader,
    InvalidLength,
    InvalidMessageType,
    Query,
    Sync,
    decode,
)
from pglife_impl.protocol.report import error, fatal
from pglife_impl.session import interrupts
from pglife_impl.session.context import ClientGone, Wake
from pglife_impl.session.interrupts import Interrupt
from pglife_impl.session.settings import Settings
from pglife_impl.session.timers import Clock, Timer, Timers
from pglife_impl.session.transaction import Effect, Happening, Transaction

if TYPE_CHECKING:
    from pglife_impl.session.context import SessionContext
    from pglife_impl.session.protocol.extended import ExtendedProtocol
    from pglife_impl.session.queries import tree

EXIT_DONE = 0
EXIT_FATAL = 1
POLL_S = 0.05

STATES = {
    TransactionStatus.IDLE: "idle",
    TransactionStatus.IN_BLOCK: "idle in transaction",
    TransactionStatus.FAILED: "idle in transaction (aborted)",
}
"""Title and pg_stat_activity.state of a session that waits for a command (SE-04..06)."""

TIMEOUTS = {
    Timer.STATEMENT: Interrupt.STATEMENT_TIMEOUT,
    Timer.IDLE_IN_TRANSACTION: Interrupt.IDLE_IN_TRANSACTION_TIMEOUT,
    Timer.TRANSACTION: Interrupt.TRANSACTION_TIMEOUT,
    Timer.IDLE_SESSION: Interrupt.IDLE_SESSION_TIMEOUT,
}


class PostmasterDied(Exception):
    """Seen while a statement slept: the process ends without a word (WL_EXIT_ON_PM_DEATH)."""


class Session:
    """One client's session."""

    context: SessionContext
    transaction_start: float
    statement_start: float
    conf_load_time: float

    def __init__(self, context: SessionContext, clock: Clock = time.monotonic) -> None:
        self.context = context
        self.clock = clock
        self.settings = Settings(context.gucs, superuser=context.authenticated_superuser)
        self.transaction = Transaction()
        self.timers = Timers(clock)
        self._extended: ExtendedProtocol | None = None
        self.transaction_start = context.now()
        self.statement_start = self.transaction_start
        self.conf_load_time = context.start_time
        self._pending: set[Interrupt] = set()
        self._reader = FrameReader()
        self._ready = True
        self._skipping_to_sync = False
        self._query = ""
        self._shown_application_name = self.settings.show("application_name")

    def run(self) -> int:
        """Serve until the end; return the exit code."""
        try:
            while True:
                try:
                    code = self._turn()
                except SqlError as problem:
                    if problem.is_fatal:
                        raise
                    self._recover(problem)
                else:
                    if code is not None:
                        return code
        except SqlError as problem:
            self._say_goodbye(problem.report)
        except ClientGone as problem:
            # What was lost cannot be told to the client, only to the log (SE-41).
            if self.context.interrupts.die:
                self._log(interrupts.administrator_command().report)
            else:
                self.context.log("LOG", str(problem), sqlstate=SqlState.CONNECTION_FAILURE)
                self._log(interrupts.client_lost().report)
        except PostmasterDied:
            pass
        return EXIT_FATAL

    def _say_goodbye(self, report: Report) -> None:
        self._log(report)
        try:
            self.context.send(error_response(report))
            self.context.flush()
        except ClientGone:
            return

    # --- one command --------------------------------------------------------------------------

    def _turn(self) -> int | None:
        """Wait for a command and act on it; an exit code ends the session."""
        frame = None
        if self._ready:
            self._become_ready()
        try:
            frame = self._read_frame()
        except InvalidMessageType as problem:
            raise fatal(SqlState.PROTOCOL_VIOLATION, str(problem)) from None
        except InvalidLength as problem:
            self.context.log("LOG", str(problem), sqlstate=SqlState.PROTOCOL_VIOLATION)
        if frame is None:
            return self._end_of_input()
        self.timers.disarm(Timer.IDLE_IN_TRANSACTION, Timer.IDLE_SESSION)
        self._pending -= {Interrupt.IDLE_IN_TRANSACTION_TIMEOUT, Interrupt.IDLE_SESSION_TIMEOUT}
        if self.context.interrupts.reload:
            self.reload()
        if frame.code == b"X":
            return EXIT_DONE
        self._act(frame)
        return None

    def _act(self, frame: Frame) -> None:
        is_extended = frame.code in EXTENDED_PROTOCOL
        if self._skipping_to_sync and frame.code != b"S":
            return
        try:
            message = decode(frame)
            if isinstance(message, Query):
                self.simple_query(message.sql)
                self._ready = True
            elif isinstance(message, Sync):
                self._skipping_to_sync = False
                self.finish_transaction()
                self.timers.disarm(Timer.STATEMENT)
                self._ready = True
            elif frame.code == b"F":
                self._ready = True
                raise error(
                    SqlState.FEATURE_NOT_SUPPORTED,
                    "fastpath function calls are not supported by this server",
                )
            elif is_extended:
                self.extended.act(message)
        except SqlError:
            self._skipping_to_sync = is_extended
            raise
        except (ClientGone, PostmasterDied):
            raise
        except RecursionError:
            self._skipping_to_sync = is_extended
            raise error(SqlState.STATEMENT_TOO_COMPLEX, "stack depth limit exceeded") from None
        except Exception as problem:
            # A defect of ours in one statement must not throw every session out, which an
            # exception that leaves the process would do: the postmaster takes it for a crash.
            self._skipping_to_sync = is_extended
            text = f"internal error: {type(problem).__name__}: {problem}"
            raise error(SqlState.INTERNAL_ERROR, text) from problem

    def _recover(self, problem: SqlError) -> None:
        """An ERROR: tell it, end or fail the transaction, and wait for the next command."""
        self.timers.disarm(*Timer)
        self._pending -= {Interrupt.STATEMENT_TIMEOUT, Interrupt.TRANSACTION_TIMEOUT}
        self._log(problem.report)
        self.context.send(error_response(problem.report))
        self.context.flush()
        self._perform(self.transaction.fail())
        self._forget_portals()
        if not self._skipping_to_sync:
            self._ready = True

    def _become_ready(self) -> None:
        """Tell the client and everybody else that we wait for a command."""
        self._ready = False
        self._query = ""
        status = self.transaction.status
        self.context.set_activity(STATES[status])
        self.context.report(state=self._visible(STATES[status]))
        if status is TransactionStatus.IDLE:
            self._arm(Timer.IDLE_SESSION)
        elif not self._transaction_timeout_is_shorter(Timer.IDLE_IN_TRANSACTION):
            self._arm(Timer.IDLE_IN_TRANSACTION)
        self.timers.disarm(Timer.CLIENT_CHECK)
        self.context.send(self.settings.changed_reports() + ready_for_query(status))
        self.context.flush()

    def _visible(self, state: str) -> str:
        return state if self.settings.gucs.get("track_activities") else "disabled"

    def _transaction_timeout_is_shorter(self, timer: Timer) -> bool:
        transaction_ms = self.settings.milliseconds(Timer.TRANSACTION.value)
        return 0 < transaction_ms <= self.settings.milliseconds(timer.value)

    def _arm(self, timer: Timer) -> None:
        self.timers.arm(timer, self.settings.milliseconds(timer.value))

    def _read_frame(self) -> Frame | None:
        """Wait for a whole message; None at end of file. Interrupts are served meanwhile."""
        while True:
            frame = self._reader.next_frame()
            if frame is not None:
                return frame
            self.check_for_interrupts(reading_command=True)
            data = self.context.receive()
            if data is None:
                wake = self.context.wait(self.timers.remaining_s(), readable=True)
                if Wake.POSTMASTER_DEATH in wake:
                    raise interrupts.postmaster_exit()
            elif data:
                self._reader.feed(data)
            else:
                return None

    def _end_of_input(self) -> int:
        """SE-44: the client has vanished; only an open transaction is worth a line."""
        if self.transaction.in_progress:
            self.context.log(
                "LOG",
                "unexpected EOF on client connection with an open transaction",
                sqlstate="08003",
            )
        return EXIT_DONE

    # --- a query string -----------------------------------------------------------------------

    def begin_command(self, query: str, activity: str | None = None) -> None:
        """A command that runs something has come: everybody may see it (SE-03)."""
        self._query = query
        self.statement_start = self.context.now()
        self.context.report(
            state=self._visible("active"), query=query, query_start=self.statement_start
        )
        if activity is not None:
            self.context.set_activity(activity)

    def simple_query(self, sql: str) -> None:
        """Run the statements of a string, each to its end (exec_simple_query)."""
        self.begin_command(sql)
        from pglife_impl.session.protocol.simple import (
            run_string,  # the heavy import: see parser.py
        )

        run_string(sql, self)
        self.timers.disarm(Timer.STATEMENT)
        self._query = ""

    def statement_done(self) -> None:
        """An Execute has run to its end: the statement timeout stops (TO-02)."""
        self.timers.disarm(Timer.STATEMENT)

    @property
    def extended(self) -> ExtendedProtocol:
        """Prepared statements and portals; all that understands SQL comes with them."""
        if self._extended is None:
            from pglife_impl.session.protocol.extended import (
                ExtendedProtocol,  # heavy: see parser.py
            )

            self._extended = ExtendedProtocol(self)
        return self._extended

    def _forget_portals(self) -> None:
        if self._extended is not None:
            self._extended.forget_portals()

    # --- transactions -------------------------------------------------------------------------

    def start_transaction(self, *, implicit_block: bool = False) -> None:
        """There is a transaction from here on, and the clocks of a statement run."""
        self._perform(self.transaction.start_statement(implicit_block=implicit_block))
        if not self.timers.is_armed(Timer.STATEMENT):
            statement_ms = self.settings.milliseconds(Timer.STATEMENT.value)
            if statement_ms and not self._transaction_timeout_is_shorter(Timer.STATEMENT):
                self._arm(Timer.STATEMENT)
        if not self.timers.is_armed(Timer.CLIENT_CHECK):
            self._arm(Timer.CLIENT_CHECK)

    def finish_transaction(self) -> None:
        """Outside of a block a transaction ends with its statement."""
        self._perform(self.transaction.finish())

    def control(self, statement: tree.TransactionControl) -> str:
        """BEGIN, COMMIT and the rest; return the tag."""
        outcome = self.transaction.control(statement)
        self.notice_unless_none(outcome.notice)
        self._perform(outcome.effects)
        for name, value in statement.settings:
            self.set(name, value, local=True)
        return outcome.tag

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self.settings.follow(effect)
            self._show_application_name()
            match effect.happening:
                case Happening.STARTED:
                    self.transaction_start = self.statement_start
                    self.context.report(xact_start=self.transaction_start)
                    self._arm(Timer.TRANSACTION)
                case Happening.COMMITTED | Happening.ABORTED:
                    self.context.report(xact_start=0.0)
                    self.timers.disarm(Timer.TRANSACTION)
                    self._pending.discard(Interrupt.TRANSACTION_TIMEOUT)
                    self._forget_portals()

    def set(self, name: str, value: str | None, *, local: bool = False) -> None:
        """SET, with what follows from some settings at once."""
        self.settings.set(name, value, local=local)
        self._show_application_name()
        if name.lower() == Timer.TRANSACTION.value and self.transaction.in_progress:
            self._arm(Timer.TRANSACTION)

    def reset_all(self) -> None:
        """RESET ALL."""
        self.settings.reset_all()
        self._show_application_name()

    def _show_application_name(self) -> None:
        name = self.settings.show("application_name")
        if name != self._shown_application_name:
            self._shown_application_name = name
            self.context.report(application_name=name)

    # --- interrupts ---------------------------------------------------------------------------

    def check_for_interrupts(self, *, reading_command: bool = False) -> None:
        """Serve what is pending (SE-40); raises what it comes to."""
        flags = self.context.interrupts
        for timer in self.timers.take_expired():
            self._expire(timer)
        if flags.die:
            self._pending.add(Interrupt.DIE)
        if flags.cancel:
            self._pending.add(Interrupt.CANCEL)
        if not self._pending:
            return
        verdict = interrupts.serve(self._pending, reading_command=reading_command)
        self._pending -= verdict.settled
        if Interrupt.CANCEL in verdict.settled:
            flags.cancel = False
        if verdict.raised is not None:
            raise verdict.raised

    def _expire(self, timer: Timer) -> None:
        """A deadline has passed. A timeout set to 0 meanwhile does nothing (TO-12)."""
        if not self.settings.milliseconds(timer.value):
            return
        if timer is not Timer.CLIENT_CHECK:
            self._pending.add(TIMEOUTS[timer])
        elif self.context.client_has_gone():
            self._pending.add(Interrupt.CLIENT_LOST)
        else:
            self._arm(timer)

    def sleep(self, seconds: float) -> None:
        """Sleep within a statement; ends early for an interrupt, which is then served."""
        limit = self.timers.remaining_s()
        self.check_for_interrupts()
        wait_s = seconds if limit is None else min(seconds, limit)
        wake = self.context.wait(wait_s, readable=False)
        if Wake.POSTMASTER_DEATH in wake:
            raise PostmasterDied
        self.check_for_interrupts()

    def reload(self) -> None:
        """SIGHUP: read the configuration files again, between two commands (SG-28)."""
        self.context.reload()
        self.conf_load_time = self.context.now()

    # --- words ----------------------------------------------------------------------------------

    def _log(self, report: Report) -> None:
        """Write to the server log; the statement is named from ERROR on."""
        is_error = report.severity in (Severity.ERROR, Severity.FATAL)
        place = "" if report.position is None else f" at character {report.position}"
        self.context.log(
            report.severity.value,
            report.message + place,
            sqlstate=report.sqlstate,
            detail=report.detail,
            hint=report.hint,
            statement=self._query if is_error else "",
        )

    def notice(self, report: Report) -> None:
        """Tell the client something that is no error; a warning goes to the log too."""
        if report.severity is Severity.WARNING:
            self._log(report)
        self.context.send(notice_response(report))

    def notice_unless_none(self, report: Report | None) -> None:
        """Tell it if there is something to tell."""
        if report is not None:
            self.notice(report)

    def notice_skipping(self, text: str) -> None:
        """IF EXISTS, and it does not."""
        self.notice(Report(Severity.NOTICE, SqlState.SUCCESSFUL_COMPLETION, f"{text}, skipping"))

    def terminate_all(self, pids: Iterable[int]) -> None:
        """Ask sessions to leave, and wait until they have."""
        waiting = set(pids)
        for pid in waiting:
            self.context.signal_backend(pid, signal.SIGTERM)
        while waiting:
            self.sleep(POLL_S)
            waiting = {pid for pid in waiting if self.context.shmem.activity_of(pid) is not None}
