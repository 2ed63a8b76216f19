"""The search for everything that can have happened between two looks.

Begin with LookSearch.run() and closure().

A look shows lines of the log, and processes that were there at one moment since the look before.
A step of the model is atomic, the server's is not: a look may fall into the middle of one, when
some of its lines are written and some are not, or a process is reaped and its line is not written
yet. A candidate in the middle of such a step names the lines that must come next.

Most of the suite's own time is spent here, so a node of the search is a plain tuple, and what few
steps change, clients and pending stimuli, is one number in it.
"""

from collections.abc import Iterable, Iterator
from functools import cache

from pglife_conformance.monitor.steps import (
    LIMIT,
    PENDING,
    Candidate,
    Decision,
    Move,
    Moves,
    Snapshot,
    StepTable,
    TooManyCandidates,
)
from pglife_spec import outside

Clients = tuple[tuple[int, Decision], ...]
Stimuli = tuple[frozenset[int], ...]
Node = tuple[int, int, int, bool]
"""State, number of what is unsettled, lines matched so far, whether the snapshot has agreed."""


class Unsettled:
    """The clients without an answer and the pending stimuli of candidates, numbered."""

    def __init__(self, steps: StepTable) -> None:
        self._steps = steps
        self._numbers: dict[tuple[Clients, Stimuli], int] = {}
        self._pairs: list[tuple[Clients, Stimuli]] = []

    def number(self, clients: Clients, pending: Stimuli) -> int:
        """A number that stands for both."""
        pair = clients, pending
        found = self._numbers.get(pair)
        if found is None:
            found = self._numbers[pair] = len(self._pairs)
            self._pairs.append(pair)
        return found

    def candidate(
        self, state: int, number: int, next_lines: tuple[outside.Line, ...] = ()
    ) -> Candidate:
        """The candidate with this state and what the number stands for."""
        return Candidate(state, next_lines, *self._pairs[number])

    def moves(self, state: int, number: int, moves: Moves) -> Iterator[tuple[Move, int]]:
        """The steps that accept a client or that a pending stimulus causes.

        Each comes with the number of what is unsettled after it.
        """
        clients, pending = self._pairs[number]
        waiting = [place for place, (_, decided) in enumerate(clients) if decided == PENDING]
        if waiting:
            place = waiting[0]
            for move in moves.admissions:
                decided = (clients[place][0], self._steps.decision(move.action, state))
                after = (*clients[:place], decided, *clients[place + 1 :])
                yield move, self.number(after, pending)
        if pending:
            for move in moves.caused:
                for place, actions in enumerate(pending):
                    if move.action in actions:
                        yield move, self.number(clients, pending[:place] + pending[place + 1 :])
                        break


class LookSearch:
    """From the candidates before a look to those that explain it.

    Args:
        steps: the steps of the program.
        lines: the lines written since the last look.
        snapshot: the processes seen at one moment since then.
    """

    def __init__(
        self, steps: StepTable, lines: tuple[outside.Line, ...], snapshot: Snapshot
    ) -> None:
        self._steps = steps
        self._lines = lines
        self._agrees = cache(snapshot.agrees)
        self._agrees_midway = snapshot.agrees_midway
        self._lacks_one = cache(snapshot.lacks_one)
        self._unsettled = Unsettled(steps)
        self._stack: list[Node] = []
        self._ended: set[Candidate] = set()

    def run(self, candidates: Iterable[Candidate]) -> set[Candidate]:
        """The candidates that explain the lines and, at one moment among them, the snapshot.

        Raises:
            TooManyCandidates: if there are more than LIMIT.
        """
        for candidate in candidates:
            self._begin(candidate)
        stack, seen, length = self._stack, set[Node](), len(self._lines)
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if len(seen) > LIMIT:
                raise TooManyCandidates
            state, number, at, agreed = node
            if not agreed and self._agrees(state):
                agreed = True
                node = (state, number, at, True)
                if node in seen:
                    continue
                seen.add(node)
            if agreed and at == length:
                self._ended.add(self._unsettled.candidate(state, number))
            else:
                self._expand(state, number, at, agreed)
        return self._ended

    def _begin(self, candidate: Candidate) -> None:
        """A step that is half done ends first; the snapshot's moment may lie before its end."""
        state, expected, clients, pending = candidate
        length = min(len(expected), len(self._lines))
        if not all(outside.is_same_line(expected[i], self._lines[i]) for i in range(length)):
            return
        if len(expected) > length:
            self._ended.add(candidate._replace(next_lines=expected[length:]))
            return
        number = self._unsettled.number(clients, pending)
        self._stack.append((state, number, length, False))
        if length and self._agrees_midway(state, state):
            self._stack.append((state, number, length, True))

    def _expand(self, state: int, number: int, at: int, agreed: bool) -> None:
        moves = self._steps.of(state)
        self._stack += [(after, number, at, agreed) for after in moves.silent]
        if not agreed:
            seen_midway = filter(self._lacks_one, moves.replacing)
            self._stack += [(after, number, at, True) for after in seen_midway]
        for move in moves.spoken:
            self._write(state, move, number, at, agreed)
        for move, after in self._unsettled.moves(state, number, moves):
            if move.lines:
                self._write(state, move, after, at, agreed)
            else:
                self._stack.append((move.after, after, at, agreed))

    def _write(self, state: int, move: Move, number: int, at: int, agreed: bool) -> None:
        """A step whose lines are the next ones, or whose first lines are the last ones seen."""
        expected, lines = move.lines, self._lines
        rest = len(lines) - at
        common = min(len(expected), rest)
        if not all(outside.is_same_line(expected[i], lines[at + i]) for i in range(common)):
            return
        # The snapshot's moment may lie between this step's line and its fork.
        midway = move.changes_children and not agreed and self._agrees_midway(state, move.after)
        if len(expected) <= rest:
            self._stack.append((move.after, number, at + len(expected), agreed))
            if midway:
                self._stack.append((move.after, number, at + len(expected), True))
        elif rest or midway:
            self._ended.add(self._unsettled.candidate(move.after, number, expected[rest:]))


def closure(steps: StepTable, candidates: Iterable[Candidate]) -> set[Candidate]:
    """Everything that can have happened since without writing a line.

    Raises:
        TooManyCandidates: if there are more than LIMIT.
    """
    found = set[Candidate]()
    unsettled = Unsettled(steps)
    stack: list[tuple[int, int]] = []
    for candidate in candidates:
        if candidate.next_lines:
            found.add(candidate)
        else:
            number = unsettled.number(candidate.clients, candidate.pending)
            stack.append((candidate.state, number))
    seen = set(stack)
    while stack:
        state, number = stack.pop()
        moves = steps.of(state)
        nexts = [(after, number) for after in moves.silent]
        nexts += [
            (move.after, after)
            for move, after in unsettled.moves(state, number, moves)
            if not move.lines
        ]
        for node in nexts:
            if node not in seen:
                seen.add(node)
                stack.append(node)
        if len(seen) + len(found) > LIMIT:
            raise TooManyCandidates
    found.update(unsettled.candidate(state, number) for state, number in seen)
    return found
