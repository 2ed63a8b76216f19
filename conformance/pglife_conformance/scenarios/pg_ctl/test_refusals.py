"""pg_ctl and directories, pid files and processes that are not what they should be.

Source: rules CT-01, CT-08 to CT-17; src/bin/pg_ctl/pg_ctl.c.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from pglife_conformance.base.deadlines import REACTION_LIMIT
from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.signals import read_signals
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.pg_ctl.test_commands import ADVICE, no_pid_file, unused_pid
from pglife_conformance.scenarios.pg_ctl.test_start_details import STAND_IN, Stand
from pglife_conformance.targets.base import Program, Target

PG_CTL = [Need.PG_CTL]
COMMANDS = ["start", "stop", "restart", "reload", "promote", "logrotate", "status"]
STOPPING = "waiting for server to shut down...."
NOT_RUNNING = "pg_ctl: no server running\n"


@contextmanager
def process(target: Target, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Some process of the server's user."""
    become = target.user.becoming(keep_reading=False)
    with subprocess.Popen(words, preexec_fn=become, cwd="/") as made:
        try:
            yield made
        finally:
            made.kill()


@contextmanager
def deaf_process(target: Target) -> Iterator[subprocess.Popen[bytes]]:
    """One that does nothing about any request: it is stopped."""
    with process(target, "sleep", "60") as made:
        made.send_signal(signal.SIGSTOP)
        # Of two signals that wait for it the lower number is taken first, and a request has one.
        os.waitid(os.P_PID, made.pid, os.WSTOPPED)
        yield made


def wait_for_request(cluster: Cluster, server: subprocess.Popen[bytes]) -> None:
    """Wait until SIGINT is pending for the process that blocks it."""

    def is_pending() -> bool:
        signals = read_signals(Pid(server.pid))
        return signals is not None and signal.SIGINT in signals.pending

    cluster.wait_for("a request for a fast shutdown", is_pending)


@claim("CT-08 CT-15", source="pg_ctl.c: get_pgpid()", needs=PG_CTL)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_needs_a_data_directory(stopped_cluster: Cluster, command: str) -> None:
    """Without a usable data directory pg_ctl status exits 4, every other command 1."""
    stand = Stand(stopped_cluster)
    (stand.data / "PG_VERSION").unlink()
    missing, below_file = stand.data / "missing", stand.script / "below"
    code = 4 if command == "status" else 1
    ways = [
        (missing, f'directory "{missing}" does not exist'),
        (below_file, f'could not access directory "{below_file}": Not a directory'),
        (stand.data, f'directory "{stand.data}" is not a database cluster directory'),
    ]
    # Two commands try every path; the others share the code, so one path is enough.
    for path, message in ways if command in ("status", "start") else ways[:1]:
        done = stand.run(command, "-D", str(path))
        assert (done.code, done.out, done.err) == (code, "", f"pg_ctl: {message}\n")


@claim("CT-15", source="pg_ctl.c: get_pgpid()", needs=PG_CTL)
def test_version_file_is_only_looked_for(stopped_cluster: Cluster) -> None:
    """A PG_VERSION that is there makes a cluster, even one that cannot be followed."""
    stand = Stand(stopped_cluster)
    path = stand.data / "PG_VERSION"
    path.unlink()
    path.symlink_to("PG_VERSION")
    done = stand.run("status")
    assert (done.code, done.out, done.err) == (3, NOT_RUNNING, "")


@claim("CT-08 CT-15", source="pg_ctl.c: get_pgpid()", needs=PG_CTL)
@pytest.mark.parametrize("command", ["status", "start"])
def test_pid_file_that_cannot_be_opened(stopped_cluster: Cluster, command: str) -> None:
    """A pid file that is there and cannot be opened ends every command with 1."""
    stand = Stand(stopped_cluster)
    path = stand.data / "postmaster.pid"
    path.symlink_to("postmaster.pid")
    done = stand.run(command)
    expected = f'pg_ctl: could not open PID file "{path}": Too many levels of symbolic links\n'
    assert (done.code, done.out, done.err) == (1, "", expected)


@claim("CT-15", source="pg_ctl.c: get_pgpid()", needs=PG_CTL)
def test_pid_file_of_blanks(stopped_cluster: Cluster) -> None:
    """A pid file with nothing but white space is not empty."""
    stand = Stand(stopped_cluster)
    path = stand.write("postmaster.pid", " \n")
    done = stand.run("status")
    expected = f'pg_ctl: invalid data in PID file "{path}"\n'
    assert (done.code, done.out, done.err) == (1, "", expected)


@claim("CT-15", source="pg_ctl.c: do_status(), readfile()", needs=STAND_IN)
@pytest.mark.parametrize(
    ("options", "shown"),
    [("one\r\n\ntwo words\nunfinished", "one\n\ntwo words\n"), ("\n", "\n"), ("", ""), (None, "")],
    ids=["lines", "empty line", "nothing", "no file"],
)
def test_status_shows_the_lines_of_the_options(
    stopped_cluster: Cluster, options: str | None, shown: str
) -> None:
    """All finished lines of postmaster.opts, without carriage returns."""
    stand = Stand(stopped_cluster)
    if options is not None:
        (stand.data / "postmaster.opts").write_bytes(options.encode())
    with process(stopped_cluster.target, "sleep", "60") as server:
        stand.write("postmaster.pid", f"{server.pid}\n")
        done = stand.run("status")
    expected = f"pg_ctl: server is running (PID: {server.pid})\n{shown}"
    assert (done.code, done.out, done.err) == (0, expected, "")


@claim("CT-15 CT-17", source="pg_ctl.c: do_status(), do_restart()", needs=STAND_IN)
def test_stale_pid_file_of_a_single_user_server(stopped_cluster: Cluster) -> None:
    """With the negative pid of no process pg_ctl status exits 3 and restart starts a server."""
    stand = Stand(stopped_cluster)
    pid = unused_pid()
    stand.write("postmaster.pid", f"-{pid}\n")
    done = stand.run("status")
    assert (done.code, done.out, done.err) == (3, NOT_RUNNING, "")
    done = stand.run("restart", "-W", "-p", "/bin/echo", "-o", "x", "-l", str(stand.log))
    expected = f"pg_ctl: old server process (PID: {pid}) seems to be gone\nstarting server anyway\n"
    assert (done.code, done.out, done.err) == (0, "server starting\n", expected)


@claim("CT-15", source="pg_ctl.c: postmaster_is_alive()", needs=PG_CTL)
@pytest.mark.parametrize("script", ['exec "$@"', '"$@"; exit $?'], ids=["own pid", "its parent's"])
@pytest.mark.parametrize("sign", ["", "-"], ids=["postmaster", "single user"])
def test_pg_ctl_does_not_take_itself_for_the_server(
    stopped_cluster: Cluster, script: str, sign: str
) -> None:
    """A pid file with pg_ctl's own pid, or its parent's, is one of a server that has gone."""
    stand, target = Stand(stopped_cluster), stopped_cluster.target
    note = f'echo "{sign}$$" > "{stand.data}/postmaster.pid"'
    words = [*target.command(Program.PG_CTL), "status"]
    done = subprocess.run(
        ["/bin/sh", "-c", f"{note}; {script}", "sh", *words],
        env=target.environment() | {"PGDATA": str(stand.data)},
        preexec_fn=target.user.becoming(target.keeps_reading),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, NOT_RUNNING, "")


@claim("CT-02 CT-09", source="pg_ctl.c: wait_for_postmaster_stop()", needs=PG_CTL)
@pytest.mark.parametrize("command", ["stop", "restart"])
def test_waiting_for_an_end_is_counted(stopped_cluster: Cluster, command: str) -> None:
    """One second is ten looks and one dot, also with -W for a restart; then exit 1."""
    stand = Stand(stopped_cluster)
    words = ("-W",) if command == "restart" else ()
    with deaf_process(stopped_cluster.target) as server:
        stand.write("postmaster.pid", f"{server.pid}\n")
        began = time.monotonic()
        done = stand.run(command, "-t", "1", *words)
        took_s = time.monotonic() - began
    expected = "pg_ctl: server does not shut down\n"
    assert (done.code, done.out, done.err) == (1, f"{STOPPING} failed\n", expected)
    assert took_s >= 1


@claim("CT-09", source="pg_ctl.c: wait_for_postmaster_stop(), get_pgpid()", needs=PG_CTL)
def test_directory_that_goes_while_stop_waits(stopped_cluster: Cluster) -> None:
    """A stop whose data directory vanishes says so and exits 1."""
    stand = Stand(stopped_cluster)
    with deaf_process(stopped_cluster.target) as server:
        stand.write("postmaster.pid", f"{server.pid}\n")
        program = stand.begin("stop", "-t", "60")
        wait_for_request(stopped_cluster, server)
        # Between two looks: in the middle of one it might miss something else first.
        stopped_cluster.expect_idle(program)
        stand.data.rename(stand.data.with_name("away"))
        done = program.finish(REACTION_LIMIT * stopped_cluster.scale)
    assert (done.code, done.err) == (1, f'pg_ctl: directory "{stand.data}" does not exist\n')


@claim("CT-09", source="pg_ctl.c: wait_for_postmaster_stop()", needs=PG_CTL)
def test_stop_ends_with_the_pid_file(stopped_cluster: Cluster) -> None:
    """A pid file that is gone is the end of a server, although its process is still there."""
    stand = Stand(stopped_cluster)
    with deaf_process(stopped_cluster.target) as server:
        path = stand.write("postmaster.pid", f"{server.pid}\n")
        program = stand.begin("stop")
        wait_for_request(stopped_cluster, server)
        path.unlink()
        done = program.finish(REACTION_LIMIT * stopped_cluster.scale)
    assert (done.code, done.err) == (0, "")
    assert done.out.replace(".", "") == f"{STOPPING} done\nserver stopped\n".replace(".", "")


@claim("CT-14 CT-13", source="pg_ctl.c: do_logrotate()", needs=PG_CTL)
def test_signal_file_that_cannot_be_written(stopped_cluster: Cluster) -> None:
    """If the file for the logger cannot be written, logrotate exits 1 and sends nothing."""
    stand = Stand(stopped_cluster)
    path = stand.data / "logrotate"
    path.mkdir()
    with process(stopped_cluster.target, "sleep", "60") as server:
        stand.write("postmaster.pid", f"{server.pid}\n")
        done = stand.run("logrotate")
        expected = f'pg_ctl: could not create log rotation signal file "{path}": Is a directory\n'
        assert (done.code, done.out, done.err) == (1, "", expected)
        assert server.poll() is None


@claim("CT-14 PG-04", source="pg_ctl.c: do_logrotate()", needs=PG_CTL)
def test_logrotate_sends_usr1(stopped_cluster: Cluster) -> None:
    """The signal of logrotate is USR1, and its file is empty."""
    stand = Stand(stopped_cluster)
    with process(stopped_cluster.target, "sleep", "60") as server:
        stand.write("postmaster.pid", f"{server.pid}\n")
        done = stand.run("logrotate")
        assert (done.code, done.out, done.err) == (0, "server signaled to rotate log file\n", "")
        assert server.wait(REACTION_LIMIT * stopped_cluster.scale) == -signal.SIGUSR1
    assert (stand.data / "logrotate").read_bytes() == b""


@claim("CT-16", source="pg_ctl.c: main()", needs=PG_CTL)
def test_kill_needs_no_data_directory(target: Target) -> None:
    """Pg_ctl kill works without -D and PGDATA."""
    with process(target, "sleep", "60") as victim:
        done = target.run(Program.PG_CTL, ["kill", "HUP", str(victim.pid)])
        assert (done.code, done.out, done.err) == (0, "", "")
        assert victim.wait(REACTION_LIMIT) == -signal.SIGHUP


@claim("CT-13", source="pg_ctl.c: get_control_dbstate()", needs=[*PG_CTL, Need.CONTROL_FILE])
def test_promote_with_a_broken_control_file(stopped_cluster: Cluster) -> None:
    """A control file whose checksum is wrong ends promote with 1, before anything is sent."""
    cluster = stopped_cluster
    path = cluster.data / "global" / "pg_control"
    broken = bytearray(path.read_bytes())
    # Within the part that the checksum is of, behind what tells the format.
    broken[40] ^= 0xFF
    path.write_bytes(bytes(broken))
    with process(cluster.target, "sleep", "60") as server:
        cluster.write_file("postmaster.pid", f"{server.pid}\n")
        words = ["promote", "-D", str(cluster.data)]
        done = cluster.target.run(Program.PG_CTL, words)
        assert (done.code, done.out) == (1, "")
        assert done.err.endswith("pg_ctl: control file appears to be corrupt\n")
        assert server.poll() is None
    (cluster.data / "postmaster.pid").unlink()
    assert not (cluster.data / "promote").exists()


@claim("CT-01", source="pg_ctl.c: adjust_data_dir()", needs=STAND_IN)
@pytest.mark.parametrize("words", [(), ("-p", "/bin/false"), ("-p", "/bin/true")], ids=str)
def test_directory_of_configuration_alone(stopped_cluster: Cluster, words: Sequence[str]) -> None:
    """A directory with configuration only: the server's program is asked where the data lies."""
    stand = Stand(stopped_cluster)
    (stand.data / "PG_VERSION").unlink()
    stand.write("postgresql.conf", f"data_directory = '{stopped_cluster.data}'\n")
    done = stand.run("stop", "-D", str(stand.data), *words)
    assert (done.code, done.out) == (1, "")
    if not words:
        assert done.err == no_pid_file(stopped_cluster)
        return
    expected = "could not determine the data directory using command"
    command = f'"{words[1]}" -C data_directory -D "{stand.data}" '
    assert done.err == f'pg_ctl: {expected} "{command}"\n'


@claim("CT-01", source="pg_ctl.c: adjust_data_dir()", needs=PG_CTL)
def test_directory_with_data_is_not_asked_for(stopped_cluster: Cluster) -> None:
    """Where PG_VERSION lies is the data directory, whatever postgresql.conf says."""
    stand = Stand(stopped_cluster)
    stand.write("postgresql.conf", f"data_directory = '{stopped_cluster.data}'\n")
    done = stand.run("stop")
    path = stand.data / "postmaster.pid"
    expected = f'pg_ctl: PID file "{path}" does not exist\nIs server running?\n'
    assert (done.code, done.out, done.err) == (1, "", expected)


@claim("CT-01", source="pg_ctl.c: main()", needs=PG_CTL)
@pytest.mark.parametrize("word", ["--help", "-?", "--version", "-V"])
def test_help_and_version(target: Target, word: str) -> None:
    """pg_ctl --help and --version print to stdout and exit 0."""
    done = subprocess.run(
        [*target.command(Program.PG_CTL), word],
        env=target.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first = done.stdout.splitlines()[0]
    if word in ("--help", "-?"):
        assert first.startswith("pg_ctl is a utility to initialize, start, stop, or control")
    else:
        assert first.startswith("pg_ctl (PostgreSQL) ")
        assert str(target.version.major) in first
        assert done.stdout.count("\n") == 1


@claim("CT-01", source="pg_ctl.c: main()", needs=PG_CTL)
def test_windows_and_unknown_options(target: Target) -> None:
    """For -S pg_ctl exits 1 without advice; for an unknown option it exits 1 with advice."""
    done = target.run(Program.PG_CTL, ["stop", "-S", "auto", "-D", "/"])
    expected = "pg_ctl: -S option not supported on this platform\n"
    assert (done.code, done.out, done.err) == (1, "", expected)
    done = target.run(Program.PG_CTL, ["stop", "-x", "-D", "/"])
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith(ADVICE)
