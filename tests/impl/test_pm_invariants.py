"""Random lives of the postmaster: what must hold after every event (section 11 of the rules)."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pm_table import NOW, Story

from pglife_impl.base.kinds import ALL_BUT_LOGGER, MAX_IO_WORKERS, Kind
from pglife_impl.base.pmsignal import PmSignal
from pglife_impl.postmaster.events import (
    Born,
    ChildExited,
    ConnectionArrived,
    Event,
    Exit,
    Log,
    PmSignalsSeen,
    ReapingDone,
    ReloadRequested,
    ShutdownRequested,
    SignalChild,
    TurnEnded,
)
from pglife_impl.postmaster.state import PM, Config, Shutdown, StartupStatus, newborn, slot_count

CONFIG = Config(
    max_connections=2, max_wal_senders=0, max_worker_processes=1, logging_collector=True
)
STATUSES = [0, 1 << 8, 2 << 8, 3 << 8, int(signal.SIGKILL)]


class PostmasterLife(RuleBasedStateMachine):
    """Anything may happen at any time; only what a kind of child can do is kept apart."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.story = Story(newborn(CONFIG), CONFIG).tell(Born())
        self.strongest = Shutdown.NO
        self.told: dict[int, set[int]] = {}  # every signal that a child was ever sent

    def tell(self, *events: Event) -> None:
        self.story.requests.clear()
        self.story.tell(*events)
        self.note_signals()

    def note_signals(self) -> None:
        for request in self.story.of(SignalChild):
            self.told.setdefault(request.pid, set()).add(request.signum)

    @property
    def over(self) -> bool:
        return bool(self.story.of(Exit))

    @precondition(lambda self: not self.over)
    @rule(level=st.sampled_from([Shutdown.SMART, Shutdown.FAST, Shutdown.IMMEDIATE]))
    def request(self, level: Shutdown) -> None:
        self.strongest = max(self.strongest, level)
        self.tell(ShutdownRequested(level, self.now))

    @precondition(lambda self: not self.over)
    @rule()
    def reload(self) -> None:
        self.tell(ReloadRequested())

    @precondition(lambda self: not self.over and self.story.pm.listening)
    @rule()
    def connect(self) -> None:
        self.tell(ConnectionArrived())

    @precondition(lambda self: not self.over)
    @rule(reason=st.sampled_from(list(PmSignal)))
    def raise_flag(self, reason: PmSignal) -> None:
        self.tell(PmSignalsSeen(frozenset({reason}), False, False, self.now))

    @precondition(lambda self: not self.over)
    @rule(seconds=st.sampled_from([0.0, 1.0, 6.0]), fails=st.booleans())
    def turn(self, seconds: float, fails: bool) -> None:
        self.now += seconds
        self.story.failing = set(Kind) - {Kind.STARTUP} if fails else set()
        self.tell(TurnEnded(self.now))
        self.story.failing = set()

    @precondition(lambda self: not self.over and self.story.pm.children)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        pids = sorted(self.story.pm.children)
        deaths = data.draw(st.lists(st.sampled_from(pids), min_size=1, max_size=3, unique=True))
        self.story.failing = {Kind.CHECKPOINTER} if data.draw(st.booleans()) else set()
        events: list[Event] = []
        for pid in deaths:
            kind = self.story.pm.children[pid].kind
            allowed = STATUSES if kind is Kind.STARTUP else [s for s in STATUSES if s != 3 << 8]
            status = data.draw(st.sampled_from(allowed))
            clean = data.draw(st.booleans())
            events.append(ChildExited(pid, status, clean, self.now))
        self.tell(*events, ReapingDone(self.now))
        self.story.failing = set()

    @precondition(lambda self: self.over)
    @rule()
    def rest(self) -> None:
        """It has ended; a machine must always have a rule that may run."""

    # --- what must hold ---------------------------------------------------------------------

    @invariant()
    def shutdown_never_goes_down(self) -> None:
        """INV-01; exit 3 of the startup process raises it by itself."""
        assert self.story.pm.shutdown >= self.strongest
        self.strongest = self.story.pm.shutdown

    @invariant()
    def transient_states_are_left(self) -> None:
        """INV-02."""
        if not self.over:
            assert self.story.pm.state not in (PM.STOP_BACKENDS, PM.NO_CHILDREN)

    @invariant()
    def open_states_are_sound(self) -> None:
        """INV-04, INV-08, INV-11, INV-15."""
        pm = self.story.pm
        if pm.state in (PM.RUN, PM.HOT_STANDBY):
            assert not pm.fatal_error
            assert pm.shutdown <= Shutdown.SMART
            assert pm.conns_allowed == (pm.shutdown is Shutdown.NO)
        if pm.state is PM.RUN:
            assert not pm.pid_of(Kind.STARTUP)

    @invariant()
    def a_clock_runs_only_for_the_dying(self) -> None:
        """INV-07."""
        pm = self.story.pm
        if pm.abort_start_time:
            assert pm.fatal_error or pm.shutdown is Shutdown.IMMEDIATE

    @invariant()
    def startup_status_tells_of_the_startup_process(self) -> None:
        """INV-13, INV-14."""
        pm = self.story.pm
        known = pm.startup_status in (StartupStatus.RUNNING, StartupStatus.SIGNALED)
        assert known == bool(pm.pid_of(Kind.STARTUP))
        if pm.state in (PM.STARTUP, PM.RECOVERY, PM.HOT_STANDBY):
            assert known

    @invariant()
    def late_states_have_few_children(self) -> None:
        """INV-35, INV-36, INV-37; in a crash WAIT_DEAD_END waits for whoever is left."""
        pm = self.story.pm
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
        pm = self.story.pm
        free = [slot for pool in pm.free_slots.values() for slot in pool]
        taken = [child.slot for child in pm.children.values() if child.slot]
        assert sorted(free + taken) == list(range(1, slot_count(CONFIG) + 1))

    @invariant()
    def io_workers_are_counted_right(self) -> None:
        """INV-17."""
        pm = self.story.pm
        recorded = {c.pid for c in pm.children.values() if c.kind is Kind.IO_WORKER}
        assert recorded == {pid for pid in pm.io_worker_children if pid}
        assert len(pm.io_worker_children) == MAX_IO_WORKERS

    @invariant()
    def nobody_waits_for_what_was_not_told(self) -> None:
        """MM-02, MM-37: while a crash or immediate shutdown is waited out, the clock runs, or the
        SIGKILL round has been made, or nobody but dead-end children is left to be told."""
        pm = self.story.pm
        if pm.state is PM.WAIT_BACKENDS and not self.over:
            assert pm.count_children(ALL_BUT_LOGGER) > 0

    @invariant()
    def kill_only_when_dying(self) -> None:
        """INV-23."""
        killed = [r for r in self.story.of(SignalChild) if r.signum == signal.SIGKILL]
        pm = self.story.pm
        if killed:
            assert pm.fatal_error or pm.shutdown is Shutdown.IMMEDIATE

    @invariant()
    def every_step_is_logged(self) -> None:
        """PM-01: the last step that the log tells of is the state we are in."""
        steps = [r for r in self.story.of(Log) if r.message.startswith("updating PMState")]
        if steps:
            assert steps[-1].message.endswith(f" to {self.story.pm.state}")


PostmasterLife.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPostmasterLife = PostmasterLife.TestCase


@pytest.mark.parametrize("level", [Shutdown.FAST, Shutdown.IMMEDIATE])
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_every_shutdown_ends_if_children_do_as_they_are_told(
    level: Shutdown, data: st.DataObject
) -> None:
    """INV-90, INV-91: from wherever a random life has led, a request ends it when every child
    that has been told to stop by a signal it honours stops, the SIGKILL round included."""
    life = PostmasterLife()
    for _ in range(data.draw(st.integers(0, 12))):
        choice = data.draw(st.sampled_from(["die", "turn", "connect", "flag"]))
        if life.over:
            return
        if choice == "die" and life.story.pm.children:
            life.die(data)
        elif choice == "connect" and life.story.pm.listening:
            life.connect()
        elif choice == "flag":
            life.raise_flag(data.draw(st.sampled_from([PmSignal.RECOVERY_STARTED])))
        elif choice == "turn":
            life.turn(0.0, data.draw(st.booleans()))
    if life.over:
        return
    story = life.story
    life.tell(ShutdownRequested(level, life.now))
    for _ in range(60):
        obey(story, life)
        if life.over:
            return
    raise AssertionError(f"still in {story.pm.state} with {story.pm.children}")


HONOURED = {
    Kind.CHECKPOINTER: {signal.SIGQUIT, signal.SIGUSR2, signal.SIGKILL},
    Kind.IO_WORKER: {signal.SIGQUIT, signal.SIGUSR2, signal.SIGKILL},
}
USUAL = {signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL}
EXITS = {signal.SIGTERM: 0, signal.SIGUSR2: 0, signal.SIGQUIT: 2 << 8, signal.SIGKILL: 9}


def obey(story: Story, life: PostmasterLife) -> None:
    """One round: everybody does what the signals that were sent so far ask for."""
    life.note_signals()
    requests = list(story.requests)
    story.requests.clear()
    if any(isinstance(r, Exit) for r in requests):
        story.requests.extend(requests)
        return
    for pid, child in list(story.pm.children.items()):
        heard = life.told.get(pid, set())
        if child.kind is Kind.CHECKPOINTER and signal.SIGINT in heard:
            heard.discard(signal.SIGINT)
            flags = frozenset({PmSignal.XLOG_IS_SHUTDOWN})
            story.tell(PmSignalsSeen(flags, False, False, life.now))
        stops = heard & HONOURED.get(child.kind, USUAL)
        if child.kind is Kind.LOGGER or not stops:
            continue
        signum = max(stops, key=lambda s: EXITS[s])
        status = EXITS[signum]
        if child.kind in (Kind.STARTUP, Kind.BG_WORKER) and signum == signal.SIGTERM:
            status = 1 << 8
        story.tell(ChildExited(pid, status, True, life.now))
    if not life.over:
        story.tell(ReapingDone(life.now))
    if not life.over:
        life.now += 1.0
        story.tell(TurnEnded(life.now))


def test_a_story_is_replayable() -> None:
    """decide() depends on nothing but its arguments: the same events give the same state."""
    lives = []
    for _ in range(2):
        story = Story(newborn(CONFIG), CONFIG).tell(Born(), TurnEnded(NOW), ConnectionArrived())
        lives.append(story.pm)
    assert lives[0] == lives[1]
