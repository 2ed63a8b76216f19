"""A client of a cluster: what it sends is a stimulus, what it receives an observation.

Begin with Session; the bytes are in client.py.

Source: rules CN-10 to CN-59, SE-01 to SE-49.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from types import TracebackType

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation, SuiteError
from pglife_conformance.base.ids import ClientNumber, Pid
from pglife_conformance.cluster.client import (
    PROTOCOL_3_0,
    Client,
    ClientTimeout,
    Ending,
    ServerMessage,
    Tag,
)
from pglife_conformance.events import (
    Answer,
    AnswerKind,
    CancelQuery,
    Disconnect,
    SendQuery,
    Terminate,
)
from pglife_conformance.observation.processes import Child
from pglife_conformance.watching.server import WatchedServer

__tracebackhide__ = True
"""pytest shows the scenario's line, and no frame of this module."""

Row = tuple[str | None, ...]


class Outcome(Enum):
    """How an attempt to connect has ended."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    ENDED = "ended without a message"
    UNANSWERED = "unanswered"


class ServerError(SuiteError):
    """The server answered a statement with an ErrorResponse."""

    def __init__(self, message: ServerMessage) -> None:
        super().__init__(str(message))
        self.answer = message

    @property
    def sqlstate(self) -> str:
        """The SQLSTATE."""
        return self.answer.sqlstate


class Session:
    """One connection; a context manager that closes it.

    Args:
        server: the server that the client is connected to.
        connect: makes another connection, for a CancelRequest.
        client: the connection.
        number: the client's number in stimuli and answers.
    """

    def __init__(
        self,
        server: WatchedServer,
        connect: Callable[[], Client],
        client: Client,
        number: ClientNumber,
    ) -> None:
        self.server = server
        self._connect = connect
        self.client = client
        self.number = number
        self.outcome = Outcome.UNANSWERED
        self.refusal: ServerMessage | None = None
        self.notices: list[ServerMessage] = []
        self.child_before_packet: Child | None = None
        self._open = True

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Connecting.

    def send_startup_packet(
        self, parameters: dict[str, str], protocol: int = PROTOCOL_3_0, limit_s: float | None = None
    ) -> Outcome:
        """Send the startup packet, and receive messages until the outcome is known.

        Args:
            parameters: the packet's parameters.
            protocol: the protocol version.
            limit_s: the deadline of each message in seconds; by default the client's.
        """
        self.client.send_startup(parameters, protocol)
        return self.receive_outcome(limit_s)

    def receive_outcome(self, limit_s: float | None = None) -> Outcome:
        """Receive messages until the client is admitted or refused, or the connection ends."""
        while True:
            try:
                message = self.client.receive(limit_s)
            except ClientTimeout:
                self.outcome = Outcome.UNANSWERED
                return self.outcome
            self._record(message)
            if message is None:
                if self.outcome is not Outcome.REFUSED:
                    self.outcome = Outcome.ENDED
                return self.outcome
            if message.tag is Tag.READY_FOR_QUERY:
                self.outcome = Outcome.ADMITTED
                return self.outcome
            if message.tag is Tag.ERROR:
                # The server closes the connection next; that belongs to the refusal.
                self.refusal = message
                self.outcome = Outcome.REFUSED

    # Statements.

    def query(self, sql: str, limit_s: float | None = None) -> list[Row]:
        """Run a simple query, and return its rows.

        Raises:
            ServerError: the server answered with an error.
            Expectation: there was no answer, or the connection ended.
        """
        self.send_query(sql)
        return self.result(limit_s)

    def send_query(self, sql: str) -> None:
        """Send a simple query; result() receives its rows."""
        self.server.watcher.stimulus(SendQuery(self.number, sql))
        self.client.send_query(sql)

    def begin_query(self, sql: str) -> None:
        """Send a simple query, and wait until the child's title shows that it runs."""
        pid = self.backend_pid
        self.send_query(sql)
        self.server.expect_title(pid, " SELECT$")

    def result(self, limit_s: float | None = None) -> list[Row]:
        """Receive the rows of a query that was sent; raises as query() does."""
        rows: list[Row] = []
        error: ServerMessage | None = None
        while True:
            message = self.receive(limit_s)
            if message is None:
                if error is not None:
                    raise ServerError(error)
                raise self._failure("the result of a statement", self._how_it_ended())
            if message.tag is Tag.DATA_ROW:
                rows.append(message.row)
            elif message.tag is Tag.ERROR:
                error = message
            elif message.tag is Tag.READY_FOR_QUERY:
                if error is not None:
                    raise ServerError(error)
                return rows

    def receive(self, limit_s: float | None = None) -> ServerMessage | None:
        """Receive one message of any type; None at the end of the connection."""
        try:
            message = self.client.receive(limit_s)
        except ClientTimeout:
            raise self._failure(f"a message to client {self.number}", "silence") from None
        self._record(message)
        return message

    def expect_end(self, limit_s: float | None = None) -> list[ServerMessage]:
        """Wait for the end of the connection, and return the messages before it."""
        messages = []
        while (message := self.receive(limit_s)) is not None:
            messages.append(message)
        return messages

    def expect_final_message(self, limit_s: float | None = None) -> ServerMessage | None:
        """Wait for the end of the connection; return the last error or notice before it, if any."""
        messages = self.expect_end(limit_s)
        return next((m for m in reversed(messages) if m.tag in (Tag.ERROR, Tag.NOTICE)), None)

    def is_silent(self) -> bool:
        """Whether there is no message to receive, and the connection has not ended."""
        return not self.client.has_input()

    def cancel(self) -> None:
        """Send a CancelRequest on another connection, and wait until the server closes that."""
        pid = self.backend_pid
        self.server.watcher.stimulus(CancelQuery(self.number, pid))
        other = self._connect()
        other.send_cancel(pid, self.client.cancel_key)
        other.receive_rest()
        other.close()

    def expect_rows(
        self, sql: str, rows: Sequence[Row] | None = None, within: float = deadlines.REACTION_LIMIT
    ) -> list[Row]:
        """Run a query again and again until its result is as wanted, and return the rows.

        Args:
            sql: the query.
            rows: the rows it must return; by default any, but at least one.
            within: the deadline in seconds.

        Raises:
            Expectation: the last result was another one.
            ServerError: the server answered with an error.
        """
        last: list[Row] = []

        def found() -> list[Row] | None:
            nonlocal last
            last = self.query(sql)
            return (last or None) if rows is None else (last if last == list(rows) else None)

        wanted = "rows" if rows is None else str(rows)
        if rows is not None and not rows:
            self.server.watcher.wait_for(
                f"no rows from {sql}",
                lambda: found() is not None,
                within,
                describe=lambda: str(last),
            )
            return last
        return self.server.watcher.wait_for(
            f"{wanted} from {sql}", found, within, describe=lambda: str(last)
        )

    def expect_answer(self, within: float = deadlines.REACTION_LIMIT) -> None:
        """Wait until there is a message to receive, or the end of the connection."""
        self.server.watcher.wait_for("an answer", lambda: not self.is_silent(), within)

    def expect_silence(self, for_s: float = deadlines.SETTLED) -> None:
        """For `for_s` seconds the server sends nothing, and the connection stays open."""
        self.server.watcher.expect_still("silence", self.is_silent, for_s)

    # The child that serves it.

    @property
    def pid(self) -> Pid:
        """The pid from BackendKeyData."""
        return self.backend_pid

    @property
    def backend_pid(self) -> Pid:
        """The pid from BackendKeyData."""
        if self.client.backend_pid is None:
            raise AssertionError("this client has received no BackendKeyData")
        return self.client.backend_pid

    @property
    def child(self) -> Child:
        """The child that serves this session."""
        if self.client.backend_pid is None and self.child_before_packet is not None:
            return self.child_before_packet
        return self.server.child_with_pid(self.backend_pid)

    @property
    def ending(self) -> Ending | None:
        """How the connection has ended; None while it is open."""
        return self.client.ending

    # Closing.

    def close(self, *, wait: bool = False) -> None:
        """Send Terminate, then close the connection.

        Args:
            wait: whether to wait until the backend has exited.
        """
        child = self.child if wait else None
        if self._open and self.outcome is Outcome.ADMITTED and self.ending is None:
            self.server.watcher.stimulus(Terminate(self.number))
            self.client.send_terminate()
            self._close_connection()
        else:
            self.disconnect()
        if child is not None:
            self.server.expect_death(child)

    def disconnect(self) -> None:
        """Close the connection without Terminate."""
        if self._open:
            if self.ending is None:
                self.server.watcher.stimulus(Disconnect(self.number))
            self._close_connection()

    def _close_connection(self) -> None:
        self._open = False
        self.client.close()

    # Recording.

    def _record(self, message: ServerMessage | None) -> None:
        answer = _ANSWERS[None if message is None else message.tag](self, message)
        if message is not None and message.tag is Tag.NOTICE:
            self.notices.append(message)
        if answer is not None:
            self.server.watcher.look(answer)

    def _failure(self, expected: str, observed: str) -> Expectation:
        self.server.watcher.look()
        return self.server.watcher.failure(expected, observed)

    def _how_it_ended(self) -> str:
        return self.ending.value if self.ending is not None else "still connected"


_Recorder = Callable[[Session, ServerMessage | None], Answer | None]


def _no_answer(session: Session, message: ServerMessage | None) -> Answer | None:
    return None


def _end(session: Session, message: ServerMessage | None) -> Answer | None:
    was_reset = session.ending is Ending.RESET
    return Answer(session.number, AnswerKind.RESET if was_reset else AnswerKind.END_OF_FILE)


def _ready(session: Session, message: ServerMessage | None) -> Answer | None:
    return Answer(
        session.number,
        AnswerKind.READY,
        backend_pid=session.client.backend_pid,
        transaction_status=session.client.transaction_status,
    )


def _complaint(session: Session, message: ServerMessage | None) -> Answer | None:
    assert message is not None
    return Answer(
        session.number,
        AnswerKind.ERROR if message.tag is Tag.ERROR else AnswerKind.WARNING,
        severity=message.severity,
        sqlstate=message.sqlstate,
        message=message.message,
        backend_pid=session.client.backend_pid,
    )


_ANSWERS: dict[Tag | None, _Recorder] = dict.fromkeys([None, *Tag], _no_answer)
_ANSWERS |= {None: _end, Tag.READY_FOR_QUERY: _ready, Tag.ERROR: _complaint, Tag.NOTICE: _complaint}
