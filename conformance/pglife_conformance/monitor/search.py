"""The search for everything that can have happened between two looks.

Begin with   LookSearch.run(), closure().
Owns         how lines and facts of a look are laid over the steps of the model.
Leaves out   the steps of one state (steps.py), what observations mean (judge.py).

A look tells lines of the log, and facts that held at one moment since the look before. A step of
the model is atomic, the server's is not: a look may fall into the middle of one, when some of its
lines are written and some are not, or a process is reaped and its line is not written yet. Such a
step is *in flight*: the element promises the labels that must come next.

Most of the suite's own time is spent here, so a node of the search is a plain tuple, and what few
steps change, clients and tokens, is a number in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from pglife_conformance.monitor.labels import Label, agree
from pglife_conformance.monitor.steps import (
    LIMIT,
    PENDING,
    Element,
    Facts,
    Move,
    Moves,
    Outcome,
    Steps,
    TooMany,
)

Clients = tuple[tuple[int, Outcome], ...]
Tokens = tuple[frozenset[int], ...]
Node = tuple[int, int, int, bool]
"""State, number of what is open, lines told so far, whether the facts have held."""


class Open:
    """What is open in an element besides its state: clients without answer, and tokens."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._numbers: dict[tuple[Clients, Tokens], int] = {}
        self._pairs: list[tuple[Clients, Tokens]] = []

    def number(self, clients: Clients, tokens: Tokens) -> int:
        """A number that stands for both."""
        pair = clients, tokens
        found = self._numbers.get(pair)
        if found is None:
            found = self._numbers[pair] = len(self._pairs)
            self._pairs.append(pair)
        return found

    def element(self, state: int, number: int, promised: tuple[Label, ...] = ()) -> Element:
        """With what is open put back."""
        return Element(state, promised, *self._pairs[number])

    def moves(self, state: int, number: int, moves: Moves) -> Iterator[tuple[Move, int]]:
        """The steps that take a client that waits or a token, and what is open after each."""
        clients, tokens = self._pairs[number]
        waits = [place for place, (_, told) in enumerate(clients) if told == PENDING]
        if waits:
            place = waits[0]
            for move in moves.admissions:
                told = (clients[place][0], self._steps.decision(move.action, state))
                after = (*clients[:place], told, *clients[place + 1 :])
                yield move, self.number(after, tokens)
        if tokens:
            for move in moves.by_token:
                for place, token in enumerate(tokens):
                    if move.action in token:
                        yield move, self.number(clients, tokens[:place] + tokens[place + 1 :])
                        break


class LookSearch:
    """From elements before a look to those that explain it."""

    def __init__(self, steps: Steps, lines: tuple[Label, ...], facts: Facts) -> None:
        self._steps = steps
        self._lines = lines
        self._exactly = cache(facts.exactly)
        self._midway = facts.midway
        self._open = Open(steps)
        self._stack: list[Node] = []
        self._ended: set[Element] = set()

    def run(self, elements: Iterable[Element]) -> set[Element]:
        """The elements that explain the lines, and facts that held at some moment among them.

        Raises:
            TooMany: if there are more than can be followed.
        """
        for element in elements:
            self._keep_promise(element)
        stack, seen, length = self._stack, set[Node](), len(self._lines)
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if len(seen) > LIMIT:
                raise TooMany
            state, number, at, agreed = node
            if not agreed and self._exactly(state):
                agreed = True
                node = (state, number, at, True)
                if node in seen:
                    continue
                seen.add(node)
            if agreed and at == length:
                self._ended.add(self._open.element(state, number))
            else:
                self._expand(state, number, at, agreed)
        return self._ended

    def _keep_promise(self, element: Element) -> None:
        """A step in flight goes on: its labels come first; the facts may lie before its end."""
        state, promised, clients, tokens = element
        length = min(len(promised), len(self._lines))
        if not all(agree(promised[i], self._lines[i]) for i in range(length)):
            return
        if len(promised) > length:
            self._ended.add(element._replace(promised=promised[length:]))
            return
        number = self._open.number(clients, tokens)
        self._stack.append((state, number, length, False))
        if length and self._midway(state, state):
            self._stack.append((state, number, length, True))

    def _expand(self, state: int, number: int, at: int, agreed: bool) -> None:
        moves = self._steps.of(state)
        self._stack += [(after, number, at, agreed) for after in moves.silent]
        for move in moves.spoken:
            self._speak(state, move, number, at, agreed)
        for move, after in self._open.moves(state, number, moves):
            if move.labels:
                self._speak(state, move, after, at, agreed)
            else:
                self._stack.append((move.after, after, at, agreed))

    def _speak(self, state: int, move: Move, number: int, at: int, agreed: bool) -> None:
        """A step that leaves lines: those that come next, or begins to."""
        labels, lines = move.labels, self._lines
        rest = len(lines) - at
        common = min(len(labels), rest)
        if not all(agree(labels[i], lines[at + i]) for i in range(common)):
            return
        # The moment of the facts may lie between this step's line and its fork.
        midway = move.changes_kids and not agreed and self._midway(state, move.after)
        if len(labels) <= rest:
            self._stack.append((move.after, number, at + len(labels), agreed))
            if midway:
                self._stack.append((move.after, number, at + len(labels), True))
        elif rest or midway:
            self._ended.add(self._open.element(move.after, number, labels[rest:]))


def closure(steps: Steps, elements: Iterable[Element]) -> set[Element]:
    """Everything that can have happened since, without leaving a line.

    Raises:
        TooMany: if there are more than can be followed.
    """
    found = set[Element]()
    open_ = Open(steps)
    stack: list[tuple[int, int]] = []
    for element in elements:
        if element.promised:
            found.add(element)
        else:
            stack.append((element.state, open_.number(element.clients, element.tokens)))
    seen = set(stack)
    while stack:
        state, number = stack.pop()
        moves = steps.of(state)
        nexts = [(after, number) for after in moves.silent]
        nexts += [
            (move.after, after)
            for move, after in open_.moves(state, number, moves)
            if not move.labels
        ]
        for node in nexts:
            if node not in seen:
                seen.add(node)
                stack.append(node)
        if len(seen) + len(found) > LIMIT:
            raise TooMany
    found.update(open_.element(state, number) for state, number in seen)
    return found
