"""The message loop of a session: read a message, act on it, answer, until the session ends.

Begin with serve(), then Session.run().
Source: tcop/postgres.c: PostgresMain(), exec_simple_query(), ProcessInterrupts().

Importing this module is cheap, because the postmaster does so before it forks. The modules that
understand SQL (simple.py, extended.py and all below them) are imported at the first statement.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pglife_impl.base.exits import EXIT_DONE, EXIT_FATAL, ProcExit
from pglife_impl.protocol import Report, SqlError, SqlState, TransactionStatus, ready_for_query
from pglife_impl.protocol.frontend import (
    EXTENDED_PROTOCOL,
    Frame,
    FrameReader,
    InvalidLength,
    InvalidMessageType,
    Message,
    Query,
    decode,
)
from pglife_impl.protocol.report import error, fatal
from pglife_impl.session import interrupts
from pglife_impl.session.context import ClientGone, SessionContext, Wake
from pglife_impl.session.state import SessionState
from pglife_impl.session.timers import Clock, Timer

if TYPE_CHECKING:
    from pglife_impl.session.protocol.extended import ExtendedProtocol

SYNC = b"S"
TERMINATE = b"X"

STATES = {
    TransactionStatus.IDLE: "idle",
    TransactionStatus.IN_BLOCK: "idle in transaction",
    TransactionStatus.FAILED: "idle in transaction (aborted)",
}
"""Title and pg_stat_activity.state of a session that waits for a command (SE-04..06)."""


def serve(context: SessionContext) -> int:
    """Serve a session from its first ReadyForQuery to its end; return the exit code, 0 or 1."""
    return Session(context).run()


class Session:
    """The message loop over one client."""

    def __init__(self, context: SessionContext, clock: Clock = time.monotonic) -> None:
        self.context = context
        self.state = SessionState(context, clock)
        self._extended: ExtendedProtocol | None = None
        self._reader = FrameReader()
        self._ready = True
        self._skipping_to_sync = False
        self._handlers: dict[bytes, Callable[[Any], None]] = {
            b"Q": self._simple_query,
            SYNC: self._sync,
            b"F": self._function_call,
            **dict.fromkeys(EXTENDED_PROTOCOL, self._extended_message),
        }

    def run(self) -> int:
        """Serve until the end; return the exit code."""
        try:
            while True:
                try:
                    self._command()
                except SqlError as problem:
                    if problem.is_fatal:
                        raise
                    self._recover(problem)
        except ProcExit as end:
            return end.code
        except SqlError as problem:
            self._end_with(problem.report)
        except ClientGone as problem:
            # The client cannot be reached, so only the log gets the reason (SE-41).
            if self.context.interrupts.die:
                self.state.output.log(interrupts.administrator_command().report)
            else:
                self.state.output.log_line(str(problem), SqlState.CONNECTION_FAILURE)
                self.state.output.log(interrupts.client_lost().report)
        return EXIT_FATAL

    def _end_with(self, report: Report) -> None:
        try:
            self.state.output.error(report)
        except ClientGone:
            return

    # --- one command --------------------------------------------------------------------------

    def _command(self) -> None:
        """Wait for a message and act on it; ProcExit when the session ends."""
        frame = None
        if self._ready:
            self._become_ready()
        try:
            frame = self._read_frame()
        except InvalidMessageType as problem:
            raise fatal(SqlState.PROTOCOL_VIOLATION, str(problem)) from None
        except InvalidLength as problem:
            self.state.output.log_line(str(problem), SqlState.PROTOCOL_VIOLATION)
        if frame is None:
            self._log_lost_transaction()
            raise ProcExit(EXIT_DONE)
        self.state.interrupts.disarm(Timer.IDLE_IN_TRANSACTION, Timer.IDLE_SESSION)
        if self.context.interrupts.reload:
            self.context.reload()  # between two commands (SG-28)
        if frame.code == TERMINATE:
            raise ProcExit(EXIT_DONE)
        if not self._skipping_to_sync or frame.code == SYNC:
            self._act(frame)

    def _act(self, frame: Frame) -> None:
        """Decode a message and call its handler; messages without a handler are ignored."""
        try:
            message = decode(frame)
            handler = self._handlers.get(frame.code)
            if handler is not None:
                handler(message)
        except (ClientGone, ProcExit):
            raise
        except Exception as problem:
            self._skipping_to_sync = frame.code in EXTENDED_PROTOCOL
            if isinstance(problem, SqlError):
                raise
            if isinstance(problem, RecursionError):
                raise error(SqlState.STATEMENT_TOO_COMPLEX, "stack depth limit exceeded") from None
            # A defect of this server must end one statement only. An exception that reached the
            # main function would end the process with a code that the postmaster takes for a
            # crash, and every session with it.
            text = f"internal error: {type(problem).__name__}: {problem}"
            raise error(SqlState.INTERNAL_ERROR, text) from problem

    def _simple_query(self, message: Query) -> None:
        self.state.xact.begin_command(message.sql)
        from pglife_impl.session.protocol.simple import run_string  # heavy: see parser.py

        run_string(message.sql, self.state, self._extended_protocol())
        self.state.interrupts.disarm(Timer.STATEMENT)
        self.state.output.statement = ""
        self._ready = True

    def _sync(self, _: Message) -> None:
        self._skipping_to_sync = False
        self.state.xact.finish()
        self.state.interrupts.disarm(Timer.STATEMENT)
        self._ready = True

    def _function_call(self, _: Message) -> None:
        self._ready = True
        raise error(
            SqlState.FEATURE_NOT_SUPPORTED,
            "fastpath function calls are not supported by this server",
        )

    def _extended_message(self, message: Message) -> None:
        self._extended_protocol().act(message)

    def _extended_protocol(self) -> ExtendedProtocol:
        if self._extended is None:
            from pglife_impl.session.protocol.extended import ExtendedProtocol  # heavy: parser.py

            self._extended = ExtendedProtocol(self.state)
        return self._extended

    def _recover(self, problem: SqlError) -> None:
        """After an ERROR: report it, abort or fail the transaction, wait for the next command."""
        self.state.interrupts.disarm(*Timer)
        self.state.output.error(problem.report)
        self.state.xact.fail()
        if self._extended is not None:
            self._extended.forget_portals()
        if not self._skipping_to_sync:
            self._ready = True

    def _become_ready(self) -> None:
        """Show the session as idle and send ReadyForQuery."""
        self._ready = False
        state = self.state
        state.output.statement = ""
        status = state.xact.transaction.status
        self.context.set_activity(STATES[status])
        self.context.report(state=state.settings.visible_state(STATES[status]))
        state.interrupts.arm_idle(in_transaction=status is not TransactionStatus.IDLE)
        state.output.send(state.settings.changed_reports() + ready_for_query(status))
        state.output.flush()

    def _read_frame(self) -> Frame | None:
        """Wait for a whole message, serving interrupts meanwhile; None at end of file."""
        while True:
            frame = self._reader.next_frame()
            if frame is not None:
                return frame
            self.state.interrupts.check(reading_command=True)
            data = self.context.client.receive()
            if data is None:
                if Wake.POSTMASTER_DEATH in self.state.interrupts.wait_for_client():
                    raise interrupts.postmaster_exit()
            elif data:
                self._reader.feed(data)
            else:
                return None

    def _log_lost_transaction(self) -> None:
        """The client hung up (SE-44); only an open transaction is worth a line."""
        if self.state.xact.transaction.in_progress:
            text = "unexpected EOF on client connection with an open transaction"
            self.state.output.log_line(text, SqlState.CONNECTION_DOES_NOT_EXIST)
