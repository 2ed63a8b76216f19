"""Random lives: hypothesis chooses what is done next; the monitor must explain what it leads to.

Begin with `walk`.
"""

import signal
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pglife_conformance.events import ShutdownMode
from pglife_conformance.walk.life import Life, Maker

DEADLY = (signal.SIGKILL, signal.SIGQUIT)
HARMLESS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MOST_CLIENTS = 8


class RandomLife(RuleBasedStateMachine):
    """A life in which any client, operator or fault may act at any time."""

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

    @precondition(lambda self: self.life.open_sessions())
    @rule(which=st.integers(0, MOST_CLIENTS), asks=st.booleans())
    def query_or_cancel(self, which: int, asks: bool) -> None:
        open_ = self.life.open_sessions()
        number = open_[which % len(open_)]
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
    def resume(self, which: int) -> None:
        self.life.resume(which % len(self.life.pins))

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
    def start(self) -> None:
        self.life.start()

    @rule(seconds=st.sampled_from([0.01, 0.1]))
    def watch(self, seconds: float) -> None:
        self.life.watch(seconds)

    @invariant()
    def explained(self) -> None:
        """The model explains each step."""
        self._try(self.life.explain)

    def teardown(self) -> None:
        """The server stops, and nothing is left of it."""
        self._try(self.life.end)
        self.open_because.append(self.life.monitor.open_because)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except AssertionError as problem:
            # Printed too: hypothesis repeats a failure for its report, and a life may then pass.
            print(self.life.as_test())
            raise AssertionError(f"{problem}\n\n{self.life.as_test()}") from None


def walk(maker: Maker, *, lives: int, steps: int, same: bool = True) -> list[str | None]:
    """Take some random lives, the `same` ones each time or others.

    Args:
        maker: makes their clusters.
        lives: how many.
        steps: the most steps of each.
        same: whether they are the same each time.

    Returns:
        for each life why the monitor's verdict is open, or None if all of it was judged.
    """
    reasons: list[str | None] = []
    machine = type("Server", (RandomLife,), {"maker": maker, "open_because": reasons})
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
