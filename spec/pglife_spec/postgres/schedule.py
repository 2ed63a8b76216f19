"""What a real postmaster does from when it wakes up until it sleeps again.

In the model any step that is possible may also wait. A real postmaster takes them all, from the
first phase of its loop on. Begin with Schedule.run().

Source: postmaster.c: ServerLoop().
"""

from collections.abc import Collection
from dataclasses import dataclass

from pglife_spec.lang.machine import Action, Actor
from pglife_spec.meanings.python.program import Evidence, Program
from pglife_spec.postgres import declared as actions
from pglife_spec.postgres import outside
from pglife_spec.postgres.declared import among, case_of
from pglife_spec.postgres.loop import circle_of, is_delayed, phase_of
from pglife_spec.postgres.state.postmaster import REAPING, STATE
from pglife_spec.postgres.words import PM, Kind, Signal
from pglife_spec.postgres.words.releases import release_of

_MOST_STEPS = 400

TIMER = case_of(actions.issue_sigkill)
"""The one step that waits for a timer: five seconds after a crash (SL-05)."""

_OLDEST_FIRST = (Kind.IO_WORKER, Kind.CHECKPOINTER, Kind.BG_WRITER, Kind.STARTUP)
"""Of several zombies waitpid() reaps the oldest first."""

_ORDERS = frozenset({Signal.SIGTERM, Signal.SIGQUIT, Signal.SIGINT, Signal.SIGUSR2})


@dataclass(frozen=True)
class Iteration:
    """The steps of one iteration of the event loop, the state after them, and their evidence."""

    actions: tuple[Action, ...]
    after: int
    evidence: tuple[Evidence, ...]

    @property
    def forked(self) -> list[Kind]:
        """The kinds of the children that were forked, in order."""
        return outside.forked(self.evidence)

    @property
    def ordered(self) -> frozenset[Kind]:
        """The kinds of the children that were sent a signal that orders them to do something."""
        return frozenset(
            kind for number, kind in outside.signalled(self.evidence) if number in _ORDERS
        )

    @property
    def to_stop(self) -> frozenset[Kind]:
        """The kinds that must be stopped before, so that they obey no order of this iteration.

        A child that is forked in the same iteration cannot be stopped before.
        """
        return self.ordered - frozenset(self.forked) - {Kind.LOGGER}


class Schedule:
    """How the postmaster of one program takes its steps.

    Args:
        program: the model under one configuration.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        release = release_of(program.config.params["version"])
        self._circle = circle_of(release)
        self._is_reaping = program.predicate(REAPING)
        self._is_open = program.predicate(STATE == PM.PM_RUN)

    def run(
        self, state: int, *, first: Action | None = None, free: Collection[Kind] = ()
    ) -> Iteration:
        """Every step from a state until the postmaster sleeps.

        Args:
            state: where the postmaster wakes up.
            first: a step that comes before all others: a client's connection, or the timer's.
            free: kinds of children that are not stopped: they obey each order at once.
        """
        taken: list[Action] = []
        evidence: list[Evidence] = []
        was_open = self._is_open(state)
        obeying = set(free)
        action = first
        while len(taken) < _MOST_STEPS:
            if action is None:
                action = self._next(state, was_open=was_open) or self._child_step(state, obeying)
            if action is None:
                break
            after, left = self.program.emissions(action, state)
            if after < 0:
                break
            obeying |= set(outside.forked(left)) - {Kind.STARTUP}
            taken.append(action)
            evidence += left
            state, action = after, None
        return Iteration(tuple(taken), state, tuple(evidence))

    def is_idle(self, state: int) -> bool:
        """Whether the postmaster waits for nothing but a timer."""
        return self._next(state, was_open=True) is None

    def _next(self, state: int, *, was_open: bool) -> Action | None:
        found = [
            action
            for action in self._enabled(state, Actor.POSTMASTER)
            if action.name != TIMER.name and not (was_open and is_delayed(action))
        ]
        if found and self._is_reaping(state):
            found = [a for a in found if among(a, actions.REAPS)] or [
                a for a in found if among(a, actions.end_reaping)
            ]
        return min(found, key=self._rank, default=None)

    def _rank(self, action: Action) -> tuple[int, int]:
        kind = outside.kind_of(action)
        age = _OLDEST_FIRST.index(kind) if kind in _OLDEST_FIRST else len(_OLDEST_FIRST)
        phase = phase_of(action, self._circle)
        assert phase is not None
        return self._circle.index(phase), age

    def _child_step(self, state: int, obeying: Collection[Kind]) -> Action | None:
        """A step of a child that obeys its orders; a refused client need not close now."""
        found = self._enabled(state, Actor.CHILD)
        return next(
            (
                a
                for a in found
                if outside.kind_of(a) in obeying and not among(a, actions.dead_end_child_exits)
            ),
            None,
        )

    def _enabled(self, state: int, actor: Actor) -> list[Action]:
        program = self.program
        actions_ = (program.actions[index] for index, _ in program.successors(state))
        return [action for action in actions_ if action.actor is actor]
