"""What differs between two releases, by the model and by the table of features."""

import pytest
from running import Run

from pglife_spec import rules
from pglife_spec.graphs.difference import Aspect, differences
from pglife_spec.postgres.build import build
from pglife_spec.postgres.words.releases import Feature, release_of

OLD, NEW = {"version": 15}, {"version": 18}


def test_each_release_has_its_own_states_of_the_shutdown() -> None:
    only_old, only_new = differences(build(), OLD, NEW)
    states = {
        each.text.removeprefix("pmState = ")
        for each in only_old
        if each.aspect is Aspect.VALUE and each.text.startswith("pmState")
    }
    assert states == {"PM_SHUTDOWN", "PM_SHUTDOWN_2"}
    assert {each.text for each in only_new if each.aspect is Aspect.FORK} == {"IO_WORKER"}
    assert "SIGINT CHECKPOINTER" in {e.text for e in only_new if e.aspect is Aspect.SIGNAL}


def test_the_other_way_round_is_the_same_turned_round() -> None:
    assert differences(build(), NEW, OLD) == tuple(reversed(differences(build(), OLD, NEW)))


def test_a_release_does_not_differ_from_itself() -> None:
    assert differences(build(), NEW, NEW) == ([], [])


def test_each_difference_names_its_rules() -> None:
    for each in [*differences(build(), OLD, NEW)[0], *differences(build(), OLD, NEW)[1]]:
        assert each.rules, each
        assert all(rules.rule(id_) for id_ in each.rules)


def test_diff_prints_features_steps_and_on_request_rules(pglife: Run) -> None:
    status, out, _ = pglife("diff", "15", "18", "--rules")
    assert status == 0
    first, second = out.split("Only 18, not 15\n")
    assert first.startswith("Only 15, not 18\n")
    for text in ("features  ", "\nsteps     ", "\nforks     IO_WORKER", "TR18-22  "):
        assert text in second


def test_of_a_release_that_was_not_compared_only_the_features_are_known(pglife: Run) -> None:
    status, out, _ = pglife("diff", "15", "16")
    assert status == 0
    assert Feature.WORK_IN_HANDLERS in release_of(15).features - release_of(16).features
    assert Feature.WORK_IN_HANDLERS.value.split()[0] in out
    assert "pmState" not in out


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (("15", "15"), "pglife: 15 and 15 are one release: expected two\n"),
        (("15", "9"), "pglife: no release 9; the releases known are 14, 15, 16, 17, 18\n"),
    ],
)
def test_diff_refuses_in_one_line(pglife: Run, asked: tuple[str, ...], answer: str) -> None:
    assert pglife("diff", *asked)[::2] == (2, answer)
