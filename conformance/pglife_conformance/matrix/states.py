"""The states of the postmaster that can be held, and how each is entered. Begin with STATES.

Source: rules OB-01 to OB-14; RC-20 for the processes of each state.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from signal import SIGINT, SIGQUIT, SIGTERM, SIGUSR2, Signals

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.events import FAST, SMART, ShutdownMode
from pglife_conformance.hold.frozen import expect_all_idle
from pglife_conformance.hold.pin import (
    Pin,
    pin_wait_backends,
    pin_wait_backends_after_crash,
    pin_wait_checkpointer,
    pin_wait_dead_end,
    pin_wait_dead_end_after_crash,
    pin_wait_io_workers,
    pin_wait_xlog_shutdown,
)
from pglife_conformance.hold.startup_barrier import pin_startup_after_crash, pin_startup_at_birth
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_spec import PM

IO_WORKERS = 2


class ShutdownLevel(IntEnum):
    """The strongest request so far (SV-01)."""

    NONE = 0
    SMART = 1
    FAST = 2
    IMMEDIATE = 3

    @property
    def mode(self) -> ShutdownMode:
        """The request for it."""
        return ShutdownMode[self.name]


@dataclass
class HeldState:
    """A cluster in a state, and its clients."""

    cluster: Cluster
    unknown: Kind = Kind.DEAD_END
    """The kind of a child that has set no title."""
    sessions: list[Session] = field(default_factory=list)

    def kind_of(self, child: Child) -> Kind:
        """The kind of this child."""
        return self.unknown if child.kind is Kind.UNKNOWN else child.kind

    def children(self) -> Counter[Kind]:
        """How many children of each kind exist now."""
        return Counter(self.kind_of(child) for child in self.cluster.children())


Enter = Callable[[Cluster], contextlib.AbstractContextManager[HeldState]]


@dataclass(frozen=True)
class State:
    """A state by the rules, and how it is entered."""

    name: str
    pm: PM
    enter: Enter
    children: frozenset[Kind]
    shutdown: ShutdownLevel = ShutdownLevel.NONE
    fatal: bool = False
    control: ControlState = ControlState.IN_PRODUCTION
    io_workers: int = IO_WORKERS
    settings: dict[str, str] = field(default_factory=dict)
    needs: tuple[Need, ...] = ()
    since: int = 0
    gone_in_17: frozenset[Kind] = frozenset()
    rules: tuple[str, ...] = ()
    pending: dict[Kind, Signals] = field(default_factory=dict)
    """The signals that are pending for the stopped children that hold the state."""
    pending_17: dict[Kind, Signals] | None = None
    """The same before 18, where it differs."""
    starts_running: bool = True
    is_standby: bool = False

    def __str__(self) -> str:
        return self.name

    def pending_before(self, major: int) -> dict[Kind, Signals]:
        """The pending signals by kind, on entry."""
        return self.pending if major >= 18 or self.pending_17 is None else self.pending_17

    def children_on_entry(self, major: int) -> Counter[Kind]:
        """How many children of each kind there are."""
        children = Counter(dict.fromkeys(self.children, 1))
        if major < 18:
            children -= Counter(dict.fromkeys({Kind.IO_WORKER, *self.gone_in_17}, 1))
        elif Kind.IO_WORKER in self.children:
            children[Kind.IO_WORKER] = self.io_workers
        return children


def cluster_settings(state: State, major: int) -> dict[str, object]:
    """The settings of its cluster."""
    own: dict[str, object] = {"io_workers": IO_WORKERS} if major >= 18 else {}
    return own | state.settings


# How a state is entered.


@contextlib.contextmanager
def _no_client(cluster: Cluster) -> Iterator[HeldState]:
    yield HeldState(cluster)


@contextlib.contextmanager
def _connected(cluster: Cluster) -> Iterator[HeldState]:
    sessions = [cluster.session(), cluster.silent_client()]
    yield HeldState(cluster, Kind.UNAUTHENTICATED, sessions)


@contextlib.contextmanager
def _smart_pending(cluster: Cluster) -> Iterator[HeldState]:
    session = cluster.session()
    cluster.request_shutdown(SMART, logged=True)
    yield HeldState(cluster, Kind.DEAD_END, [session, cluster.silent_client()])


def _pinned(pin: Callable[[Cluster], contextlib.AbstractContextManager[Pin]]) -> Enter:
    @contextlib.contextmanager
    def enter(cluster: Cluster) -> Iterator[HeldState]:
        expect_all_idle(cluster, cluster.children())
        with pin(cluster):
            yield HeldState(cluster, Kind.DEAD_END, [cluster.silent_client()])

    return enter


def _pinned_by_dead_end(pin: Callable[[Cluster], contextlib.AbstractContextManager[Pin]]) -> Enter:
    @contextlib.contextmanager
    def enter(cluster: Cluster) -> Iterator[HeldState]:
        expect_all_idle(cluster, cluster.children())
        with pin(cluster):
            yield HeldState(cluster, Kind.DEAD_END)

    return enter


@contextlib.contextmanager
def _wait_backends_by_smart(cluster: Cluster) -> Iterator[Pin]:
    """WAIT_BACKENDS of a smart shutdown without sessions, held by the background writer."""
    with Pin(cluster, Kind.BACKGROUND_WRITER) as pin:
        cluster.request_shutdown(SMART)
        cluster.wait_for(
            "the exit of the walwriter and the launchers",
            lambda: (
                not any(
                    cluster.children(kind)
                    for kind in (
                        Kind.WALWRITER,
                        Kind.AUTOVACUUM_LAUNCHER,
                        Kind.LOGICAL_REPLICATION_LAUNCHER,
                    )
                )
            ),
        )
        yield pin


@contextlib.contextmanager
def _wait_xlog_archival(cluster: Cluster) -> Iterator[Pin]:
    """OB-09, but with the archiver itself stopped."""
    with Pin(cluster, Kind.ARCHIVER) as pin:
        cluster.request_shutdown(FAST)
        if cluster.target.version.major >= 18:
            cluster.expect_pmstate("PM_WAIT_XLOG_ARCHIVAL", deadlines.SHUTDOWN_LIMIT)
        else:
            cluster.wait_for(
                "the exit of the checkpointer",
                lambda: not cluster.children(Kind.CHECKPOINTER),
                deadlines.SHUTDOWN_LIMIT,
            )
        yield pin


@contextlib.contextmanager
def _recovery(cluster: Cluster) -> Iterator[HeldState]:
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.wait_for(
        "the pid file to say `standby`",
        lambda: _pid_file_line_8(cluster) == "standby ",
        deadlines.START_LIMIT,
    )
    yield HeldState(cluster, Kind.DEAD_END, [cluster.silent_client()])


@contextlib.contextmanager
def _hot_standby(cluster: Cluster) -> Iterator[HeldState]:
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(
        "^database system is ready to accept read-only connections$", within=deadlines.START_LIMIT
    )
    yield HeldState(cluster, Kind.UNAUTHENTICATED, [cluster.session(), cluster.silent_client()])


def _pid_file_line_8(cluster: Cluster) -> str:
    pid_file = cluster.pid_file()
    return pid_file.lines[7] if pid_file is not None and len(pid_file.lines) > 7 else ""


# The table.

_HELPERS = frozenset(
    {
        Kind.CHECKPOINTER,
        Kind.BACKGROUND_WRITER,
        Kind.WALWRITER,
        Kind.AUTOVACUUM_LAUNCHER,
        Kind.LOGICAL_REPLICATION_LAUNCHER,
        Kind.IO_WORKER,
    }
)
_EARLY = frozenset(
    {Kind.STARTUP, Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.IO_WORKER, Kind.DEAD_END}
)
_LATE = frozenset({Kind.CHECKPOINTER, Kind.IO_WORKER, Kind.DEAD_END})
_DEAD_END = frozenset({Kind.DEAD_END})
_AS_AT_INITDB = {"max_connections": "100"}
"""RC-07: what a standby needs at least."""

STARTUP = State(
    "STARTUP",
    PM.PM_STARTUP,
    _pinned(pin_startup_at_birth),
    _EARLY,
    control=ControlState.SHUT_DOWN,
    rules=("OB-01", "CR-38"),
    starts_running=False,
)
STARTUP_CRASH = State(
    "STARTUP_after_crash",
    PM.PM_STARTUP,
    _pinned(pin_startup_after_crash),
    _EARLY,
    fatal=True,
    rules=("OB-02", "MM-01"),
)
RECOVERY = State(
    "RECOVERY",
    PM.PM_RECOVERY,
    _recovery,
    _EARLY,
    control=ControlState.IN_ARCHIVE_RECOVERY,
    settings={"hot_standby": "off"} | _AS_AT_INITDB,
    needs=(Need.STANDBY,),
    rules=("OB-03", "RC-06"),
    starts_running=False,
    is_standby=True,
)
HOT_STANDBY = State(
    "HOT_STANDBY",
    PM.PM_HOT_STANDBY,
    _hot_standby,
    frozenset({*_EARLY - _DEAD_END, Kind.CLIENT_BACKEND, Kind.UNAUTHENTICATED}),
    control=ControlState.IN_ARCHIVE_RECOVERY,
    settings=_AS_AT_INITDB,
    needs=(Need.STANDBY,),
    rules=("OB-04",),
    starts_running=False,
    is_standby=True,
)
RUN = State("RUN", PM.PM_RUN, _connected, _HELPERS | {Kind.CLIENT_BACKEND, Kind.UNAUTHENTICATED})
RUN_ALONE = State("RUN_no_client", PM.PM_RUN, _no_client, _HELPERS)
RUN_SMART = State(
    "RUN_smart",
    PM.PM_RUN,
    _smart_pending,
    _HELPERS | {Kind.CLIENT_BACKEND, Kind.DEAD_END},
    shutdown=ShutdownLevel.SMART,
    rules=("OB-05", "SM-22"),
)
WAIT_BACKENDS = State(
    "WAIT_BACKENDS",
    PM.PM_WAIT_BACKENDS,
    _pinned(pin_wait_backends),
    _LATE | {Kind.CLIENT_BACKEND},
    shutdown=ShutdownLevel.FAST,
    pending={Kind.CLIENT_BACKEND: SIGTERM},
    rules=("OB-06", "CR-31"),
)
WAIT_BACKENDS_SMART = State(
    "WAIT_BACKENDS_smart",
    PM.PM_WAIT_BACKENDS,
    _pinned(_wait_backends_by_smart),
    _LATE | {Kind.BACKGROUND_WRITER},
    shutdown=ShutdownLevel.SMART,
    pending={Kind.BACKGROUND_WRITER: SIGTERM},
    rules=("SH-08", "MM-22"),
)
WAIT_BACKENDS_CRASH = State(
    "WAIT_BACKENDS_crash",
    PM.PM_WAIT_BACKENDS,
    _pinned(pin_wait_backends_after_crash),
    frozenset({Kind.CLIENT_BACKEND, Kind.DEAD_END}),
    fatal=True,
    pending={Kind.CLIENT_BACKEND: SIGQUIT},
    rules=("OB-07", "CR-03", "CR-36", "CR-37"),
)
WAIT_XLOG_SHUTDOWN = State(
    "WAIT_XLOG_SHUTDOWN",
    PM.PM_WAIT_XLOG_SHUTDOWN,
    _pinned(pin_wait_xlog_shutdown),
    _LATE,
    shutdown=ShutdownLevel.FAST,
    pending={Kind.CHECKPOINTER: SIGINT},
    pending_17={Kind.CHECKPOINTER: SIGUSR2},
    rules=("OB-08", "CR-32"),
)
WAIT_XLOG_ARCHIVAL = State(
    "WAIT_XLOG_ARCHIVAL",
    PM.PM_WAIT_XLOG_ARCHIVAL,
    _pinned(_wait_xlog_archival),
    _LATE | {Kind.ARCHIVER},
    shutdown=ShutdownLevel.FAST,
    control=ControlState.SHUT_DOWN,
    settings={"archive_mode": "on", "archive_command": "true"},
    needs=(Need.ARCHIVER,),
    gone_in_17=frozenset({Kind.CHECKPOINTER}),
    pending={Kind.ARCHIVER: SIGUSR2},
    rules=("OB-09", "CR-33", "SH-14"),
)
WAIT_IO_WORKERS = State(
    "WAIT_IO_WORKERS",
    PM.PM_WAIT_IO_WORKERS,
    _pinned(pin_wait_io_workers),
    _LATE,
    shutdown=ShutdownLevel.FAST,
    control=ControlState.SHUT_DOWN,
    io_workers=1,
    needs=(Need.IO_WORKERS,),
    since=18,
    pending={Kind.IO_WORKER: SIGUSR2},
    rules=("OB-10", "CR-34"),
)
WAIT_CHECKPOINTER = State(
    "WAIT_CHECKPOINTER",
    PM.PM_WAIT_CHECKPOINTER,
    _pinned(pin_wait_checkpointer),
    frozenset({Kind.CHECKPOINTER, Kind.DEAD_END}),
    shutdown=ShutdownLevel.FAST,
    control=ControlState.SHUT_DOWN,
    needs=(Need.IO_WORKERS,),
    since=18,
    pending={Kind.CHECKPOINTER: SIGUSR2},
    rules=("OB-11", "CR-34"),
)
WAIT_DEAD_END = State(
    "WAIT_DEAD_END",
    PM.PM_WAIT_DEAD_END,
    _pinned_by_dead_end(pin_wait_dead_end),
    _DEAD_END,
    shutdown=ShutdownLevel.FAST,
    control=ControlState.SHUT_DOWN,
    pending={Kind.DEAD_END: SIGTERM},
    pending_17={},
    rules=("OB-12", "CR-35", "SE-33"),
)
WAIT_DEAD_END_CRASH = State(
    "WAIT_DEAD_END_crash",
    PM.PM_WAIT_DEAD_END,
    _pinned_by_dead_end(pin_wait_dead_end_after_crash),
    _DEAD_END,
    fatal=True,
    pending={Kind.DEAD_END: SIGQUIT},
    pending_17={},
    rules=("OB-12", "CR-36", "SE-33"),
)

STATES = (
    STARTUP,
    STARTUP_CRASH,
    RECOVERY,
    HOT_STANDBY,
    RUN,
    RUN_ALONE,
    RUN_SMART,
    WAIT_BACKENDS,
    WAIT_BACKENDS_SMART,
    WAIT_BACKENDS_CRASH,
    WAIT_XLOG_SHUTDOWN,
    WAIT_XLOG_ARCHIVAL,
    WAIT_IO_WORKERS,
    WAIT_CHECKPOINTER,
    WAIT_DEAD_END,
    WAIT_DEAD_END_CRASH,
)
