"""Who can block a state, and what ends the wait: from every state and step of an exploration.

Begin with blocks(). A process blocks where the state cannot be left unless it takes a step; then
its step ends the wait, or SIGKILL, or its client. Where nothing does, the model names who is
awaited.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pglife_spec.explore.graph import WORD, Graph
from pglife_spec.explore.search import Exploration
from pglife_spec.lang.expr import Expr, Value, Var
from pglife_spec.lang.machine import Action, Actor
from pglife_spec.meanings.pack import label

Mask = npt.NDArray[np.bool_]
NONE = "none"
"""In place of a process where a state waits for ever and for no process."""


@dataclass(frozen=True)
class Parties:
    """Who waits, and for whom.

    Args:
        state: the variable whose values are the rows.
        waiting: where the process with this state waits for others.
        lives: for each other process, and each place in its life, whether one is there.
        owner: the process whose own step an action is.
        timer: the action that ends waits by force.
        awaited: the processes that a state waits for; asked where nothing moves any more.
    """

    state: Var
    waiting: Expr
    lives: Mapping[str, Mapping[str, Expr]]
    owner: Callable[[Action], str | None]
    timer: str
    awaited: Callable[[Mapping[str, Value], Mapping[str, Value]], Collection[str]]


@dataclass(frozen=True)
class Block:
    """That a process can block a state.

    Args:
        state: the value of the waiting process's state.
        process: who blocks it.
        life: where that process is in its life.
        ends: what ends the wait: families of its own actions, the timer's, a client's; empty
            where nothing does.
        rules: the rules that these actions cite.
        forced: whether the timer's action ends it too: always, sometimes or never.
        nearest: for a wait without end, the nearest state of the exploration with it.
    """

    state: str
    process: str
    life: str
    ends: tuple[str, ...]
    rules: tuple[str, ...]
    forced: str
    nearest: int | None = None


class Steps:
    """The steps of an explored graph, with what they are and how they change one variable."""

    def __init__(self, found: Exploration, state: Var) -> None:
        graph = found.graph()
        self.found, self.graph = found, graph
        self.source = np.repeat(np.arange(len(graph)), np.diff(graph.first))
        kept = graph.targets >= 0
        self.source, self.target = self.source[kept], graph.targets[kept]
        self.action = graph.actions[kept].astype(np.int64)
        self.values = _values(found, graph, state)
        field = found.program.layout.by_name[state.name]
        self.names = [label(field.value(code)) for code in range(field.top + 1)]
        self.leaves: Mask = self.values[self.source] != self.values[self.target]

    def chosen(self, selects: Callable[[Action], bool]) -> Mask:
        """The steps of the actions that are selected."""
        return np.array([selects(a) for a in self.found.program.actions])[self.action]

    def can_leave(self, steps: Mask) -> Mask:
        """The states whose value these steps alone can change."""
        can = np.zeros(len(self.graph), dtype=np.bool_)
        can[self.source[steps & self.leaves]] = True
        source, target = self.source[steps & ~self.leaves], self.target[steps & ~self.leaves]
        while True:
            new = source[can[target] & ~can[source]]
            if not len(new):
                return can
            can[new] = True


def _values(found: Exploration, graph: Graph, state: Var) -> npt.NDArray[np.uint64]:
    field = found.program.layout.by_name[state.name]
    word, shift = divmod(field.offset, WORD)
    return graph.states[:, word] >> np.uint64(shift) & np.uint64(field.mask)


def blocks(found: Exploration, parties: Parties) -> list[Block]:
    """Each state with who can block it, and by what the wait ends, in order of declaration."""
    steps = Steps(found, parties.state)
    waits = _Waits(steps, parties, found.bits([parties.waiting]) == 1)
    return [*(block for process in parties.lives for block in waits.of(process)), *waits.of_none()]


class _Waits:
    """What each set of steps alone can leave."""

    def __init__(self, steps: Steps, parties: Parties, waiting: Mask) -> None:
        self.steps, self.parties, self.waiting = steps, parties, waiting
        self.own = steps.chosen(lambda a: not a.actor.is_environment)
        self.timer = steps.chosen(lambda a: a.name == parties.timer)
        self.clients = steps.chosen(lambda a: a.actor is Actor.CLIENT)
        self.by_itself = steps.can_leave(self.own & ~self.timer)
        self.by_force = steps.can_leave(self.own)
        self.by_client = steps.can_leave(self.own | self.clients)

    def of(self, process: str) -> Iterator[Block]:
        """The states that one process can block."""
        steps = self.steps
        its = steps.chosen(lambda a: self.parties.owner(a) == process)
        blocked = self.waiting & ~steps.can_leave(self.own & ~self.timer & ~its)
        killed = steps.can_leave(self.own & ~its)
        acts = np.zeros(len(steps.graph), dtype=np.bool_)
        acts[steps.source[its]] = True
        lives = self.parties.lives[process]
        bits = steps.found.bits(list(lives.values()))
        for place, life in enumerate(lives):
            here = blocked & (bits >> np.uint64(place) & np.uint64(1) == 1)
            for value in np.unique(steps.values[here]).tolist():
                states = here & (steps.values == value)
                where = steps.names[value], process, life
                ends = self._ends(its, states, process)
                if ends:
                    rules = dict.fromkeys(rule for action in ends.values() for rule in action.rules)
                    part = killed[states & (self.by_itself | self.by_force)]
                    forced = "sometimes" if part.any() else "never"
                    if part.any() and part.all():
                        forced = "always"
                    yield Block(*where, tuple(ends), tuple(rules), forced)
                nearest = self._awaited(process, states & ~self.by_client & ~acts)
                if nearest is not None:
                    yield Block(*where, (), (), "never", nearest)

    def of_none(self) -> Iterator[Block]:
        """The states that nothing ends although they wait for no process."""
        steps, program = self.steps, self.steps.found.program
        moves = np.zeros(len(steps.graph), dtype=np.bool_)
        moves[steps.source[self.own]] = True
        stuck = self.waiting & ~self.by_client & ~moves
        for value in np.unique(steps.values[stuck]).tolist():
            for index in np.flatnonzero(stuck & (steps.values == value)).tolist():
                state = program.unpack(steps.graph.state(index))
                if not self.parties.awaited(state, program.config.params):
                    yield Block(steps.names[value], NONE, NONE, (), (), "never", int(index))
                    break

    def _ends(self, its: Mask, states: Mask, process: str) -> dict[str, Action]:
        """The actions that end the wait for a process in these states, by family."""
        steps, actions = self.steps, self.steps.found.program.actions
        taken = its & states[steps.source] & self.by_itself[steps.source]
        only_client = states & ~self.by_force & self.by_client
        if self._awaited(process, only_client) is not None:
            taken |= self.clients & only_client[steps.source] & self.by_force[steps.target]
        ends = {actions[i].family: actions[i] for i in np.unique(steps.action[taken]).tolist()}
        if (states & ~self.by_itself & self.by_force).any():
            ends |= {a.family: a for a in actions if a.name == self.parties.timer}
        return ends

    def _awaited(self, process: str, states: Mask) -> int | None:
        """The nearest of some states that waits for a process."""
        program = self.steps.found.program
        for index in np.flatnonzero(states).tolist():
            state = program.unpack(self.steps.graph.state(index))
            if process in self.parties.awaited(state, program.config.params):
                return int(index)
        return None
