"""What a postmaster does by itself, as far as the model tells: everything at once.

Begin with   Eager.run().
Owns         the order in which a real postmaster takes what is pending, by release; which steps
             wait for a clock; whom the steps of a turn tell to do something.
Leaves out   what the player does meanwhile (plan.py).
Source       postmaster.c: ServerLoop() of 18, process_pm_child_exit(); 15: its signal handlers,
             which the kernel calls in the order of the signals' numbers.

A model's postmaster may dawdle: any step that is enabled may be left for later. A real one that
is let go handles all that is pending, in a fixed order, and launches whoever is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pglife_spec.lang.machine import Action, Actor
from pglife_spec.meanings.python.program import Evidence, Program
from pglife_spec.postgres.state import REAPING, STATE
from pglife_spec.postgres.words import PM, Kind

_MOST_STEPS = 400

_ORDER_18 = (
    "begin",
    "process_shutdown_request",
    "process_reload_request",
    "reap",
    "end_reaping",
    "process_pmsignal",
    "launch",
)
_ORDER_15 = (
    "begin",
    "process_reload_request",
    "process_shutdown_request(fastshutdown)",
    "process_shutdown_request(immediateshutdown)",
    "process_pmsignal",
    "process_shutdown_request",
    "reap",
    "end_reaping",
    "launch",
)
_LATE_LAUNCH = "launch_logical_replication_launcher"
"""Five seconds after an exit (BG-05); at once only on entering PM_RUN."""

CLOCK = "issue_sigkill"
_OLDEST_FIRST = ("io_worker", "checkpointer", "bg_writer", "startup")

_ORDERS = frozenset({"SIGTERM", "SIGQUIT", "SIGINT", "SIGUSR2"})


@dataclass(frozen=True)
class Steps:
    """What happened in one turn, and what it left to be seen."""

    actions: tuple[str, ...]
    after: int
    evidence: tuple[Evidence, ...]

    @property
    def forked(self) -> list[str]:
        """Kinds of children that were forked, by the model's names."""
        return [str(item[1]) for item in self.evidence if item[0] == "fork"]

    @property
    def told(self) -> set[str]:
        """Kinds of children that were told to do something."""
        return {
            str(item[2])
            for item in self.evidence
            if item[0] == "signal" and str(item[1]) in _ORDERS
        }


class Eager:
    """The postmaster of one program."""

    def __init__(self, program: Program, version: int) -> None:
        self.program = program
        self._order = _ORDER_18 if version >= 18 else _ORDER_15
        self._is_reaping = program.predicate(REAPING)
        self._is_open = program.predicate(STATE == PM.PM_RUN)

    def run(
        self, state: int, *, first: str | None = None, free: frozenset[str] = frozenset()
    ) -> Steps:
        """All that it does from here until nothing is left to do.

        Args:
            state: where it is let go.
            first: a step that comes before everything else: a client's, or the clock's.
            free: kinds of children that nobody holds: they do at once what they are told.
        """
        actions: list[str] = []
        evidence: list[Evidence] = []
        was_open = self._is_open(state)
        born: set[str] = set()
        name = first
        while len(actions) < _MOST_STEPS:
            if name is None:
                loose = free | frozenset(born)
                name = self._next(state, was_open=was_open) or self._child_step(state, loose)
            if name is None:
                break
            after, left = self.program.emissions(name, state)
            if after < 0:
                break
            born |= {str(item[1]) for item in left if item[0] == "fork"} - {"STARTUP"}
            actions.append(name)
            evidence += left
            state, name = after, None
        return Steps(tuple(actions), state, tuple(evidence))

    def is_idle(self, state: int) -> bool:
        """Nothing is pending for it but a clock."""
        return self._next(state, was_open=True) is None

    def _next(self, state: int, *, was_open: bool) -> str | None:
        found = [
            action
            for action in self._enabled(state, lambda a: a.actor is Actor.POSTMASTER)
            if action.name != CLOCK and (action.name != _LATE_LAUNCH or not was_open)
        ]
        if not found:
            return None
        if self._is_reaping(state):
            found = [a for a in found if a.family.startswith("reap_")] or [
                a for a in found if a.family == "end_reaping"
            ]
            if not found:
                return None
        return min(found, key=self._rank).name

    def _rank(self, action: Action) -> tuple[int, int]:
        place = next(i for i, name in enumerate(self._order) if action.name.startswith(name))
        kind = action.choices.get("kind", action.family.removeprefix("reap_"))
        ages = _OLDEST_FIRST
        return place, ages.index(kind) if kind in ages else len(ages)

    def _child_step(self, state: int, loose: frozenset[str]) -> str | None:
        """A step of a child that nobody holds and that has been told something."""
        for action in self._enabled(state, lambda a: a.actor is Actor.CHILD):
            kind = action.choices.get("kind", "")
            if action.family.startswith(("checkpointer_", "shutdown_checkpoint_")):
                kind = "checkpointer"
            if kind.upper() in loose:
                return action.name
        return None

    def _enabled(self, state: int, wanted: Callable[[Action], bool]) -> list[Action]:
        program = self.program
        actions = (program.actions[index] for index, _ in program.successors(state))
        return [action for action in actions if wanted(action)]


def held_kinds(steps: Steps) -> frozenset[str]:
    """Kinds that must be held before these steps, so that they do nothing of what they are told
    until the trace says so; who is forked in the same turn cannot be."""
    return frozenset(steps.told) - frozenset(steps.forked) - {Kind.LOGGER.name}
