"""Random lives: hypothesis chooses what is done next; the monitor must explain what it leads to.

Begin with `walk`. All choices of a life are drawn before it begins, and read as a person would read
them who sees the server: "the third of what can be done now, to the second of those that there
are". So a server that is faster or slower than last time changes the life, and never the drawing.
"""

import itertools
import signal
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pglife_conformance.events import ShutdownMode
from pglife_conformance.walk.life import Life, Maker

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL, signal.SIGQUIT)
MODES = tuple(str(mode) for mode in ShutdownMode)
MOST_CLIENTS = 8
MOST_STOPPED = 2
CHOICES = st.integers(0, 2**16 - 1)


@dataclass(frozen=True)
class Choice:
    """What is drawn for one step: which verb, whom of those that there are, which way."""

    verb: int
    which: int
    way: int


@dataclass(frozen=True)
class Verb:
    """What a client, an operator or a fault may do, and when it can be done."""

    can: Callable[[Life], bool]
    do: Callable[[Life, Choice], None]


def _connect(life: Life, choice: Choice) -> None:
    unused = next(number for number in itertools.count() if number not in life.sessions)
    life.connect(unused, silently=choice.way % 3 == 2)


def _query_or_cancel(life: Life, choice: Choice) -> None:
    open_ = life.open_sessions()
    number = open_[choice.which % len(open_)]
    if choice.way % 2:
        life.query(number)
    else:
        life.cancel(number)


def _disconnect(life: Life, choice: Choice) -> None:
    numbers = list(life.sessions)
    life.disconnect(numbers[choice.which % len(numbers)], politely=choice.way % 2 == 1)


def _signal_child(life: Life, choice: Choice) -> None:
    children = life.children()
    if children:
        kind, nth = children[choice.which % len(children)]
        life.signal_child(kind, nth, SIGNALS[choice.way % len(SIGNALS)].name)


def _stop(life: Life, choice: Choice) -> None:
    children = life.children()
    if children:
        life.stop(*children[choice.which % len(children)])


VERBS = (
    Verb(lambda life: life.is_running() and len(life.sessions) < MOST_CLIENTS, _connect),
    Verb(lambda life: bool(life.open_sessions()), _query_or_cancel),
    Verb(lambda life: bool(life.sessions), _disconnect),
    Verb(lambda life: life.is_running(), _signal_child),
    Verb(lambda life: life.is_running() and len(life.pins) < MOST_STOPPED, _stop),
    Verb(
        lambda life: bool(life.pins),
        lambda life, choice: life.resume(choice.which % len(life.pins)),
    ),
    Verb(lambda life: life.is_running(), lambda life, _choice: life.reload()),
    Verb(
        lambda life: life.is_running(),
        lambda life, choice: life.request_shutdown(MODES[choice.way % len(MODES)]),
    ),
    Verb(lambda life: not life.is_running(), lambda life, _choice: life.start()),
    Verb(lambda _life: True, lambda life, choice: life.watch(0.1 if choice.way % 2 else 0.01)),
)


def take(life: Life, choices: list[Choice]) -> None:
    """Live a life by the choices; the model explains each step, and nothing is left at the end.

    Raises:
        AssertionError: a step is not explained; the text ends with the life as a test.
    """
    try:
        try:
            for choice in choices:
                possible = [verb for verb in VERBS if verb.can(life)]
                possible[choice.verb % len(possible)].do(life, choice)
                life.explain()
        finally:
            life.end()
    except AssertionError as problem:
        # Printed too: hypothesis repeats a failure for its report, and a life may then pass.
        print(life.as_test())
        raise AssertionError(f"{problem}\n\n{life.as_test()}") from None


def walk(maker: Maker, *, lives: int, steps: int, same: bool = True) -> list[str | None]:
    """Take some random lives, the `same` choices each time or others.

    Args:
        maker: makes their clusters.
        lives: how many.
        steps: the steps of each.
        same: whether the choices are the same each time.

    Returns:
        for each life why the monitor's verdict is open, or None if all of it was judged.

    Raises:
        AssertionError: a step of a life is not explained.
    """
    reasons: list[str | None] = []

    @settings(
        derandomize=same,
        database=None,
        max_examples=lives,
        deadline=None,
        phases=[Phase.generate],
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.builds(Choice, CHOICES, CHOICES, CHOICES), min_size=steps, max_size=steps))
    def one(choices: list[Choice]) -> None:
        life = Life(maker)
        take(life, choices)
        reasons.append(life.monitor.open_because)

    one()
    return reasons
