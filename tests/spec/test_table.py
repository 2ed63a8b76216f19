"""The tables of the postmaster's states: who can block, where events lead, as text and Markdown."""

import pytest
from running import Run

from pglife_spec.cli import table
from pglife_spec.cli.table import blocks_table, event_of, events_table, markdown
from pglife_spec.postgres.build import build
from pglife_spec.postgres.words.releases import release_of


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Only the smallest configuration."""
    monkeypatch.setattr(table, "FAMILIES", ("tiny",))
    monkeypatch.setattr(table, "EVENT_FAMILIES", ("tiny",))


def test_who_can_block_is_computed_from_every_state():
    made = blocks_table(release_of(18))
    rows = {row[:3]: row[3:] for row in made.rows}
    assert rows["PM_WAIT_BACKENDS", "RUNNING", "checkpointer"] == ("nothing: F01", "never", "")
    assert rows["PM_STARTUP", "none", "none"][0] == "nothing: F02, F03, F07"
    ended, killed, rules = rows["PM_RUN", "RUNNING", "client backend"]
    assert (ended, killed) == ("client disconnects", "never")
    assert "SE-44" in rules
    ended, killed, _ = rows["PM_WAIT_XLOG_SHUTDOWN", "CHECKPOINTING", "checkpointer"]
    assert ended.startswith("checkpointer begins shutdown checkpoint, ")
    assert not any("logger" in row[2] for row in made.rows)


def test_where_events_lead_and_which_steps_are_findings():
    made = events_table(release_of(15))
    rows = {row[0]: dict(zip(made.heads, row, strict=True)) for row in made.rows}
    assert rows["PM_RUN"]["fast request"].startswith("PM_WAIT_BACKENDS")
    assert rows["PM_SHUTDOWN"]["checkpointer exits 0"] == "PM_SHUTDOWN_2"
    assert rows["PM_RUN"]["startup process fails"] == ""
    assert rows["PM_WAIT_BACKENDS"]["startup process exits 0"] == "PM_RUN (F04)"
    assert any(note.startswith("immediate request: ") for note in made.notes)


def test_every_step_of_the_postmaster_that_changes_its_state_has_a_column():
    known = {event_of(a) for a in build().actions} - {None}
    assert known <= set(table.COLUMNS)


def test_a_table_is_markdown_too():
    lines = list(markdown(table.Rows(("a", "b"), [("1", "2")], ["a note"])))
    assert lines == ["| a | b |", "|---|---|", "| 1 | 2 |", "", "a note"]


def test_the_command_prints_a_table(pglife: Run):
    status, out, _ = pglife("table", "blocks", "-V", "15")
    assert status == 0
    assert "nothing: F01" in out
