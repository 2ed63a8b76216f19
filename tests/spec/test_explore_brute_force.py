"""The search for fair lassos against the definition, on random machines of six states."""

import enum
import itertools
import random

import pytest
from toy import action

from pglife_spec.explore import check_property, explore
from pglife_spec.lang.expr import EnumSort, Var, in_, ite
from pglife_spec.lang.machine import Actor, Config, Fairness, Machine, Property
from pglife_spec.traces.trace import replay

Node = enum.Enum("Node", [f"N{i}" for i in range(6)], start=0)
NODES = tuple(Node)
x = Var("x", EnumSort(Node))
CONFIG = Config("all", {})


def leads(targets):
    """The expression that maps each source to its target."""
    value = x
    for source, target in targets.items():
        value = ite(x == source, target, value)
    return value


def random_case(seed):
    """A machine and a property, with the same as plain data: edges by action, sets of nodes."""
    rng = random.Random(seed)
    edges = {}
    actions = []
    for index in range(rng.randrange(2, 6)):
        targets = {n: rng.choice(NODES) for n in rng.sample(NODES, rng.randrange(1, 5))}
        actor = rng.choice([Actor.CHILD, Actor.POSTMASTER, Actor.CLIENT])
        name = f"a{index}"
        actions.append(action(name, actor, [in_(x, *targets)], [x.becomes(leads(targets))]))
        edges[name] = (actor.is_environment, targets)
    fair = {name for name in edges if rng.random() < 0.5}
    # A cycle may have a step of the environment only if the property relies on it.
    edges = {name: (env and name not in fair, t) for name, (env, t) in edges.items()}
    given = set(rng.sample(NODES, rng.randrange(1, 4)))
    then = set(rng.sample(NODES, rng.randrange(0, 3)))
    prop = Property(
        "p",
        (),
        "",
        "",
        in_(x, *given),
        in_(x, *then),
        (Fairness("f", "", lambda a: a.name in fair),),
    )
    machine = Machine("random", (x,), (), (), (x == NODES[0],), tuple(actions))
    return machine, prop, edges, fair, given, then


def reach(starts, steps):
    seen, todo = set(starts), list(starts)
    while todo:
        for after in steps(todo.pop()):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return seen


def breaks(edges, fair, given, then):
    """By the definition: some fair cycle, or rest, among states pending since `given`."""

    def every(node):
        return [t[node] for _, t in edges.values() if node in t]

    pending = reach(
        (reach({NODES[0]}, every) & given) - then, lambda n: [t for t in every(n) if t not in then]
    )
    for size in range(1, len(pending) + 1):
        for chosen in itertools.combinations(sorted(pending, key=NODES.index), size):
            if is_fair_cycle(set(chosen), edges, fair):
                return True
    return False


def is_fair_cycle(cycle, edges, fair):
    def inside(node):
        return [t[node] for env, t in edges.values() if not env and t.get(node) in cycle]

    if len(cycle) > 1 and any(reach({node}, inside) != cycle for node in cycle):
        return False
    for name in fair:
        env, targets = edges[name]
        taken = not env and any(n in targets and targets[n] in cycle for n in cycle)
        disabled = any(n not in targets for n in cycle)
        if not (taken or disabled):
            return False
    return True


@pytest.mark.parametrize("block", range(10))
def test_a_lasso_is_found_exactly_where_the_definition_has_one(block):
    seen = set()
    for seed in range(60 * block, 60 * block + 60):
        machine, prop, edges, fair, given, then = random_case(seed)
        said = check_property(explore(machine, CONFIG), prop)
        expected = breaks(edges, fair, given, then)
        assert (said.lasso is not None) == expected, seed
        seen.add(expected)
        if said.lasso is not None:
            check_lasso(machine, said.lasso, edges, fair, given, then)
    assert seen == {False, True}


def check_lasso(machine, lasso, edges, fair, given, then):
    """The lasso is a run; its cycle is fair, pending since `given`, and the environment rests."""
    assert replay(machine, CONFIG, lasso).explained
    nodes = [m.state["x"] for m in lasso.moments]
    cycle = nodes[lasso.loop :]
    since = max(i for i, n in enumerate(nodes[: lasso.loop + 1]) if n in given)
    assert not set(nodes[since:]) & then
    steps = [m.action for m in lasso.moments[lasso.loop + 1 :]]
    closing = [
        name
        for name, (env, targets) in edges.items()
        if not env and targets.get(cycle[-1]) is cycle[0]
    ]
    if len(cycle) > 1:
        assert closing
    assert not any(edges[name][0] for name in steps)
    for name in fair:
        disabled = any(node not in edges[name][1] for node in cycle)
        assert disabled or name in steps or name in closing
