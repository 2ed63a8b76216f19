"""Sets of model states, moved by labels and filtered by facts.

Begin with   Tracker.after_look() and Tracker.apply().
Owns         what a stimulus or a look does to the set of all explanations.
Leaves out   the steps of one state (steps.py), the search over them (search.py), what observations
             mean (judge.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from pglife_conformance.monitor.labels import Label
from pglife_conformance.monitor.search import LookSearch, closure
from pglife_conformance.monitor.steps import Element, Facts, steps_of
from pglife_spec.meanings.python.program import Program


class Tracker:
    """Moves sets of elements of one program."""

    def __init__(self, program: Program, visible: frozenset[str]) -> None:
        self.program = program
        self._steps = steps_of(program, visible)

    def after_look(
        self, elements: Iterable[Element], lines: tuple[Label, ...], facts: Facts
    ) -> set[Element]:
        """The elements that explain these lines, and facts that held at some moment among them."""
        return LookSearch(self._steps, lines, facts).run(elements)

    def closure(self, elements: Iterable[Element]) -> set[Element]:
        """Everything that can have happened since, without leaving a line."""
        return closure(self._steps, elements)

    def apply(self, elements: Iterable[Element], action: str) -> set[Element]:
        """Let somebody outside take an action now; where it is disabled nothing happens."""
        index = self.program.index(action)
        moved: set[Element] = set()
        for element in self.closure(elements):
            after = self.program.step(index, element.state)
            moved.add(element._replace(state=after) if after >= 0 else element)
        return moved

    def grant(self, elements: Iterable[Element], actions: Iterable[str]) -> set[Element]:
        """Somebody outside has caused one of these actions to happen, now or later, once."""
        token = frozenset(self.program.index(name) for name in actions)
        return {
            e._replace(tokens=(*e.tokens, token)) if token else e for e in self.closure(elements)
        }

    @cached_property
    def families(self) -> dict[str, list[str]]:
        """Action names by family."""
        names: dict[str, list[str]] = {}
        for action in self.program.machine.actions:
            names.setdefault(action.family, []).append(action.name)
        return names
