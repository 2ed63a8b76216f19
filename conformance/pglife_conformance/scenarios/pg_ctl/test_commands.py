"""Messages and exit codes of the pg_ctl commands that do not wait.

Source: pg_ctl.c: do_status(), do_stop(), do_reload(), do_promote(), do_logrotate(), do_kill()
"""

import os
import signal
import subprocess

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.pin import StoppedPostmaster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim
from pglife_conformance.targets.base import Program, Target

PG_CTL = [Need.PG_CTL]
ADVICE = 'Try "pg_ctl --help" for more information.\n'


def unused_pid() -> int:
    """The pid of a process that has been reaped."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def pid_file_path(cluster: Cluster) -> str:
    """The pid file's path as pg_ctl prints it."""
    return str(cluster.data / "postmaster.pid")


def no_pid_file(cluster: Cluster) -> str:
    """The message of every command but status and start when the pid file is missing."""
    return f'pg_ctl: PID file "{pid_file_path(cluster)}" does not exist\nIs server running?\n'


@claim("CT-15", source="pg_ctl.c: do_status()", needs=PG_CTL)
def test_status_tells_running_from_stopped(stopped_cluster: Cluster) -> None:
    """pg_ctl status exits 0 with the server's pid and command line, 3 without a server."""
    cluster = stopped_cluster
    done = cluster.pg_ctl("status")
    assert (done.code, done.out, done.err) == (3, "pg_ctl: no server running\n", "")
    cluster.start()
    done = cluster.pg_ctl("status")
    options = (cluster.data / "postmaster.opts").read_text(encoding="utf-8")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"pg_ctl: server is running (PID: {cluster.pid})\n{options}"
    cluster.stop()
    assert cluster.pg_ctl("status").code == 3


@claim("CT-15", source="pg_ctl.c: get_pgpid()", needs=PG_CTL)
@pytest.mark.parametrize("command", ["status", "stop", "reload"])
def test_missing_or_invalid_data_directory(stopped_cluster: Cluster, command: str) -> None:
    """Without a valid data directory pg_ctl status exits 4; stop and reload exit 1."""
    cluster = stopped_cluster
    code = 4 if command == "status" else 1
    (cluster.data / "PG_VERSION").rename(cluster.data / "PG_VERSION.away")
    done = cluster.pg_ctl(command)
    expected = f'pg_ctl: directory "{cluster.data}" is not a database cluster directory\n'
    assert (done.code, done.out, done.err) == (code, "", expected)
    cluster.data.rename(cluster.data.with_name("away"))
    done = cluster.pg_ctl(command)
    expected = f'pg_ctl: directory "{cluster.data}" does not exist\n'
    assert (done.code, done.out, done.err) == (code, "", expected)


@claim("CT-17", source="pg_ctl.c: do_status(), do_stop(), do_reload()", needs=PG_CTL)
def test_stale_pid_file(stopped_cluster: Cluster) -> None:
    """With a stale pid file pg_ctl status exits 3; stop, reload and logrotate exit 1."""
    cluster = stopped_cluster
    pid = unused_pid()
    cluster.write_file("postmaster.pid", f"{pid}\n")
    done = cluster.pg_ctl("status")
    assert (done.code, done.out) == (3, "pg_ctl: no server running\n")
    for command, what in (("stop", "stop"), ("reload", "reload"), ("logrotate", "log rotation")):
        done = cluster.pg_ctl(command)
        expected = f"pg_ctl: could not send {what} signal (PID: {pid}): No such process\n"
        assert (done.code, done.out, done.err) == (1, "", expected)
    assert not (cluster.data / "logrotate").exists()


@claim("CT-15", source="pg_ctl.c: get_pgpid()", needs=PG_CTL)
@pytest.mark.parametrize("text", ["", "nonsense\n"])
def test_pid_file_without_a_pid(stopped_cluster: Cluster, text: str) -> None:
    """With an empty or invalid pid file pg_ctl exits 1 and reports which of the two it is."""
    cluster = stopped_cluster
    cluster.write_file("postmaster.pid", text)
    path = pid_file_path(cluster)
    what = f'invalid data in PID file "{path}"' if text else f'the PID file "{path}" is empty'
    for command in ("status", "stop", "reload"):
        done = cluster.pg_ctl(command)
        assert (done.code, done.out, done.err) == (1, "", f"pg_ctl: {what}\n")


@claim("CT-08 CT-15", source="pg_ctl.c: do_stop(), do_restart(), do_status()", needs=PG_CTL)
def test_single_user_server_receives_no_signal(cluster: Cluster) -> None:
    """pg_ctl takes a negative pid for a single-user server: status reports it, others refuse."""
    path = cluster.data / "postmaster.pid"
    # The postmaster is stopped: it checks the pid file once a minute and exits when it finds
    # another pid. A signal from pg_ctl stays pending until the postmaster continues.
    with StoppedPostmaster(cluster):
        lines = path.read_text(encoding="utf-8")
        path.write_text(f"-{lines}", encoding="utf-8")
        try:
            expect_commands_refuse(cluster)
        finally:
            path.write_text(lines, encoding="utf-8")
    cluster.expect_idle()
    cluster.expect_no_log("^received ")
    assert cluster.is_running()


def expect_commands_refuse(cluster: Cluster) -> None:
    """Status reports a single-user server; every other command exits 1."""
    there = f"single-user server is running (PID: {cluster.pid})\n"
    done = cluster.pg_ctl("status")
    assert (done.code, done.out) == (0, f"pg_ctl: {there}")
    for command, what in (
        ("stop", "stop server"),
        ("restart", "restart server"),
        ("reload", "reload server"),
        ("promote", "promote server"),
        ("logrotate", "rotate log file"),
    ):
        done = cluster.pg_ctl(command)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"pg_ctl: cannot {what}; {there}")


@claim("CT-08 CT-12 CT-13 CT-14", source="pg_ctl.c: do_stop()", needs=PG_CTL)
@pytest.mark.parametrize("command", ["stop", "reload", "promote", "logrotate"])
def test_commands_without_a_server_fail(stopped_cluster: Cluster, command: str) -> None:
    """Without a pid file pg_ctl exits 1 and asks whether the server is running."""
    done = stopped_cluster.pg_ctl(command)
    assert (done.code, done.out, done.err) == (1, "", no_pid_file(stopped_cluster))
    assert not (stopped_cluster.data / command).exists()


@claim("CT-12", source="pg_ctl.c: do_reload()", needs=PG_CTL)
@pytest.mark.parametrize("is_good", [True, False], ids=["good file", "bad file"])
def test_reload_does_not_report_a_bad_file(cluster: Cluster, is_good: bool) -> None:
    """pg_ctl reload exits 0 for a good and a bad file; the server reads the file once."""
    then = cluster.since()
    cluster.configure(**({"work_mem": "5MB"} if is_good else {"work_mem": "nonsense"}))
    done = cluster.pg_ctl("reload")
    assert (done.code, done.out, done.err) == (0, "server signaled\n", "")
    then.expect_line("received SIGHUP, reloading configuration files")
    with cluster.session() as session:
        wanted = "5MB" if is_good else "4MB"
        session.expect_rows("show work_mem", [(wanted,)])
    said = then.log(matching="^received SIGHUP")
    assert len(said) == 1


@claim("CT-13 RC-13", source="pg_ctl.c: do_promote()", needs=[*PG_CTL, Need.CONTROL_FILE])
def test_primary_cannot_be_promoted(cluster: Cluster) -> None:
    """pg_ctl promote on a primary exits 1, writes no file and sends no signal."""
    then = cluster.since()
    done = cluster.pg_ctl("promote")
    expected = "pg_ctl: cannot promote server; server is not in standby mode\n"
    assert (done.code, done.out, done.err) == (1, "", expected)
    assert not (cluster.data / "promote").exists()
    then.expect_no_log("pmsignal")


@claim("CT-16", source="pg_ctl.c: do_kill()", needs=PG_CTL)
@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "ABRT", "KILL", "TERM", "USR1", "USR2"])
def test_kill_sends_the_named_signal(stopped_cluster: Cluster, name: str) -> None:
    """pg_ctl kill sends the named signal, prints nothing and exits 0."""
    cluster = stopped_cluster
    number = signal.Signals[f"SIG{name}"]
    # Any process of the server's user will do; sleep keeps every signal's default action.
    become = cluster.target.user.becoming(keep_reading=False)
    with subprocess.Popen(["sleep", "60"], preexec_fn=become, cwd="/") as sleeper:
        try:
            done = cluster.pg_ctl("kill", name, str(sleeper.pid))
            assert (done.code, done.out, done.err) == (0, "", "")
            assert sleeper.wait(10 * cluster.scale) == -number
        finally:
            sleeper.kill()


@claim("CT-16", source="pg_ctl.c: do_kill(), set_sig()", needs=PG_CTL)
def test_kill_that_fails(stopped_cluster: Cluster) -> None:
    """pg_ctl kill exits 1 for a missing process, an invalid signal name or missing arguments."""
    pid = unused_pid()
    done = stopped_cluster.pg_ctl("kill", "TERM", str(pid))
    expected = f"pg_ctl: could not send signal 15 (PID: {pid}): No such process\n"
    assert (done.code, done.out, done.err) == (1, "", expected)
    done = stopped_cluster.pg_ctl("kill", "NONE", str(pid))
    expected = f'pg_ctl: unrecognized signal name "NONE"\n{ADVICE}'
    assert (done.code, done.out, done.err) == (1, "", expected)
    target = stopped_cluster.target
    done = target.run(Program.PG_CTL, ["kill", "TERM"])
    expected = f"pg_ctl: missing arguments for kill mode\n{ADVICE}"
    assert (done.code, done.out, done.err) == (1, "", expected)


@claim("CT-01", source="pg_ctl.c: main()", needs=PG_CTL)
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["conquer"], 'unrecognized operation mode "conquer"'),
        (["status", "again"], 'too many command-line arguments (first is "again")'),
        (["stop", "-m", "slow"], 'unrecognized shutdown mode "slow"'),
        ([], "no operation specified"),
    ],
    ids=["mode", "arguments", "shutdown mode", "nothing"],
)
def test_bad_command_lines(stopped_cluster: Cluster, args: list[str], expected: str) -> None:
    """For an invalid command line pg_ctl exits 1 and prints its advice."""
    if stopped_cluster.major < 17:
        # Earlier releases print the first argument, not the first superfluous one.
        expected = expected.replace('"again"', '"status"')
    done = stopped_cluster.pg_ctl(*args)
    assert (done.code, done.out, done.err) == (1, "", f"pg_ctl: {expected}\n{ADVICE}")


@claim("CT-01", source="pg_ctl.c: main()", needs=PG_CTL)
def test_no_data_directory_named(target: Target) -> None:
    """Without -D and PGDATA pg_ctl exits 1."""
    done = target.run(Program.PG_CTL, ["status"])
    expected = (
        "pg_ctl: no database directory specified and environment variable PGDATA unset\n" + ADVICE
    )
    assert (done.code, done.out, done.err) == (1, "", expected)


@claim("CT-04 ST-01", source="pg_ctl.c: main(); main.c: check_root()", needs=PG_CTL)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can show that root is refused")
def test_root_is_refused(target: Target, stopped_cluster: Cluster) -> None:
    """pg_ctl and postgres refuse to run as root and exit 1."""

    def as_root(program: Program, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*target.command(program), *args, "-D", str(stopped_cluster.data)],
            env=target.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    done = as_root(Program.PG_CTL, "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pg_ctl: cannot be run as root\n")
    done = as_root(Program.POSTGRES)
    assert (done.returncode, done.stdout) == (1, "")
    refusal = '"root" execution of the PostgreSQL server is not permitted.\n'
    assert done.stderr.startswith(refusal)
    assert stopped_cluster.pid_file() is None


@claim("CT-14", source="pg_ctl.c: do_logrotate()", needs=[*PG_CTL, Need.LOGGER])
def test_logrotate_without_a_logger(cluster: Cluster) -> None:
    """pg_ctl logrotate writes its file and signals; without a logger the file remains."""
    done = cluster.pg_ctl("logrotate")
    assert (done.code, done.out, done.err) == (0, "server signaled to rotate log file\n", "")
    assert (cluster.data / "logrotate").exists()
    assert cluster.children(Kind.LOGGER) == []
