"""Sets of candidates, moved by stimuli and filtered by observations.

Begin with Tracker.after_look() and Tracker.apply().
"""

from collections.abc import Iterable
from operator import lt

from pglife_conformance.monitor.search import LookSearch, closure
from pglife_conformance.monitor.steps import Candidate, Snapshot, table_of
from pglife_spec import Action, Program, outside, view_of


class Tracker:
    """Moves sets of candidates of one program.

    Args:
        program: the model under one configuration.
        line_kinds: the kinds of evidence that appear in the server's log.
    """

    def __init__(self, program: Program, line_kinds: frozenset[str]) -> None:
        self.program = program
        self.view = view_of(program)
        self._steps = table_of(program, line_kinds)

    def after_look(
        self, candidates: Iterable[Candidate], lines: tuple[outside.Line, ...], snapshot: Snapshot
    ) -> set[Candidate]:
        """The candidates that explain the lines and, at one moment among them, the snapshot."""
        return LookSearch(self._steps, lines, snapshot).run(candidates)

    def closure(self, candidates: Iterable[Candidate]) -> set[Candidate]:
        """Everything that can have happened since without writing a line."""
        return closure(self._steps, candidates)

    def apply(self, candidates: Iterable[Candidate], action: Action) -> set[Candidate]:
        """A stimulus takes effect now; where its action is disabled nothing happens."""
        index = self.program.index(action)
        moved: set[Candidate] = set()
        for candidate in self.closure(candidates):
            after = self.program.step(index, candidate.state)
            moved.add(candidate._replace(state=after) if after >= 0 else candidate)
        return moved

    def request(self, candidates: Iterable[Candidate], action: Action) -> set[Candidate]:
        """A request to shut down arrives: now, or while an earlier one is being handled whose lines
        were not read yet."""
        found = set(candidates)
        earlier = {c for c in self.closure(found) if self.view.has_request(c.state)}
        return self.apply(found, action) | self.allow(earlier, [action])

    def allow(self, candidates: Iterable[Candidate], actions: Iterable[Action]) -> set[Candidate]:
        """A stimulus causes one of these actions, now or later, once."""
        pending = frozenset(map(self.program.index, actions))
        return {
            c._replace(pending=(*c.pending, pending)) if pending else c
            for c in self.closure(candidates)
        }

    def exited(self, code: int) -> Snapshot:
        """The postmaster was seen to have exited with this code."""

        def agrees(state: int) -> bool:
            return self.view.exit_code(state) == code

        return Snapshot(agrees, lambda _before, after: agrees(after), agrees)

    def children(self, titled: tuple[int, ...], untitled: int) -> Snapshot:
        """The children that were seen.

        Args:
            titled: how many children of each kind, by their titles.
            untitled: how many children have not set a title; each may be of any kind.
        """
        there, is_starting = self.view.children, self.view.is_starting

        def agrees(state: int) -> bool:
            recorded = there(state)
            if any(map(lt, recorded, titled)):
                return False
            # In PM_STARTUP the model forks all first children in one step.
            return sum(recorded) - sum(titled) <= untitled or is_starting(state)

        def agrees_midway(before: int, after: int) -> bool:
            most = map(max, there(before), there(after))
            return agrees(after) or not any(map(lt, most, titled))

        def lacks_one(state: int) -> bool:
            recorded = there(state)
            return not any(map(lt, recorded, titled)) and (
                sum(recorded) - sum(titled) <= untitled + 1
            )

        return Snapshot(agrees, agrees_midway, lacks_one)


ANYTHING = Snapshot(lambda _state: True, lambda _before, _after: True, lambda _state: True)
"""A snapshot that every state explains."""
