"""How two releases of a machine differ: what each can do that the other cannot.

Begin with `differences`. The machine is one text; a release fixes one of its parameters. What the
text can still do then is read off the folded guards and effects, without exploring.
"""

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pglife_spec.lang.expr import Assign, Const, EnumSort, Expr, Value, lift
from pglife_spec.lang.machine import Action, Effect, Emit, Machine
from pglife_spec.meanings.fold import Pool, settle
from pglife_spec.meanings.pack import label


class Aspect(enum.Enum):
    """What a difference is about, in the order of the report."""

    STEP = "steps"
    VALUE = "states"
    FORK = "forks"
    SIGNAL = "signals"
    MESSAGE = "messages"


@dataclass(frozen=True)
class Difference:
    """One thing that a machine can do in one release and not in the other.

    Args:
        aspect: what it is about.
        text: the action's statement, `pmState = PM_SHUTDOWN`, a signal, or a message.
        actions: in which actions it happens.
        rules: what these actions cite.
    """

    aspect: Aspect
    text: str
    actions: tuple[str, ...]
    rules: tuple[str, ...]


Things = dict[tuple[Aspect, str], dict[str, Action]]

_OF_EVIDENCE = {
    "fork": Aspect.FORK,
    "signal": Aspect.SIGNAL,
    "log": Aspect.MESSAGE,
    "refusal": Aspect.MESSAGE,
}


def differences(
    machine: Machine, one: Mapping[str, Value], other: Mapping[str, Value]
) -> tuple[list[Difference], list[Difference]]:
    """What only the first release can do, and what only the second can.

    Args:
        machine: the machine of all releases.
        one: the parameters that make it the first release's.
        other: those of the second.
    """
    first, second = _things(machine, one), _things(machine, other)
    return _only(first, second), _only(second, first)


def _only(these: Things, those: Things) -> list[Difference]:
    found = [
        Difference(
            aspect,
            text,
            tuple(dict.fromkeys(action.family for action in actions.values())),
            tuple(dict.fromkeys(id_ for action in actions.values() for id_ in action.rules)),
        )
        for (aspect, text), actions in these.items()
        if (aspect, text) not in those
    ]
    order = list(Aspect)
    return sorted(found, key=lambda each: order.index(each.aspect))


def _things(machine: Machine, params: Mapping[str, Value]) -> Things:
    """All that a machine can do with these parameters fixed, each with its actions."""
    pool = Pool()
    known = {
        param.name: pool.fold(lift(params[param.name]))
        for param in machine.params
        if param.name in params
    }
    found: Things = {}
    for action in machine.actions:
        guards = [pool.fold(guard, known) for guard in action.guards]
        if settle(pool, guards) is None:
            continue
        for thing in (
            (Aspect.STEP, action.doc),
            *_of_effects(pool, known, action.effects),
        ):
            found.setdefault(thing, {})[action.name] = action
    return found


def _of_effects(
    pool: Pool, known: Mapping[str, Expr], effects: Iterable[Effect]
) -> Iterator[tuple[Aspect, str]]:
    for effect in effects:
        match effect:
            case Assign(var, value):
                folded = pool.fold(value, known)
                if isinstance(var.sort, EnumSort) and isinstance(folded, Const):
                    yield Aspect.VALUE, f"{var.name} = {label(folded.value)}"
            case Emit(what, args):
                if what in _OF_EVIDENCE:
                    said = " ".join(label(a) if isinstance(a, str) else str(a) for a in args)
                    yield _OF_EVIDENCE[what], said
            case _:
                cond = pool.fold(effect.cond, known)
                if cond is not pool.false:
                    yield from _of_effects(pool, known, effect.then)
                if cond is not pool.true:
                    yield from _of_effects(pool, known, effect.other)
