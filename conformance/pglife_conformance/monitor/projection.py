"""What of a model state can be compared with a look: who is there, whether it has ended.

Begin with   readings_of().
Owns         the functions compiled for one program; every server that runs it shares them.
Leaves out   what a look shows (judge.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import lt

from pglife_spec.meanings.python.program import Program
from pglife_spec.postgres.state import EXIT, STATE, none_recorded, number
from pglife_spec.postgres.words import PM, SINGLETONS, Exit, Kind


class Readings:
    """Readers of one program's states.

    Args:
        program: the compiled model.
    """

    def __init__(self, program: Program) -> None:
        self.ended: dict[int, Callable[[int], bool]] = {
            0: program.predicate(EXIT == Exit.EXITED_0),
            1: program.predicate(EXIT == Exit.EXITED_1),
        }
        """By exit status: whether the postmaster has ended with it."""
        self._is_starting = program.predicate(STATE == PM.PM_STARTUP)
        self._there = [
            program.predicate(~none_recorded(kind))
            if kind in SINGLETONS
            else program.evaluate(number(kind))
            for kind in Kind
        ]
        self._recorded: dict[int, tuple[int, ...]] = {}

    def recorded(self, state: int) -> tuple[int, ...]:
        """How many children of each kind the postmaster has on its list."""
        known = self._recorded.get(state)
        if known is None:
            known = tuple(int(there(state)) for there in self._there)  # type: ignore[arg-type]
            self._recorded[state] = known
        return known

    def agrees(self, state: int, titled: tuple[int, ...], unknown: int) -> bool:
        """Whether a look may show these numbers, by kind, and so many more without a title."""
        there = self.recorded(state)
        if any(map(lt, there, titled)):
            return False
        return sum(there) - sum(titled) <= unknown or self._is_starting(state)

    def agrees_midway(self, before: int, after: int, titled: tuple[int, ...]) -> bool:
        """Whether a look may show them in the middle of a step."""
        most = map(max, self.recorded(before), self.recorded(after))
        return not any(map(lt, most, titled))


readings_of = cache(Readings)
