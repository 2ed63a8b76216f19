"""Random lives of the postmaster: invariants that hold after every event."""

import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pm_table import CLIENT, NOW, Driver, exit_of

from pglife_impl.base.ids import Pid
from pglife_impl.base.kinds import ALL_BUT_LOGGER, MAX_IO_WORKERS, Kind
from pglife_impl.base.pmsignal import PmSignal
from pglife_impl.postmaster.events import (
    ConnectionArrived,
    Event,
    Initialized,
    IterationEnded,
    PmSignalsSeen,
    ReapingDone,
    ReloadRequested,
    ShutdownRequested,
)
from pglife_impl.postmaster.requests import Exit, Log, SignalChild
from pglife_impl.postmaster.state import PM, Config, PmState, Shutdown, StartupStatus

CONFIG = Config(
    max_connections=2, max_wal_senders=0, max_worker_processes=1, logging_collector=True
)
SLOTS = sum(len(slots) for slots in PmState(CONFIG).free_slots.values())
STATUSES = [0, 1 << 8, 2 << 8, 3 << 8, int(signal.SIGKILL)]


class PostmasterLife(RuleBasedStateMachine):
    """Any event may happen at any time; exit 3 is the startup process's only."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.driver = Driver(PmState(CONFIG), CONFIG).handle(Initialized())
        self.strongest = Shutdown.NO
        self.signalled: dict[Pid, set[int]] = {}  # every signal that was sent to a child

    def handle(self, *events: Event) -> None:
        self.driver.requests.clear()
        self.driver.handle(*events, now=self.now)
        self.note_signals()

    def note_signals(self) -> None:
        for request in self.driver.of(SignalChild):
            self.signalled.setdefault(request.pid, set()).add(request.signum)

    @property
    def over(self) -> bool:
        return bool(self.driver.of(Exit))

    @precondition(lambda self: not self.over)
    @rule(mode=st.sampled_from([Shutdown.SMART, Shutdown.FAST, Shutdown.IMMEDIATE]))
    def request(self, mode: Shutdown) -> None:
        self.strongest = max(self.strongest, mode)
        self.handle(ShutdownRequested(mode))

    @precondition(lambda self: not self.over)
    @rule()
    def reload(self) -> None:
        self.handle(ReloadRequested())

    @precondition(lambda self: not self.over and self.driver.pm.listening)
    @rule()
    def connect(self) -> None:
        self.handle(ConnectionArrived(CLIENT))

    @precondition(lambda self: not self.over)
    @rule(reason=st.sampled_from(list(PmSignal)))
    def raise_flag(self, reason: PmSignal) -> None:
        self.handle(PmSignalsSeen(frozenset({reason}), False, False))

    @precondition(lambda self: not self.over)
    @rule(seconds=st.sampled_from([0.0, 1.0, 6.0]), fails=st.booleans())
    def iterate(self, seconds: float, fails: bool) -> None:
        self.now += seconds
        self.driver.failing = set(Kind) - {Kind.STARTUP} if fails else set()
        self.handle(IterationEnded())
        self.driver.failing = set()

    @precondition(lambda self: not self.over and self.driver.pm.children)
    @rule(data=st.data())
    def reap(self, data: st.DataObject) -> None:
        pids = sorted(self.driver.pm.children)
        exits = data.draw(st.lists(st.sampled_from(pids), min_size=1, max_size=3, unique=True))
        self.driver.failing = {Kind.CHECKPOINTER} if data.draw(st.booleans()) else set()
        events: list[Event] = []
        for pid in exits:
            child = self.driver.pm.children[pid]
            allowed = (
                STATUSES if child.kind is Kind.STARTUP else [s for s in STATUSES if s != 3 << 8]
            )
            status = data.draw(st.sampled_from(allowed))
            events.append(exit_of(child, status, detached=data.draw(st.booleans())))
        self.handle(*events, ReapingDone())
        self.driver.failing = set()

    @precondition(lambda self: self.over)
    @rule()
    def idle(self) -> None:
        """The postmaster has exited; Hypothesis needs a rule that may run."""

    # --- invariants -----------------------------------------------------------------------

    @invariant()
    def shutdown_never_goes_down(self) -> None:
        """INV-01; exit 3 of the startup process is a request too."""
        assert self.driver.pm.shutdown >= self.strongest
        self.strongest = self.driver.pm.shutdown

    @invariant()
    def transient_states_are_left(self) -> None:
        """INV-02."""
        if not self.over:
            assert self.driver.pm.state not in (PM.STOP_BACKENDS, PM.NO_CHILDREN)

    @invariant()
    def open_states_are_sound(self) -> None:
        """INV-04, INV-08, INV-11, INV-15."""
        pm = self.driver.pm
        if pm.state in (PM.RUN, PM.HOT_STANDBY):
            assert not pm.fatal_error
            assert pm.shutdown <= Shutdown.SMART
            assert pm.conns_allowed == (pm.shutdown is Shutdown.NO)
        if pm.state is PM.RUN:
            assert not pm.pid_of(Kind.STARTUP)

    @invariant()
    def the_sigkill_timeout_runs_only_while_children_quit(self) -> None:
        """INV-07."""
        pm = self.driver.pm
        if pm.abort_start_time:
            assert pm.fatal_error or pm.shutdown is Shutdown.IMMEDIATE

    @invariant()
    def startup_status_agrees_with_the_startup_process(self) -> None:
        """INV-13, INV-14."""
        pm = self.driver.pm
        known = pm.startup_status in (StartupStatus.RUNNING, StartupStatus.SIGNALED)
        assert known == bool(pm.pid_of(Kind.STARTUP))
        if pm.state in (PM.STARTUP, PM.RECOVERY, PM.HOT_STANDBY):
            assert known

    @invariant()
    def late_states_have_few_children(self) -> None:
        """INV-35, INV-36, INV-37; after a crash WAIT_DEAD_END waits for all kinds."""
        pm = self.driver.pm
        if pm.fatal_error or pm.shutdown is Shutdown.IMMEDIATE:
            return
        allowed = set(Kind)
        if pm.state >= PM.WAIT_XLOG_SHUTDOWN:
            allowed = {Kind.CHECKPOINTER, Kind.IO_WORKER, Kind.DEAD_END_BACKEND, Kind.LOGGER}
        if pm.state >= PM.WAIT_CHECKPOINTER:
            allowed -= {Kind.IO_WORKER}
        if pm.state >= PM.WAIT_DEAD_END:
            allowed -= {Kind.CHECKPOINTER}
        assert {child.kind for child in pm.children.values()} <= allowed

    @invariant()
    def slots_are_neither_lost_nor_doubled(self) -> None:
        """INV-18."""
        pm = self.driver.pm
        free = [slot for pool in pm.free_slots.values() for slot in pool]
        taken = [child.slot for child in pm.children.values() if child.slot is not None]
        assert sorted(free + taken) == list(range(1, SLOTS + 1))

    @invariant()
    def every_io_worker_is_counted_once(self) -> None:
        """INV-17."""
        pm = self.driver.pm
        recorded = {c.pid for c in pm.children.values() if c.kind is Kind.IO_WORKER}
        assert recorded == {pid for pid in pm.io_worker_children if pid is not None}
        assert len(pm.io_worker_children) == MAX_IO_WORKERS

    @invariant()
    def wait_backends_has_children_to_wait_for(self) -> None:
        """MM-02, MM-37: the state is left as soon as only the logger remains."""
        pm = self.driver.pm
        if pm.state is PM.WAIT_BACKENDS and not self.over:
            assert pm.count_children(ALL_BUT_LOGGER) > 0

    @invariant()
    def sigkill_only_while_children_quit(self) -> None:
        """INV-23."""
        killed = [r for r in self.driver.of(SignalChild) if r.signum == signal.SIGKILL]
        pm = self.driver.pm
        if killed:
            assert pm.fatal_error or pm.shutdown is Shutdown.IMMEDIATE

    @invariant()
    def every_step_is_logged(self) -> None:
        """PM-01: the last `updating PMState` line names the present state."""
        steps = [r for r in self.driver.of(Log) if r.message.startswith("updating PMState")]
        if steps:
            assert steps[-1].message.endswith(f" to {self.driver.pm.state}")


PostmasterLife.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPostmasterLife = PostmasterLife.TestCase


@pytest.mark.parametrize("mode", [Shutdown.FAST, Shutdown.IMMEDIATE])
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_every_shutdown_ends_if_children_obey_their_signals(
    mode: Shutdown, data: st.DataObject
) -> None:
    """INV-90, INV-91: after any random life, a request ends the postmaster if every child exits
    that has been sent a signal it obeys, SIGKILL included."""
    life = PostmasterLife()
    for _ in range(data.draw(st.integers(0, 12))):
        choice = data.draw(st.sampled_from(["reap", "iterate", "connect", "flag"]))
        if life.over:
            return
        if choice == "reap" and life.driver.pm.children:
            life.reap(data)
        elif choice == "connect" and life.driver.pm.listening:
            life.connect()
        elif choice == "flag":
            life.raise_flag(data.draw(st.sampled_from([PmSignal.RECOVERY_STARTED])))
        elif choice == "iterate":
            life.iterate(0.0, data.draw(st.booleans()))
    if life.over:
        return
    driver = life.driver
    life.handle(ShutdownRequested(mode))
    for _ in range(60):
        obey(driver, life)
        if life.over:
            return
    raise AssertionError(f"still in {driver.pm.state} with {driver.pm.children}")


OBEYED = {
    Kind.CHECKPOINTER: {signal.SIGQUIT, signal.SIGUSR2, signal.SIGKILL},
    Kind.IO_WORKER: {signal.SIGQUIT, signal.SIGUSR2, signal.SIGKILL},
}
USUAL = {signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL}
EXITS = {signal.SIGTERM: 0, signal.SIGUSR2: 0, signal.SIGQUIT: 2 << 8, signal.SIGKILL: 9}


def obey(driver: Driver, life: PostmasterLife) -> None:
    """One round: every child does what the signals sent so far ask for."""
    life.note_signals()
    requests = list(driver.requests)
    driver.requests.clear()
    if any(isinstance(r, Exit) for r in requests):
        driver.requests.extend(requests)
        return
    for pid, child in list(driver.pm.children.items()):
        received = life.signalled.get(pid, set())
        if child.kind is Kind.CHECKPOINTER and signal.SIGINT in received:
            received.discard(signal.SIGINT)
            flags = frozenset({PmSignal.XLOG_IS_SHUTDOWN})
            driver.handle(PmSignalsSeen(flags, False, False), now=life.now)
        stops = received & OBEYED.get(child.kind, USUAL)
        if child.kind is Kind.LOGGER or not stops:
            continue
        signum = max(stops, key=lambda s: EXITS[s])
        status = EXITS[signum]
        if child.kind in (Kind.STARTUP, Kind.BG_WORKER) and signum == signal.SIGTERM:
            status = 1 << 8
        driver.handle(exit_of(child, status), now=life.now)
    if not life.over:
        driver.handle(ReapingDone(), now=life.now)
    if not life.over:
        life.now += 1.0
        driver.handle(IterationEnded(), now=life.now)


def test_the_same_events_give_the_same_state() -> None:
    """decide() depends on nothing but its arguments."""
    states = []
    for _ in range(2):
        driver = Driver(PmState(CONFIG), CONFIG).handle(
            Initialized(), IterationEnded(), ConnectionArrived(CLIENT)
        )
        states.append(driver.pm)
    assert states[0] == states[1]
