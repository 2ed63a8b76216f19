"""Native code against generated Python and the interpreter: the same graph in the same order."""

import contextlib
import signal
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_operators import PARAMS, SLOW, effects, exprs
from toy import ACTIONS, CLAIMS, GONE, PATIENT, SMALL, TOY, action, clients, signalled

from pglife_spec import CONFIGS
from pglife_spec import machine as postgres
from pglife_spec.explore import explore, search
from pglife_spec.explore.search import Stop
from pglife_spec.explore.space import PythonSpace
from pglife_spec.lang.expr import Var
from pglife_spec.lang.machine import Actor, Config
from pglife_spec.meanings.interpret import CountBelowZeroError, false_guards, take
from pglife_spec.meanings.store import CodeStore
from pglife_spec.postgres.state.postmaster import EXITED

numpy = pytest.importorskip("numpy", reason="native code needs the extra `fast`")
pytest.importorskip("llvmlite", reason="native code needs the extra `fast`")


def both(machine, config, **options):
    """An exploration in Python, and the same natively with one thread and with two."""
    found = explore(machine, config, native=False, **options)
    for threads in (1, 2):
        other = explore(machine, config, native=True, threads=threads, **options)
        same(found, other)
    return found


def same(found, other):
    said = [
        (f.levels, f.taken, f.cuts, f.underflows, f.violated, f.witnessed, f.deadlocks, f.finals)
        for f in (found, other)
    ]
    assert said[0] == said[1]
    assert list(found.space) == list(other.space)
    one, two = found.graph(), other.graph()
    assert one.levels == two.levels
    assert one.expanded == two.expanded
    for name in ("states", "parents", "first", "targets", "actions"):
        assert numpy.array_equal(getattr(one, name), getattr(two, name)), name


@pytest.mark.parametrize("config", [SMALL, PATIENT], ids=lambda c: c.name)
def test_the_toy_machine(config):
    assert both(TOY, config, final=GONE).states == 26


def test_cuts_underflows_and_deadlocks():
    lose = action("lose", Actor.CLIENT, [], [signalled.becomes(signalled - 1)])
    wide = replace(SMALL, params={"max_connections": 9, "patient": False})
    found = both(TOY.with_actions([*ACTIONS, lose]), wide)
    assert any(found.cuts)
    assert found.underflows
    stuck = TOY.with_actions(a for a in ACTIONS if a.name != "leave")
    assert both(stuck, SMALL, final=GONE).deadlocks


def test_a_claim_that_fails_has_the_same_nearest_state():
    wrong = replace(CLAIMS[1], holds=clients <= 1)
    assert both(TOY, SMALL, claims=[wrong]).violated


@pytest.mark.parametrize("limit", [1, 4, 20])
def test_a_search_that_stops_early(limit):
    assert not both(TOY, SMALL, limit=limit).complete


def test_states_of_many_words_and_more_claims_than_a_word_has_bits():
    extra = tuple(Var(f"x{i}", clients.sort, bound=f"x{i}") for i in range(60))
    bounds = SMALL.bounds | {v.name: 3 for v in extra}
    raises = [action(f"raise{i}", Actor.CLIENT, [], [extra[i].becomes(1)]) for i in (0, 29, 59)]
    machine = replace(
        TOY,
        variables=(*TOY.variables, *extra),
        init=(*TOY.init, *(v == 0 for v in extra)),
        actions=(*TOY.actions, *raises),
        claims=tuple(
            replace(CLAIMS[0], name=f"c{i}", holds=v == 0, reaches=v == 1)
            for i, v in enumerate(extra)
        )
        + CLAIMS,
    )
    found = both(machine, Config("wide", SMALL.params, bounds))
    assert found.states == 26 * 8
    assert set(found.violated) == {"c0", "c29", "c59"}
    assert {"c0", "c29", "c59"} <= set(found.witnessed)


ACTORS = st.sampled_from([Actor.CHILD, Actor.POSTMASTER, Actor.CLIENT])


@settings(SLOW, max_examples=40)
@given(
    steps=st.lists(
        st.tuples(ACTORS, st.lists(exprs("bool", 2), max_size=2), effects(2)),
        min_size=1,
        max_size=4,
    ),
    params=PARAMS,
    claim=exprs("bool", 3),
)
def test_random_machines(steps, params, claim):
    """Native, Python and, state by state, the interpreter."""
    actions = [action(f"a{i}", *step) for i, step in enumerate(steps)]
    machine = replace(
        TOY.with_actions(actions), claims=(replace(CLAIMS[0], holds=claim, reaches=~claim),)
    )
    config = Config("random", params, SMALL.bounds)
    found = both(machine, config)
    program = found.program
    for state in list(found.space)[:20]:
        values = program.unpack(state)
        for index, after in program.successors(state):
            assert not false_guards(actions[index], values, params)
            # A count that is below zero only on the way is a mistake for the interpreter alone.
            with contextlib.suppress(CountBelowZeroError):
                assert program.unpack(after) == take(actions[index], values, params).after


@pytest.mark.parametrize("name", [n for n in CONFIGS if n.startswith(("tiny", "forks-fail"))])
def test_small_configurations_of_the_model(name):
    """The default goes native for a machine of this size."""
    found = explore(postgres(), CONFIGS[name], final=EXITED, native=False, limit=4_000)
    same(found, explore(postgres(), CONFIGS[name], final=EXITED, limit=4_000))


def test_compiled_code_is_kept_and_a_broken_object_is_compiled_anew(tmp_path):
    store = CodeStore(tmp_path)
    first = explore(TOY, SMALL, native=True, store=store)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert kept
    for path in kept:
        path.write_bytes(b"broken")
    same(first, explore(TOY, SMALL, native=True, store=store))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize("native", [False, True])
def test_a_search_stops_before_it_takes_too_much_memory(native):
    found = explore(TOY, SMALL, native=native, max_memory=1)
    assert found.stopped is Stop.MEMORY
    assert found.expanded < found.states


@pytest.mark.parametrize("native", [False, True])
def test_ctrl_c_leaves_what_was_seen(native):
    wide = replace(SMALL, bounds={"clients": 200}, params={"max_connections": 200, "patient": True})

    def interrupt(progress):
        if progress.depth == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "REPORT_EVERY", 0)
        found = explore(TOY, wide, native=native, progress=interrupt)
    assert found.stopped is Stop.INTERRUPTED
    assert sum(found.levels) == found.states
    assert 0 < found.expanded < found.states
    assert len(found.graph().first) == found.states + 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_llvmlite_the_search_goes_on_in_python(monkeypatch):
    monkeypatch.setattr(search, "WORTH_IT", 10)
    found = explore(TOY, SMALL)
    assert not isinstance(found.space, PythonSpace)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    fallback = explore(TOY, SMALL)
    assert isinstance(fallback.space, PythonSpace)
    same(fallback, found)
