"""A session without a process: a scripted client and a simulated clock.

Begin with converse(): it runs a session over a script, one event for each wait of the session.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from wire import parse_report, split

from pglife_impl.backend.greeting import greet
from pglife_impl.base.ids import Pid
from pglife_impl.base.kinds import Kind
from pglife_impl.config.guc import Gucs
from pglife_impl.data_directory.catalog import Catalog, DatabaseDef, RoleDef
from pglife_impl.protocol import Report
from pglife_impl.protocol.frontend import Query, encode
from pglife_impl.session.context import ClientGone, InterruptFlags, Wake
from pglife_impl.session.protocol.loop import Session
from pglife_impl.shmem.segment import Activity

EPOCH = 1_700_000_000.0
OWN_PID = Pid(4711)
OTHER_PID = Pid(4712)


@dataclass(frozen=True)
class Happens:
    """An event `after_s` seconds into a wait of the session."""

    act: Callable[[FakeContext], None]
    after_s: float = 0.0


@dataclass(frozen=True)
class Sends:
    """The client sends bytes when the session waits for them."""

    data: bytes


def sql(text: str) -> Sends:
    """The client sends a simple query."""
    return Sends(encode(Query(text)))


def cancel(context: FakeContext) -> None:
    """SIGINT."""
    context.interrupts.cancel = True


def die(context: FakeContext) -> None:
    """SIGTERM."""
    context.interrupts.die = True


def postmaster_dies(context: FakeContext) -> None:
    """The death pipe becomes readable."""
    context.postmaster_alive = False


def client_vanishes(context: FakeContext) -> None:
    """The client hangs up."""
    context.connected = False


def row(pid: int, kind: Kind, **fields: Any) -> Activity:
    """One row of shared memory."""
    known: dict[str, Any] = {
        "user": "",
        "database": "",
        "application_name": "",
        "client": "",
        "client_port": -1,
        "state": "",
        "query": "",
        "backend_start": EPOCH,
        "xact_start": 0.0,
        "query_start": 0.0,
        "state_change": 0.0,
        "superuser": False,
    }
    return Activity(pid=Pid(pid), kind=kind, **{**known, **fields})


class FakeCatalog(Catalog):
    """Roles and databases without a file."""

    def __init__(self) -> None:
        super().__init__("")
        self.roles = {
            "postgres": RoleDef(10, "postgres", superuser=True, login=True),
            "bob": RoleDef(16384, "bob", login=True),
            "pg_signal_backend": RoleDef(4200, "pg_signal_backend"),
        }
        self.databases = {"postgres": DatabaseDef(5, "postgres", "postgres")}

    def refresh(self) -> None:
        """No other process changes it."""

    @contextmanager
    def _changing(self) -> Iterator[None]:
        yield


@dataclass
class FakeContext:
    """A SessionContext and Client without a process, driven by a script."""

    script: deque[Sends | Happens] = field(default_factory=deque)
    user: str = "postgres"
    superuser: bool = True
    parameters: dict[str, str] = field(default_factory=dict)
    pid: Pid = OWN_PID
    database: str = "postgres"
    cancel_key: bytes = b"\1\2\3\4"
    start_time: float = EPOCH
    connected: bool = True
    postmaster_alive: bool = True
    can_send: bool = True
    in_recovery: bool = False

    def __post_init__(self) -> None:
        self.clock = EPOCH
        self.gucs = Gucs()
        self.catalog: Catalog = FakeCatalog()
        self.client = self  # one object plays the process and its connection
        self.columns: dict[str, Any] = {}
        self.others: list[Activity] = []
        self.interrupts = InterruptFlags()
        self.sent = b""
        self.titles: list[str] = []
        self.states: list[str] = []
        self.logged: list[tuple[Report, str]] = []
        self.signals: list[tuple[int, int]] = []
        self.living: set[int] = {OTHER_PID}
        self.conf_load_time = self.start_time
        self.checkpoints = 0
        self._inbox = b""

    def now(self) -> float:
        """Simulated time, which passes only while the session waits."""
        return self.clock

    def wait(self, timeout_s: float | None, *, readable: bool) -> Wake:
        """Let the next event of the script happen, or the timeout pass."""
        if not self.postmaster_alive:
            return Wake.POSTMASTER_DEATH
        event = self.script[0] if self.script else None
        if isinstance(event, Sends) and readable:
            self.script.popleft()
            self._inbox += event.data
            return Wake.READABLE
        if isinstance(event, Happens) and (timeout_s is None or event.after_s <= timeout_s):
            self.script.popleft()
            self.clock += event.after_s
            event.act(self)
            return Wake.LATCH if self.postmaster_alive else Wake.POSTMASTER_DEATH
        if event is None and readable:
            self.connected = False  # the end of the script: the client hangs up
            return Wake.READABLE
        assert timeout_s is not None
        self.clock += timeout_s
        return Wake.TIMEOUT

    def receive(self) -> bytes | None:
        """Return what the script has sent so far."""
        data, self._inbox = self._inbox, b""
        if data:
            return data
        return None if self.connected else b""

    def send(self, data: bytes) -> None:
        """Record it."""
        if not self.can_send:
            raise ClientGone("could not send data to client: Broken pipe")
        self.sent += data

    def flush(self) -> None:
        """There is no buffer."""

    def has_gone(self) -> bool:
        """Return whether the script made the client hang up."""
        return not self.connected

    def set_activity(self, text: str) -> None:
        """Record the title."""
        self.titles.append(text)

    def report(self, **columns: Any) -> None:
        """Record the row."""
        self.columns |= columns
        if "state" in columns:
            self.states.append(columns["state"])

    def log(self, report: Report, statement: str = "") -> None:
        """Record the line."""
        self.logged.append((report, statement))

    def activities(self) -> list[Activity]:
        """The session's own row and those of `others`."""
        mine = row(
            self.pid,
            Kind.BACKEND,
            user=self.user,
            database=self.database,
            superuser=self.superuser,
            **self.columns,
        )
        return [mine, *self.others]

    def activity_of(self, pid: Pid) -> Activity | None:
        """The row of a process."""
        return next((each for each in self.activities() if each.pid == pid), None)

    def signal_backend(self, pid: Pid, signum: int) -> bool:
        """Record the signal; only pids in `living` exist."""
        if signum:
            self.signals.append((pid, signum))
        return pid in self.living

    def request_reload(self) -> bool:
        """SIGHUP to the postmaster."""
        return True

    def request_log_rotation(self) -> None:
        """Nothing to rotate."""

    def reload(self) -> None:
        """Serve the reload."""
        self.interrupts.reload = False
        self.conf_load_time = self.clock

    def request_checkpoint(self) -> None:
        """Count it; it is done at once."""
        self.checkpoints += 1


@dataclass
class Conversation:
    """The end of a session and everything it sent."""

    context: FakeContext
    session: Session
    code: int
    messages: list[tuple[str, bytes]]

    @property
    def letters(self) -> str:
        """The types of the messages, one letter each."""
        return "".join(code for code, _ in self.messages)

    @property
    def reports(self) -> list[tuple[str, str, str]]:
        """Severity, SQLSTATE and text of errors and notices."""
        found = [parse_report(body) for code, body in self.messages if code in "EN"]
        return [(report.severity, report.sqlstate, report.message) for report in found]

    @property
    def rows(self) -> list[tuple[str | None, ...]]:
        """All data rows, as text."""
        return [_cells(body) for code, body in self.messages if code == "D"]

    @property
    def tags(self) -> list[str]:
        """All command tags."""
        return [body[:-1].decode() for code, body in self.messages if code == "C"]

    @property
    def status(self) -> str:
        """The bytes of all ReadyForQuery."""
        return "".join(body.decode() for code, body in self.messages if code == "Z")


def _cells(body: bytes) -> tuple[str | None, ...]:
    cells: list[str | None] = []
    at = 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        length = struct.unpack_from("!i", body, at)[0]
        at += 4
        cells.append(None if length < 0 else body[at : at + length].decode())
        at += max(length, 0)
    return tuple(cells)


def converse(*events: Sends | Happens | str, context: FakeContext | None = None) -> Conversation:
    """Run a session over a script, then disconnect; a plain string is a query."""
    context = context or FakeContext()
    context.script.extend(sql(each) if isinstance(each, str) else each for each in events)
    greet(context)
    session = Session(context, clock=context.now)
    code = session.run()
    return Conversation(context, session, code, split(context.sent))
