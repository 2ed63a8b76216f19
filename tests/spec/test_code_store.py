"""Generated code that is kept from one process to the next."""

import os
from dataclasses import replace

import pytest
from toy import SMALL, TOY

from pglife_spec.meanings.python.program import Program
from pglife_spec.meanings.store import CodeStore


def all_steps(program):
    """Every state that is reached, with its steps."""
    steps, todo = {}, list(program.initial)
    while todo:
        state = todo.pop()
        if state not in steps:
            steps[state] = program.successors(state)
            todo += [after for _, after in steps[state]]
    return steps


@pytest.fixture
def never_written(monkeypatch):
    """From here on nothing may be written anew."""

    def forbid():
        def refuse(*_args, **_options):
            raise AssertionError("written although it was kept")

        monkeypatch.setattr("pglife_spec.meanings.python.codegen.Generator.successors", refuse)

    return forbid


def test_kept_code_takes_the_same_steps_and_is_not_written_again(tmp_path, never_written):
    fresh = all_steps(Program(TOY, SMALL))
    assert all_steps(Program(TOY, SMALL, CodeStore(tmp_path))) == fresh
    never_written()
    assert all_steps(Program(TOY, SMALL, CodeStore(tmp_path))) == fresh


def test_cuts_of_kept_code_are_counted_in_the_program_that_runs_it(tmp_path):
    narrow = replace(SMALL, bounds={"clients": 1})
    first, second = (Program(TOY, narrow, CodeStore(tmp_path)) for _ in range(2))
    all_steps(first)
    assert not any(second.cuts)
    all_steps(second)
    assert second.cuts == first.cuts
    assert any(second.cuts)


def test_another_configuration_has_code_of_its_own(tmp_path):
    all_steps(Program(TOY, SMALL, CodeStore(tmp_path)))
    kept = len(os.listdir(tmp_path))
    other = replace(SMALL, bounds={"clients": 3})
    assert all_steps(Program(TOY, other, CodeStore(tmp_path))) == all_steps(Program(TOY, other))
    assert len(os.listdir(tmp_path)) == 2 * kept


@pytest.mark.parametrize("content", [b"", b"not code", b"i\x01\x00\x00\x00"])
def test_a_broken_file_is_written_anew(tmp_path, content):
    fresh = all_steps(Program(TOY, SMALL, CodeStore(tmp_path)))
    for path in tmp_path.iterdir():
        path.write_bytes(content)
    assert all_steps(Program(TOY, SMALL, CodeStore(tmp_path))) == fresh
    assert all(path.read_bytes() != content for path in tmp_path.iterdir())


def test_a_directory_that_is_not_there_keeps_nothing(tmp_path):
    missing = tmp_path / "missing"
    program = Program(TOY, SMALL, CodeStore(missing))
    assert all_steps(program) == all_steps(Program(TOY, SMALL))
    assert not missing.exists()
