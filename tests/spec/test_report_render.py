"""Reports on the toy machine: every claim and property is in it, in three formats."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from toy import ACTIONS, GONE, PATIENT, SMALL, TOY, clients

from pglife_spec.lang.expr import const
from pglife_spec.lang.machine import Mutant
from pglife_spec.prove.report import Obligation, ProofReport, Status
from pglife_spec.report.collect import collect
from pglife_spec.report.formats import Format
from pglife_spec.report.render import _cell, render

MUTANT = Mutant("early", "It <leaves> early.", "gone_means_alone", "small", lambda m: m)


def proof(status=Status.PROVED):
    cells = [Obligation(c.name, a.name, status, 0.25) for c in TOY.claims for a in TOY.actions[:2]]
    made = ProofReport(TOY.name, {}, lemmas=["clients <= 2"], obligations=cells, seconds=1.5)
    made.summarize([c.name for c in TOY.claims])
    return made


@pytest.fixture(scope="module")
def report():
    return collect(TOY, [SMALL, PATIENT], final=GONE, proofs=[proof()], mutants=[MUTANT])


def test_a_report_knows_method_time_witness_and_mutants(report):
    entry = report.claims[0]
    assert entry.status == "proved"
    assert entry.method == "inductive, any number of children, any configuration"
    assert entry.seconds == 0.5
    assert entry.where == "small"
    assert entry.witness.actions[-1] == "leave"
    assert entry.mutants == [MUTANT]


def test_a_report_knows_verdicts_and_the_shortest_lasso(report):
    (entry,) = report.properties
    assert [v.holds for _, v in entry.verdicts] == [True, False]
    config, lasso = entry.lasso
    assert (config.name, len(lasso)) == ("patient", 5)
    assert not report.good
    assert collect(TOY, [SMALL], final=GONE, proofs=[proof()]).good


def test_without_a_proof_claims_are_explored():
    said = collect(TOY, [SMALL], final=GONE)
    assert {e.status for e in said.claims} == {"explored"}
    assert said.good


def test_an_unknown_or_violated_claim_is_not_good():
    unknown = collect(TOY, [SMALL], final=GONE, proofs=[proof(), proof(Status.UNKNOWN)])
    assert {e.status for e in unknown.claims} == {"unknown"}
    assert not unknown.good
    wrong = replace(TOY, claims=(replace(TOY.claims[0], holds=clients <= 1),))
    said = collect(wrong, [SMALL], final=GONE, proofs=[proof()])
    assert said.claims[0].status == "violated"
    assert said.claims[0].details == ["violated after start_up, connect, connect"]
    assert not said.good


def test_a_witness_missing_in_one_configuration_is_sought_in_others():
    one = replace(SMALL, name="one", bounds={"clients": 1})
    said = collect(TOY, [one], final=GONE, witness_configs=[SMALL])
    assert said.claims[1].where == "small"
    assert said.claims[1].witness.moments[-1].state["clients"] == 2


def test_actions_that_no_configuration_takes_are_named():
    never = replace(ACTIONS[0], name="never", guards=(*ACTIONS[0].guards, const(False)))
    said = collect(TOY.with_actions([*ACTIONS, never]), [SMALL, PATIENT], final=GONE)
    assert said.never_taken() == ["never"]


@pytest.mark.parametrize("format_", Format)
def test_every_claim_and_property_is_in_the_report(report, format_):
    text = render(report, format_)
    for entry in report.claims:
        assert entry.claim.name in text
        assert entry.claim.doc in text
    for entry in report.properties:
        assert entry.prop.name in text
    assert "signalled_client_ends" in text or "connect" in text
    assert "at rest after step 5 for ever" in text
    assert "None" not in text
    assert ("It &lt;leaves&gt; early." if format_ is Format.HTML else "It <leaves> early.") in text


class _Balance(HTMLParser):
    """Checks that elements are closed in the order in which they were opened."""

    VOID = {"meta", "br"}

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """An element without content opens and closes nothing."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_one_balanced_file_with_its_pictures(report):
    text = render(report, Format.HTML, {"toy": "<svg><rect/></svg>"})
    parser = _Balance()
    parser.feed(text)
    assert parser.open == []
    assert "<figure><svg><rect/></svg></figure>" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_a_markdown_table_cell_keeps_its_row(report):
    rows = [r for r in render(report, Format.MARKDOWN).splitlines() if r.startswith("| small")]
    assert rows[0].startswith("| small | 26 | 46 | 6 | ")
    assert rows[1:] == ["| small | holds on 15 states |"]
    assert _cell("a|b\nc") == "a\\|b c"
