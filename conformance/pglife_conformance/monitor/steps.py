"""The steps that are possible in a state of the model, as they appear from outside.

Begin with Candidate and StepTable.of(). A table is shared by all servers that run one program.

The death of a child that was sent SIGQUIT is taken only together with its reaping: it cannot be
observed earlier, and no later signal changes its exit status. Without this a crash of eight
children has 3 to the 8th power of intermediate states, with it 2 to the 8th.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from pglife_conformance.base.failures import SuiteError
from pglife_spec import Evidence, Program, outside

Decision = str
PENDING: Decision = "not accepted yet"
ADMITTED: Decision = "admitted"

#: The most candidates that are followed at one look; with more of them the verdict is open.
LIMIT = 400_000


class TooManyCandidates(SuiteError):
    """More candidates than LIMIT."""


class Candidate(NamedTuple):
    """One explanation of all that was seen so far.

    Args:
        state: the model's state.
        next_lines: the lines that must follow, because a step has written only its first ones.
        clients: for each client that has received no answer, what was decided about it.
        pending: stimuli that may still take effect, each a set of actions of which one happens.
    """

    state: int
    next_lines: tuple[outside.Line, ...] = ()
    clients: tuple[tuple[int, Decision], ...] = ()
    pending: tuple[frozenset[int], ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """What was seen of the processes at one moment between two looks.

    Args:
        agrees: whether a state shows the same.
        agrees_midway: whether the middle of a step between two states may show it.
        lacks_one: whether a state shows the same once one child more is forked.
    """

    agrees: Callable[[int], bool]
    agrees_midway: Callable[[int, int], bool]
    lacks_one: Callable[[int], bool]


class Move(NamedTuple):
    """One step from a state.

    Args:
        action: its index.
        after: the state after it.
        lines: the lines it writes.
        changes_children: whether a look may fall between its lines and its forks or reaps.
    """

    action: int
    after: int
    lines: tuple[outside.Line, ...]
    changes_children: bool


class Moves(NamedTuple):
    """The steps from a state, by their cause.

    Args:
        silent: the states after those that need no cause and write no line, which are most.
        replacing: of these the ones in whose middle a child is gone whose successor is forked.
        spoken: the others that need no cause.
        admissions: those that accept a client.
        caused: those that happen only after a stimulus.
    """

    silent: tuple[int, ...] = ()
    replacing: tuple[int, ...] = ()
    spoken: tuple[Move, ...] = ()
    admissions: tuple[Move, ...] = ()
    caused: tuple[Move, ...] = ()


class StepTable:
    """The steps of one program, found once for each state.

    Args:
        program: the model under one configuration.
        line_kinds: the kinds of evidence that appear in the server's log.
    """

    def __init__(self, program: Program, line_kinds: frozenset[str]) -> None:
        self.program = program
        actions = program.machine.actions
        self._line_kinds = line_kinds
        self._cause = [outside.cause_of(a) for a in actions]
        self._writes = [outside.leaves(a, *line_kinds) for a in actions]
        self._changes_children = [outside.changes_children(a) for a in actions]
        self._replaces = [outside.replaces(a) for a in actions]
        self._reap_after = {
            program.index(quits): program.index(reap) for quits, reap in outside.reap_after_quit()
        }
        self._known: dict[int, Moves] = {}
        self._line_of: dict[Evidence, outside.Line | None] = {}

    def of(self, state: int) -> Moves:
        """Every step from a state."""
        known = self._known.get(state)
        if known is None:
            if len(self._known) > LIMIT:
                self._known.clear()
            known = self._known[state] = self._find(state)
        return known

    def _find(self, state: int) -> Moves:
        silent: list[int] = []
        replacing: list[int] = []
        spoken, admissions, caused = [], [], []
        for action, after in self.program.successors(state):
            before = state
            if action in self._reap_after:
                before, action = after, self._reap_after[action]
                after = self.program.step(action, before)
                if after < 0:
                    continue
            lines = self._lines(action, before)
            cause = self._cause[action]
            if cause is outside.Cause.NOTHING and not lines:
                silent.append(after)
                if self._replaces[action]:
                    replacing.append(after)
                continue
            move = Move(action, after, lines, self._changes_children[action])
            if cause is outside.Cause.NOTHING:
                spoken.append(move)
            elif cause is outside.Cause.CLIENT:
                admissions.append(move)
            else:
                caused.append(move)
        states = tuple(silent), tuple(replacing)
        return Moves(*states, tuple(spoken), tuple(admissions), tuple(caused))

    def _lines(self, action: int, before: int) -> tuple[outside.Line, ...]:
        if not self._writes[action]:
            return ()
        lines = map(self._line, self.program.emissions(action, before)[1])
        return tuple(line for line in lines if line is not None)

    def _line(self, item: Evidence) -> outside.Line | None:
        """The line that this evidence is, or None for evidence of another kind."""
        if item not in self._line_of:
            is_line = item[0] in self._line_kinds
            self._line_of[item] = tuple(str(part) for part in item) if is_line else None
        return self._line_of[item]

    def decision(self, action: int, before: int) -> Decision:
        """The answer that an admission leads to."""
        return outside.refusal(self.program.emissions(action, before)[1]) or ADMITTED


table_of = cache(StepTable)
"""One table for each program: hundreds of scenarios run the same one."""
