"""A server's life at random: rules are stimuli to a live server, the invariant is the monitor.

Begin with   Life, whose verbs are all that is ever done; LiveServer chooses among them.
Owns         the stimuli; the script of what was done, which can be run again.
Leaves out   pytest (test_live_machine.py), what is allowed (the monitor).

A life never waits for an answer that may not come: it does something, sees what there is, and
goes on. What must come in the end is the server's end, and that nothing is left of it.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation
from pglife_conformance.cluster.client import ClientTimeout
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome, ServerError, Session
from pglife_conformance.cluster.teardown import end_cluster
from pglife_conformance.cluster.template import Template
from pglife_conformance.events import IMMEDIATE, ShutdownMode
from pglife_conformance.hold.pin import Pin
from pglife_conformance.monitor.judge import Monitor
from pglife_conformance.observation.processes import RunState
from pglife_conformance.pytest.state import SuiteState
from pglife_spec import REPAIR_NAMES

DEADLY = (signal.SIGKILL, signal.SIGQUIT)
HARMLESS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MOST_CLIENTS = 8
STEP_LIMIT_S = 3.0
GOING = (ServerError, ClientTimeout, Expectation, OSError)
"""How things fail that are done to somebody who is stopped, or has just gone."""

HEAD = """\
# Save as a module test_*.py in tests/conformance and run pytest on it.
from .live_machine import Life, Maker


def test_life(pglife_state, template) -> None:
    life = Life(Maker(pglife_state, template, {settings!r}))
"""


@dataclass(frozen=True)
class Maker:
    """Where lives get their clusters from."""

    state: SuiteState
    template: Template
    settings: Mapping[str, str]

    def cluster(self) -> Cluster:
        """A new one, not started."""
        state = self.state
        return Cluster(
            state.target, self.template, state.run, scale=state.scale, settings=dict(self.settings)
        )

    def monitor(self) -> Monitor:
        """One that knows what the target has repaired."""
        repaired = [name for name in REPAIR_NAMES if self.state.target.has_repair(name)]
        return Monitor(lambda: repaired)


class Life:
    """One cluster, watched by the monitor, and the verbs of a life; each is a line of its script.

    Whatever is done may come too late; that is no failure.
    """

    def __init__(self, maker: Maker) -> None:
        self.settings = dict(maker.settings)
        self.script: list[str] = []
        self.sessions: dict[int, Session] = {}
        self.pins: list[Pin] = []
        self.cluster = maker.cluster()
        self.monitor = maker.monitor()
        self.cluster.record(self.monitor)
        self.cluster.start()

    def is_running(self) -> bool:
        """The postmaster has not ended."""
        return self.cluster.is_running()

    def calm(self) -> list[int]:
        """The clients that were let in and have not heard of their end."""
        return [
            number
            for number, session in self.sessions.items()
            if session.outcome is Outcome.ADMITTED and session.ending is None
        ]

    def children(self) -> list[tuple[str, int]]:
        """Those that are not stopped: kind, and number among their kind."""
        seen: Counter[str] = Counter()
        found = []
        for kid in self.cluster.children():
            kind = str(kid.kind)
            if kid.state is not RunState.STOPPED:
                found.append((kind, seen[kind]))
            seen[kind] += 1
        return found

    # Verbs.

    def connect(self, number: int, *, silently: bool = False) -> None:
        """A client, with a startup packet or without."""
        self._note("connect", number, silently=silently)
        with contextlib.suppress(*GOING):
            if silently:
                self.sessions[number] = self.cluster.silent_client(wait_for_child=False)
            else:
                self.sessions[number] = self.cluster.attempt(within=STEP_LIMIT_S)

    def query(self, number: int) -> None:
        """A statement, and its answer."""
        self._note("query", number)
        with contextlib.suppress(*GOING):
            self.sessions[number].query("select 1", STEP_LIMIT_S)

    def cancel(self, number: int) -> None:
        """A cancel request."""
        self._note("cancel", number)
        with contextlib.suppress(*GOING):
            self.sessions[number].cancel()

    def disconnect(self, number: int, *, politely: bool) -> None:
        """Hang up, with a Terminate message or without."""
        self._note("disconnect", number, politely=politely)
        session = self.sessions.pop(number)
        with contextlib.suppress(*GOING):
            if politely:
                session.close()
            else:
                session.disconnect()

    def signal_child(self, kind: str, nth: int, name: str) -> None:
        """A signal to a child, as an operator's `kill` sends it."""
        self._note("signal_child", kind, nth, name)
        kids = self.cluster.children(kind)
        with contextlib.suppress(*GOING):
            if nth < len(kids):
                self.cluster.signal_child(kids[nth], signal.Signals[name])

    def stop(self, kind: str, nth: int) -> None:
        """SIGSTOP to a child."""
        self._note("stop", kind, nth)
        kids = self.cluster.children(kind)
        with contextlib.suppress(*GOING):
            if nth < len(kids):
                self.pins.append(Pin(self.cluster, kids[nth]))

    def go_on(self, nth: int) -> None:
        """SIGCONT to one that was stopped."""
        self._note("go_on", nth)
        if nth < len(self.pins):
            self.pins.pop(nth).release()

    def reload(self) -> None:
        """SIGHUP to the postmaster."""
        self._note("reload")
        self.cluster.reload()

    def request_shutdown(self, mode: str) -> None:
        """A shutdown of this kind."""
        self._note("request_shutdown", mode)
        self.cluster.request_shutdown(ShutdownMode(mode))

    def start_again(self) -> None:
        """Another postmaster, when the last one has ended."""
        self._note("start_again")
        self._let_go()
        self.cluster.start()

    def watch(self, seconds: float) -> None:
        """Let things take their course, looking on."""
        self._note("watch", seconds)
        until = time.monotonic() + seconds
        self.cluster.wait_for("a moment", lambda: time.monotonic() >= until, seconds + 10)

    def explain(self) -> None:
        """All that was done and seen so far is explained by some life of the model."""
        self.cluster.watcher.look()
        self.monitor.judge()

    def end(self) -> None:
        """It ends when it is asked to, is explained to its end, and leaves nothing."""
        self._note("end")
        try:
            self._let_go()
            if self.is_running():
                self.cluster.request_shutdown(IMMEDIATE)
                self.cluster.wait_for(
                    "the postmaster's end", lambda: not self.is_running(), deadlines.SHUTDOWN_LIMIT
                )
            self.explain()
        finally:
            end_cluster(self.cluster, keep=False)

    def _let_go(self) -> None:
        """Nobody is stopped any more, and nobody is connected."""
        while self.pins:
            self.pins.pop().release()
        while self.sessions:
            self.sessions.popitem()[1].disconnect()

    def _note(self, verb: str, *args: object, **options: object) -> None:
        words = [repr(arg) for arg in args] + [f"{k}={v!r}" for k, v in options.items()]
        self.script.append(f"life.{verb}({', '.join(words)})")

    def told(self) -> str:
        """The life as a test that lives it again."""
        script = [*self.script]
        if script[-1:] != ["life.end()"]:
            script += ["life.explain()", "life.end()"]
        return HEAD.format(settings=self.settings) + "".join(f"    {line}\n" for line in script)


class LiveServer(RuleBasedStateMachine):
    """A life in which anything may come to anybody's mind at any time."""

    maker: Maker
    open_because: list[str | None]

    def __init__(self) -> None:
        super().__init__()
        self.life = Life(self.maker)
        self.clients = 0

    @precondition(lambda self: self.life.is_running() and len(self.life.sessions) < MOST_CLIENTS)
    @rule(silently=st.sampled_from([False, False, True]))
    def connect(self, silently: bool) -> None:
        self.life.connect(self.clients, silently=silently)
        self.clients += 1

    @precondition(lambda self: self.life.calm())
    @rule(which=st.integers(0, MOST_CLIENTS), asks=st.booleans())
    def query_or_cancel(self, which: int, asks: bool) -> None:
        calm = self.life.calm()
        number = calm[which % len(calm)]
        if asks:
            self.life.query(number)
        else:
            self.life.cancel(number)

    @precondition(lambda self: self.life.sessions)
    @rule(which=st.integers(0, MOST_CLIENTS), politely=st.booleans())
    def disconnect(self, which: int, politely: bool) -> None:
        numbers = list(self.life.sessions)
        self.life.disconnect(numbers[which % len(numbers)], politely=politely)

    @precondition(lambda self: self.life.is_running())
    @rule(which=st.integers(0, 15), number=st.sampled_from([*HARMLESS, *DEADLY]))
    def signal_child(self, which: int, number: signal.Signals) -> None:
        children = self.life.children()
        if children:
            self.life.signal_child(*children[which % len(children)], number.name)

    @precondition(lambda self: self.life.is_running() and len(self.life.pins) < 2)
    @rule(which=st.integers(0, 15))
    def stop(self, which: int) -> None:
        children = self.life.children()
        if children:
            self.life.stop(*children[which % len(children)])

    @precondition(lambda self: self.life.pins)
    @rule(which=st.integers(0, 1))
    def go_on(self, which: int) -> None:
        self.life.go_on(which % len(self.life.pins))

    @precondition(lambda self: self.life.is_running())
    @rule()
    def reload(self) -> None:
        self.life.reload()

    @precondition(lambda self: self.life.is_running())
    @rule(mode=st.sampled_from([str(mode) for mode in ShutdownMode]))
    def request_shutdown(self, mode: str) -> None:
        self.life.request_shutdown(mode)

    @precondition(lambda self: not self.life.is_running())
    @rule()
    def start_again(self) -> None:
        self.life.start_again()

    @rule(seconds=st.sampled_from([0.01, 0.1]))
    def watch(self, seconds: float) -> None:
        self.life.watch(seconds)

    @invariant()
    def explained(self) -> None:
        """By the model, step by step."""
        self._try(self.life.explain)

    def teardown(self) -> None:
        """It ends, and leaves nothing."""
        self._try(self.life.end)
        self.open_because.append(self.life.monitor.open_because)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except AssertionError as problem:
            # Printed as well: lived again for its report, a life need not fail again.
            print(self.life.told())
            raise AssertionError(f"{problem}\n\n{self.life.told()}") from None


def live(maker: Maker, *, lives: int, steps: int, same: bool = True) -> list[str | None]:
    """Live that many lives, the `same` ones each time or others.

    Returns:
        for each life why the monitor's verdict is open, or None if all of it was judged.
    """
    reasons: list[str | None] = []
    machine = type("Server", (LiveServer,), {"maker": maker, "open_because": reasons})
    run_state_machine_as_test(
        machine,
        settings=settings(
            derandomize=same,
            database=None,
            max_examples=lives,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],
            print_blob=False,
            verbosity=Verbosity.normal,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return reasons
