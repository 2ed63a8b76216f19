"""Who waits for whom: why a server that is at rest stays there. Begin with explain().

The postmaster waits for a child if its state machine would go on were all children reaped, but
not with this one. A finding is named where its repair would have changed the run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

from pglife_spec.lang.expr import Assign, Expr, Value
from pglife_spec.lang.machine import Action, Actor, Effect, Emit, Machine, When
from pglife_spec.lang.walk import names_in
from pglife_spec.meanings.interpret import false_guards, place, take
from pglife_spec.meanings.pack import label
from pglife_spec.postgres.actions.state_machine import state_machine
from pglife_spec.postgres.state.children import COUNT, COUNTED_LIVES, LIFE
from pglife_spec.postgres.state.postmaster import EXIT, FATAL_ERROR, SHUTDOWN, STATE
from pglife_spec.postgres.words import Exit, Kind, Life, Shutdown
from pglife_spec.postgres.words.kinds import COUNTED
from pglife_spec.postgres.words.repairs import FINDINGS, PREFIX
from pglife_spec.traces.trace import Trace

State = Mapping[str, Value]

_RUNS = Action("state_machine", "state_machine", Actor.POSTMASTER, "", "", (), (), state_machine())
"""The state machine by itself, whatever has called it."""


def _mentioned(effects: Iterable[Effect]) -> Iterator[str]:
    for effect in effects:
        match effect:
            case Assign(var, value):
                yield from (var.name, *names_in(value))
            case When(cond, then, other):
                yield from names_in(cond)
                yield from _mentioned((*then, *other))
            case Emit(_, args):
                yield from names_in(*(arg for arg in args if isinstance(arg, Expr)))


_CHILDREN = (*LIFE.values(), *COUNT.values())
_READ = {v.name for v in (STATE, EXIT, *_CHILDREN)} | set(_mentioned(_RUNS.effects))
"""What the state machine reads; states that agree on it wait for the same children."""


def lives(kind: Kind, state: State) -> dict[Life, int]:
    """How many children of a kind are on record, by where each is in its life."""
    if kind in LIFE:
        life = state[LIFE[kind].name]
        assert isinstance(life, Life)
        return {} if life is Life.ABSENT else {life: 1}
    numbers = {life: place(state[COUNT[kind, life].name]) for life in COUNTED_LIVES}
    return {life: number for life, number in numbers.items() if number}


def awaited(state: State, params: State) -> tuple[Kind, ...]:
    """The kinds without whose reaping the state machine does not go on."""
    read = {name: value for name, value in state.items() if name in _READ}
    return _awaited(tuple(read.items()), tuple(params.items()))


@cache
def _awaited(
    state_: tuple[tuple[str, Value], ...], params_: tuple[tuple[str, Value], ...]
) -> tuple[Kind, ...]:
    state, params = dict(state_), dict(params_)
    if not _goes_on(_only((), state), params):
        return ()
    recorded = [kind for kind in Kind if lives(kind, state)]
    return tuple(kind for kind in recorded if not _goes_on(_only((kind,), state), params))


def _only(kinds: Sequence[Kind], state: State) -> State:
    """The state with all children reaped but those of these kinds."""
    reaped: dict[str, Value] = {}
    for kind in set(Kind) - set(kinds):
        if kind in COUNTED:
            reaped |= {COUNT[kind, life].name: 0 for life in COUNTED_LIVES}
        else:
            reaped[LIFE[kind].name] = Life.ABSENT
    return {**state, **reaped}


def _goes_on(state: State, params: State) -> bool:
    after = take(_RUNS, state, params).after
    return any(after[var.name] != state[var.name] for var in (STATE, EXIT))


def explain(machine: Machine, trace: Trace) -> list[str]:
    """Why a lasso goes on for ever, one line for each process and one for the finding."""
    if trace.loop is None:
        return []
    last = trace.moments[-1].state
    lines = [_postmaster(last)]
    waits_for = awaited(last, trace.params)
    for kind in Kind:
        for life, number in lives(kind, last).items():
            many = f"{number} x " if number > 1 else ""
            role = "waits for" if kind in waits_for else "does not wait for"
            lines.append(f"{role} {many}{kind.value}: {life.value}{_signals(kind, life, trace)}")
    if last[EXIT.name] is Exit.ALIVE and not waits_for:
        lines.append("waits for no child: no step of its own is left")
    return [*lines, _finding(machine, trace)]


def _postmaster(state: State) -> str:
    if state[EXIT.name] is not Exit.ALIVE:
        return "the postmaster has exited"
    said = f"the postmaster is in {label(state[STATE.name])}"
    if state[SHUTDOWN.name] is not Shutdown.NoShutdown:
        said += f", Shutdown = {label(state[SHUTDOWN.name])}"
    return said + (", FatalError" if state[FATAL_ERROR.name] is True else "") + ", and"


def _signals(kind: Kind, life: Life, trace: Trace) -> str:
    """The signals that the newest child of a kind was sent, with the steps."""
    sent: list[str] = []
    for index, moment in enumerate(trace.moments):
        for what, *details in moment.evidence:
            if what == "fork" and details[:1] == [kind.name]:
                sent = []
            elif what == "signal" and details[1:] == [kind.name]:
                sent.append(f"{details[0]} in step {index}")
    if not sent:
        return "; no signal"
    return f"; {', '.join(sent)}" + (", which does not end it" if life is Life.RUNNING else "")


def findings(machine: Machine, trace: Trace) -> tuple[str, ...]:
    """The findings whose repair would have changed a run that ends in a wait."""
    repairs = _repairs(machine, trace)
    return tuple(dict.fromkeys(number for name in repairs for number in FINDINGS[name]))


def _repairs(machine: Machine, trace: Trace) -> list[str]:
    off = [name for name in FINDINGS if trace.params.get(name) is False]
    return [name for name in off if _differs(machine, trace, {**trace.params, name: True})]


def _finding(machine: Machine, trace: Trace) -> str:
    repairs = _repairs(machine, trace)
    if not repairs:
        return "no repair of a known finding changes this run"
    numbers = " or ".join(findings(machine, trace))
    names = ", ".join(name.removeprefix(PREFIX) for name in repairs)
    return f"known as {numbers} in docs/findings.md; changed by repair {names}"


def _differs(machine: Machine, trace: Trace, params: State) -> bool:
    """Whether the same steps are impossible under these parameters, or do not end in a wait."""
    actions = {action.name: action for action in machine.actions}
    state = trace.moments[0].state
    for moment in trace.moments[1:]:
        action = actions[moment.action or ""]
        if false_guards(action, state, params):
            return True
        state = take(action, state, params).after
    last = trace.moments[-1].state
    if any(state[var.name] != last[var.name] for var in (STATE, EXIT)):
        return True
    own = [action for action in machine.actions if not action.actor.is_environment]
    return any(
        not false_guards(action, state, params) and false_guards(action, last, trace.params)
        for action in own
    )
