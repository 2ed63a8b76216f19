"""Learning lemmas: what a sample teaches, what is only chance, what the filter drops."""

from toy import CLAIMS, SMALL, TOY, Child, Pm, claim, clients, pm, signalled

from pglife_spec.lang.expr import implies
from pglife_spec.meanings.python.program import compile_machine
from pglife_spec.prove.houdini import Houdini, bits
from pglife_spec.prove.lemmas import Among, Some, Vocabulary, Zero
from pglife_spec.prove.mine import never_together
from pglife_spec.prove.sample import Sample, configurations, reached, sample, single_facts

FACTS = single_facts(TOY, {})


def fact(name, member):
    return Among(name, frozenset({list(type(member)).index(member)}))


def mask(*facts):
    return sum(1 << FACTS.index(f) for f in facts)


START, RUN = fact("pm.state", Pm.START), fact("pm.state", Pm.RUN)
DEAD = fact("writer", Child.DEAD)


def test_random_configurations_keep_to_the_assumptions():
    made = configurations(TOY, {"patient": True}, 5)
    assert len(made) == 5
    assert all(c.params["max_connections"] >= 1 and c.params["patient"] is True for c in made)


def test_all_states_are_reached_where_there_are_few():
    program = compile_machine(TOY, SMALL)
    seen, level = set(program.initial), list(program.initial)
    while level:
        level = [t for s in level for _, t in program.successors(s) if t not in seen]
        level = list(dict.fromkeys(level))
        seen.update(level)
    assert reached(program, limit=10**6) == sorted(seen)


def test_the_table_tells_in_which_states_facts_hold():
    program = compile_machine(TOY, SMALL)
    states = reached(program, limit=10**6)
    table = Sample(TOY, FACTS)
    table.learn(program, states[:7])
    table.learn(program, states[7:])
    assert table.states == len(states)
    values = [program.unpack(s) for s in states]
    for at, single in enumerate(FACTS):
        if single.name in values[0]:
            holds = [str(v[single.name]) for v in values]
            met = [place for place in range(len(states)) if table.where[at] >> place & 1]
            wanted = Vocabulary(TOY).show
            assert len(met) == sum(_is(single, v[single.name]) for v in values), (wanted, holds)
            assert all(_is(single, values[place][single.name]) for place in met)


def _is(single, value):
    if isinstance(single, Among):
        code = list(type(value)).index(value) if isinstance(value, Pm | Child) else int(value)
        return code in single.codes
    return (value == 0) == isinstance(single, Zero)


def test_what_never_meets_is_found_smallest_sets_first():
    table = sample(TOY, {}, configurations(TOY, {}, 8), 5000)
    found = never_together(table, frozenset(p.name for p in TOY.params))
    sizes = [len(never) for never in found]
    assert sizes == sorted(sizes)
    index = {f: at for at, f in enumerate(table.facts)}
    for never in found:
        assert not table.together(never)
        names = [table.facts[at].name for at in never]
        assert len(set(names)) == len(names)
    assert frozenset({index[RUN], index[Some("clients_signalled")]}) in found


def test_the_filter_drops_what_a_step_breaks():
    """No client connects before RUN; a client breaks the lemma that no client ever connects."""
    true, false = mask(START, Some("clients_signalled")), mask(Some("clients"))
    filter_ = Houdini(TOY, {}, FACTS, [])
    assert filter_.settle([true, false]) == []
    helped = mask(RUN, Some("clients_signalled"))
    assert Houdini(TOY, {}, FACTS, []).settle([helped, false]) == []
    dead = mask(fact("pm.state", Pm.GONE), DEAD)
    assert Houdini(TOY, {}, FACTS, []).settle([dead, false]) == [dead]


def test_only_what_a_proof_needs_is_taken():
    """The claim needs one of the two; both hold."""
    machine = TOY.with_actions(TOY.actions)
    wanted = claim("signalled_means_stopped", implies(pm == Pm.RUN, signalled == 0), clients >= 1)
    machine = type(machine)(**{**vars(machine), "claims": (wanted,)})
    needed = mask(START, Some("clients_signalled"))
    useless = mask(fact("pm.state", Pm.GONE), DEAD)
    assert Houdini(machine, {}, FACTS, [useless, needed]).suffice() == [needed]


def test_where_nothing_needs_help_nothing_is_taken():
    assert len(CLAIMS) == 2
    assert Houdini(TOY, {}, FACTS, [mask(START, DEAD)]).suffice() == []


def test_bits_are_the_places_of_ones():
    assert list(bits(0b10110)) == [1, 2, 4]
    assert list(bits(0)) == []
