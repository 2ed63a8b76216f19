"""Proofs of small machines: what is inductive, what needs a lemma, what is false."""

from dataclasses import replace

import pytest
from toy import TOY, Pm, action, claim, clients, pm, signalled

from pglife_spec.lang.expr import FALSE, LanguageError, implies
from pglife_spec.lang.machine import Actor
from pglife_spec.meanings.interpret import false_guards, holds, take
from pglife_spec.prove import EvaluatorsDisagreeError, ProofError, Status, check, prove, prove_each
from pglife_spec.prove import counterexample as counterexample_module
from pglife_spec.prove.learn import file_for, fingerprint, learn
from pglife_spec.prove.lemmas import Among, AtMost, Lemma, Some, Vocabulary, Zero, gather
from pglife_spec.prove.report import COUNTS, INIT

WORDS = Vocabulary(TOY)


def with_claims(*claims, machine=TOY):
    return replace(machine, claims=claims)


def status(report):
    return {c.name: c.status for c in report.claims}


def test_the_obligation_table_is_complete():
    report = check(TOY)
    rows = {c.name for c in TOY.claims} | {COUNTS}
    columns = {a.name for a in TOY.actions} | {INIT}
    assert {(o.claim, o.action) for o in report.obligations} == {
        (r, c) for r in rows for c in columns
    }
    assert len(report.obligations) == len(rows) * len(columns)


def test_the_limit_holds_for_every_limit_once_signalled_clients_count():
    """`clients <= limit` is kept by every action for any number of clients and any limit."""
    report = check(TOY)
    assert status(report)["limit_is_kept"] is Status.PROVED
    assert status(report)[COUNTS] is Status.PROVED


def test_a_false_claim_has_a_counterexample_that_replays():
    wrong = claim("no_client_is_signalled", signalled == 0, signalled >= 1)
    report = check(with_claims(wrong))
    assert not report.proved
    (found,) = report.counterexamples
    assert (found.claim, found.action) == ("no_client_is_signalled", "shut_down")
    step = TOY.action(found.action)
    assert not false_guards(step, found.before, found.params)
    assert take(step, found.before, found.params).after == found.after
    assert holds(wrong.holds, found.before, found.params)
    assert not holds(wrong.holds, found.after, found.params)


def test_a_counterexample_is_small():
    """One client is enough, the limit is the least that allows it, and the writer is left out."""
    (found,) = check(
        with_claims(claim("no_client_is_signalled", signalled == 0, signalled >= 1))
    ).counterexamples
    assert found.before["clients"] == 1
    assert found.params["max_connections"] == 1
    assert "writer" not in found.relevant
    assert "writer = " not in found.text()
    assert "clients_signalled: 0 -> 1" in found.text()


def test_a_claim_that_is_false_initially_is_reported():
    report = check(with_claims(claim("runs", pm == Pm.RUN, pm == Pm.RUN)))
    initial = [e for e in report.counterexamples if e.action == INIT]
    assert len(initial) == 1
    assert "does not hold initially" in initial[0].text()


def test_a_count_below_zero_is_an_obligation_of_its_own():
    careless = action("lose", Actor.FAULT, [pm == Pm.RUN], [clients.becomes(clients - 1)])
    report = check(TOY.with_actions([careless]))
    assert status(report)[COUNTS] is Status.COUNTEREXAMPLE
    (found,) = [e for e in report.counterexamples if e.claim == COUNTS]
    assert "clients := clients - 1 = -1" in found.text()


def test_a_pinned_parameter_is_pinned():
    """Only the patient parent does not signal its clients."""
    machine = with_claims(claim("no_client_is_signalled", signalled == 0, signalled >= 1))
    assert check(machine, {"patient": True}).proved
    assert not check(machine, {"patient": False}).proved
    with pytest.raises(ValueError, match="no parameter patience"):
        check(machine, {"patience": True})


def test_an_action_that_nothing_enables_is_reported():
    never = action("never", Actor.FAULT, [pm == Pm.RUN, pm == Pm.STOP], [clients.becomes(0)])
    assert check(TOY.with_actions([*TOY.actions, never])).disabled == ["never"]


# The writer runs only while the parent does: not inductive by itself, since from an unreachable
# START with a running writer the parent would go on.
NEEDS_A_LEMMA = claim("gone_is_final", implies(pm == Pm.GONE, signalled == 0), pm == Pm.GONE)
STAYS = claim("start_is_alone", implies(pm == Pm.START, signalled == 0), pm == Pm.START)
FRAGILE = claim(
    "no_client_is_signalled_while_running", implies(pm == Pm.RUN, signalled == 0), pm == Pm.RUN
)


def test_a_claim_that_needs_a_lemma_gets_it_and_says_so():
    machine = replace(with_claims(FRAGILE), name="toy-that-is-not-on-file")
    bare = check(machine)
    assert status(bare)[FRAGILE.name] is Status.COUNTEREXAMPLE
    learnt = prove(machine)
    assert learnt.proved
    assert learnt.mined
    assert any("START" in lemma for lemma in learnt.lemmas)
    assert not file_for(machine, {}).exists()
    again = prove(machine, lemmas=[WORDS.parse(line) for line in learnt.lemmas])
    assert again.proved
    assert not again.mined


def test_a_lemma_that_is_not_inductive_fails_the_proof():
    report = check(TOY, lemmas=[Lemma((), (Zero("clients"),))])
    assert not report.proved
    assert [(o.claim, o.action) for o in report.failed_lemmas] == [("clients = 0", "connect")]


def test_false_lemmas_are_not_learnt():
    for lemma in learn(with_claims(FRAGILE), {}):
        assert check(replace(TOY, claims=()), lemmas=[lemma]).machine == "toy"
    assert check(with_claims(FRAGILE), lemmas=learn(with_claims(FRAGILE), {})).proved


def test_what_no_configuration_allows_is_not_proved():
    """Of nothing everything is true: a contradiction in the assumptions is an error."""
    impossible = replace(TOY, assumptions=(*TOY.assumptions, FALSE))
    with pytest.raises(ProofError, match="no configuration has"):
        prove(impossible, {"patient": True}, lemmas=[])


def test_the_report_counts_trivial_obligations():
    report = check(TOY)
    assert 0 < report.trivial < len(report.obligations)
    assert f"{report.trivial} are trivial" in report.text()


def test_several_pins_at_once_in_processes():
    machine = with_claims(claim("no_client_is_signalled", signalled == 0, signalled >= 1))
    seen = []
    reports = prove_each(
        replace(machine, name="toy-that-is-not-on-file"),
        [{"patient": True}, {"patient": False}],
        progress=lambda at, text: seen.append(at),
    )
    assert [r.proved for r in reports] == [True, False]
    assert set(seen) == {0, 1}


def test_disagreement_of_the_evaluators_is_loud(monkeypatch):
    monkeypatch.setattr(counterexample_module, "false_guards", lambda *_: [FALSE])
    with pytest.raises(EvaluatorsDisagreeError, match="plain evaluator says no"):
        check(with_claims(claim("no_client_is_signalled", signalled == 0, signalled >= 1)))


def test_the_fingerprint_changes_with_the_machine():
    assert fingerprint(TOY, {}) == fingerprint(replace(TOY, properties=()), {})
    assert fingerprint(TOY, {}) != fingerprint(TOY, {"patient": True})
    assert fingerprint(TOY, {}) != fingerprint(TOY.with_actions(TOY.actions[1:]), {})


RUN, START = Pm.RUN, Pm.START
SAME = Among("pm.state", frozenset({0, 1}))
AS_TEXT = {
    "pm.state = RUN and clients > 0 -> writer in {RUNNING, DEAD}": Lemma(
        (Among("pm.state", frozenset({1})), Some("clients")), (Among("writer", frozenset({1, 3})),)
    ),
    "pm.state in {START, RUN} -> clients_signalled = 0": Lemma(
        (SAME,), (Zero("clients_signalled"),)
    ),
    "not patient and pm.fatal_error -> false": Lemma(
        (Among("patient", frozenset({0})), Among("pm.fatal_error", frozenset({1}))), ()
    ),
    "clients + clients_signalled + 1 <= max_connections": Lemma(
        (), (AtMost(("clients", "clients_signalled"), 1, ("max_connections",), 0),)
    ),
    "clients = 0 or clients_signalled = 0": Lemma((), (Zero("clients"), Zero("clients_signalled"))),
}


@pytest.mark.parametrize("text", AS_TEXT)
def test_a_lemma_reads_as_it_is_written(text):
    assert WORDS.parse(text) == AS_TEXT[text]
    assert WORDS.show(AS_TEXT[text]) == text


@pytest.mark.parametrize("line", ["unknown = 0 -> false", "writer = AWAY", "clients"])
def test_a_line_that_is_no_lemma_is_refused(line):
    with pytest.raises(LanguageError):
        WORDS.parse(line)


def test_gathered_lemmas_say_what_the_sets_said():
    one = [
        frozenset({Among("pm.state", frozenset({0})), Among("writer", frozenset({2}))}),
        frozenset({Among("pm.state", frozenset({0})), Among("writer", frozenset({3}))}),
        frozenset({Among("pm.state", frozenset({3})), Some("clients"), Some("clients_signalled")}),
        frozenset({Some("clients"), Zero("clients_signalled")}),
        frozenset({Among("writer", frozenset({3}))}),
    ]
    sizes = {name: WORDS.size(name) for name in WORDS.names}
    assert sorted(WORDS.show(lemma) for lemma in gather(one, sizes)) == [
        "clients_signalled > 0 or clients = 0",
        "pm.state = GONE -> clients = 0 or clients_signalled = 0",
        "writer = DEAD -> false",
        "writer in {SIGNALLED, DEAD} -> pm.state in {RUN, STOP, GONE}",
    ]
