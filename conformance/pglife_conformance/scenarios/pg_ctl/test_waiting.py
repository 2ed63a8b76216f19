"""pg_ctl start, stop and restart: what they wait for, how long, and what they say.

Source       rules CT-02, CT-03, CT-05 to CT-11, CT-17, CT-18; src/bin/pg_ctl/pg_ctl.c.
"""

import re
import signal
from typing import Any

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.pin import Pin, pin_wait_backends
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.signals import read_signals
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.pg_ctl.test_commands import no_pid_file, unused_pid

PG_CTL = [Need.PG_CTL]
HELD_START = [Need.PG_CTL, Need.RESTORE_COMMAND]
"""A start that can be held for as long as one likes."""

STARTED = r"waiting for server to start\.{3,} done\nserver started\n"
STOPPED = r"waiting for server to shut down\.{3,} done\nserver stopped\n"
GAVE_UP_START = r"waiting for server to start\.{3,} stopped waiting\n"
GAVE_UP_STOP = r"waiting for server to shut down\.{3,} failed\n"
COULD_NOT_START = "pg_ctl: could not start server\nExamine the log output.\n"
DOES_NOT_SHUT_DOWN = "pg_ctl: server does not shut down\n"
HINT = (
    'HINT: The "-m fast" option immediately disconnects sessions rather than\n'
    "waiting for session-initiated disconnection.\n"
)
ANOTHER_SERVER = "pg_ctl: another server might be running; trying to start server anyway\n"


def said(text: str, pattern: str) -> bool:
    """Whether this is the whole output."""
    return re.fullmatch(pattern, text) is not None


def log_option(cluster: Cluster) -> tuple[str, str]:
    """The server's log where the suite reads it."""
    return ("-l", str(cluster.stderr))


def adopt_server(cluster: Cluster) -> None:
    """The server becomes ours now; there was no pid file yet, maybe, when pg_ctl came back."""
    cluster.pg_ctl("status")


def catches_int(pid: Pid) -> bool:
    """Whether this process has a handler for INT."""
    found = read_signals(pid)
    return found is not None and signal.SIGINT in found.caught


@claim("CT-05", source="pg_ctl.c: do_start(), wait_for_postmaster_start()", needs=PG_CTL)
def test_start_waits_until_the_server_is_ready(stopped_cluster: Cluster) -> None:
    """pg_ctl start comes back when the pid file says `ready`, exits 0 and says so."""
    cluster = stopped_cluster
    done = cluster.pg_ctl("start", *log_option(cluster))
    assert (done.code, done.err) == (0, "")
    assert said(done.out, STARTED)
    assert cluster.pid_file_status() is PidFileStatus.READY
    cluster.expect_service()


@claim("CT-02", source="pg_ctl.c: do_start(), do_stop()", needs=PG_CTL)
def test_without_waiting(stopped_cluster: Cluster) -> None:
    """With -W start and stop say what they began and come back at once."""
    cluster = stopped_cluster
    done = cluster.pg_ctl("start", "-W", *log_option(cluster))
    assert (done.code, done.out, done.err) == (0, "server starting\n", "")
    cluster.expect_pid_file(PidFileStatus.READY)
    adopt_server(cluster)
    with cluster.session() as session:
        done = cluster.pg_ctl("stop", "-W", "-m", "smart")
        assert (done.code, done.out, done.err) == (0, "server shutting down\n", "")
        cluster.expect_log("^received smart shutdown request$")
        assert session.query("select 1") == [("1",)]
    cluster.expect_exit(code=0)


@claim("CT-02", source="pg_ctl.c: print_msg()", needs=PG_CTL)
def test_silent_mode(stopped_cluster: Cluster) -> None:
    """With -s nothing is said that is no complaint."""
    cluster = stopped_cluster
    done = cluster.pg_ctl("start", "-s", *log_option(cluster))
    assert (done.code, done.out, done.err) == (0, "", "")
    done = cluster.pg_ctl("stop", "-s")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert cluster.pid_file() is None


@claim("CT-06 ST-02", source="pg_ctl.c: wait_for_postmaster_start()", needs=PG_CTL)
def test_start_that_fails(stopped_cluster: Cluster) -> None:
    """If the server ends instead of getting ready, start stops waiting and exits 1."""
    cluster = stopped_cluster
    cluster.configure(superuser_reserved_connections=50, max_connections=20)
    done = cluster.pg_ctl("start", *log_option(cluster))
    assert (done.code, done.err) == (1, COULD_NOT_START)
    assert said(done.out, GAVE_UP_START)
    assert cluster.pid_file() is None


@claim("CT-05 CR-50", source="pg_ctl.c: do_start()", needs=PG_CTL)
def test_start_beside_a_running_server(cluster: Cluster) -> None:
    """A pid file draws a warning only; the second postmaster refuses, and start exits 1."""
    then = cluster.since()
    done = cluster.pg_ctl("start", *log_option(cluster))
    assert done.code == 1
    assert done.err == ANOTHER_SERVER + COULD_NOT_START
    assert said(done.out, GAVE_UP_START)
    refusal = then.expect_log("^lock file .* already exists$")
    assert refusal.level == "FATAL"
    assert cluster.is_running()
    assert cluster.pid_file_status() is PidFileStatus.READY


@claim("CT-05 CT-17 CR-51", source="pg_ctl.c: do_start()", needs=PG_CTL)
def test_start_over_a_stale_pid_file(stopped_cluster: Cluster) -> None:
    """A stale pid file draws the same warning, and then the server starts."""
    cluster = stopped_cluster
    cluster.write_file("postmaster.pid", f"{unused_pid()}\n")
    done = cluster.pg_ctl("start", *log_option(cluster))
    assert (done.code, done.err) == (0, ANOTHER_SERVER)
    assert said(done.out, STARTED)
    assert cluster.pid_file_status() is PidFileStatus.READY


@claim("CT-02 CT-06", source="pg_ctl.c: wait_for_postmaster_start()", needs=HELD_START)
@pytest.mark.parametrize("how", ["-t", "PGCTLTIMEOUT", "both"])
def test_start_that_takes_too_long(stopped_cluster: Cluster, how: str) -> None:
    """When the time is over start exits 1, and the server goes on starting. -t wins."""
    cluster = stopped_cluster
    barrier = StartupBarrier(cluster)
    option = () if how == "PGCTLTIMEOUT" else ("-t", "1")
    environment: dict[str, Any] = {}
    if how != "-t":
        environment["PGCTLTIMEOUT"] = "1" if how == "PGCTLTIMEOUT" else "60"
    done = cluster.pg_ctl("start", *option, *log_option(cluster), **environment)
    assert (done.code, done.err) == (1, "pg_ctl: server did not start in time\n")
    # One dot at once and then one a second: in one second no second one.
    assert done.out == "waiting for server to start.... stopped waiting\n"
    cluster.expect_pid_file(PidFileStatus.STARTING)
    adopt_server(cluster)
    barrier.open()
    cluster.expect_ready()


@claim("CT-18", source="pg_ctl.c: trap_sigint_during_startup()", needs=HELD_START)
def test_interrupt_of_a_waiting_start(stopped_cluster: Cluster) -> None:
    """INT to a waiting pg_ctl start is passed on as a fast shutdown, and ends pg_ctl too."""
    cluster = stopped_cluster
    barrier = StartupBarrier(cluster)
    program = cluster.begin_pg_ctl("start", *log_option(cluster))
    barrier.wait_for_log()
    cluster.wait_for("pg_ctl to be ready for INT", lambda: catches_int(program.pid))
    program.send(signal.SIGINT)
    done = cluster.finish_pg_ctl(program)
    assert done.code == -signal.SIGINT
    cluster.expect_log("^received fast shutdown request$")
    barrier.open()
    cluster.wait_for(
        "the end of the server", lambda: cluster.pid_file() is None, deadlines.SHUTDOWN_LIMIT
    )


@claim("CT-05 SH-40", source="pg_ctl.c: do_start()", needs=[*PG_CTL, Need.STANDBY])
def test_standby_that_takes_no_sessions_has_started(stopped_cluster: Cluster) -> None:
    """`standby` in the pid file counts as started too."""
    cluster = stopped_cluster
    cluster.configure(hot_standby="off", max_connections=100)
    cluster.write_file("standby.signal")
    done = cluster.pg_ctl("start", *log_option(cluster))
    assert (done.code, done.err) == (0, "")
    assert said(done.out, STARTED)
    assert cluster.pid_file_status() is PidFileStatus.STANDBY


@claim("CT-13 TF-01 INV-105", source="pg_ctl.c: do_promote()", needs=[*PG_CTL, Need.STANDBY])
@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "not waiting"])
def test_promotion(stopped_cluster: Cluster, waits: bool) -> None:
    """pg_ctl promote makes a standby a primary; it waits for the control file to say so."""
    cluster = stopped_cluster
    cluster.configure(max_connections=100)
    cluster.write_file("standby.signal")
    done = cluster.pg_ctl("start", *log_option(cluster))
    assert done.code == 0
    done = cluster.pg_ctl("promote", *(() if waits else ("-W",)))
    assert (done.code, done.err) == (0, "")
    if waits:
        assert said(done.out, r"waiting for server to promote\.{3,} done\nserver promoted\n")
    else:
        assert done.out == "server promoting\n"
    cluster.expect_ready()
    assert not (cluster.data / "promote").exists()
    assert cluster.pg_ctl("promote").code == 1


@claim("CT-03 CT-09 SH-02", source="pg_ctl.c: do_stop(), set_mode()", needs=PG_CTL)
@pytest.mark.parametrize(
    ("option", "mode"),
    [
        ((), "fast"),
        (("-m", "smart"), "smart"),
        (("-m", "s"), "smart"),
        (("-m", "fast"), "fast"),
        (("-m", "f"), "fast"),
        (("-m", "immediate"), "immediate"),
        (("-m", "i"), "immediate"),
    ],
    ids=["default", "smart", "s", "fast", "f", "immediate", "i"],
)
def test_stop_requests_the_named_mode(cluster: Cluster, option: tuple[str, ...], mode: str) -> None:
    """pg_ctl stop sends one request, fast by default, and waits until the postmaster exits."""
    then = cluster.since()
    done = cluster.pg_ctl("stop", *option)
    assert (done.code, done.err) == (0, "")
    assert said(done.out, STOPPED)
    assert cluster.pid_file() is None
    cluster.expect_exit(code=0)
    requests = then.messages(matching="^received ")
    assert requests == [f"received {mode} shutdown request"]


@claim("CT-09", source="pg_ctl.c: do_stop(), wait_for_postmaster_stop()", needs=PG_CTL)
@pytest.mark.parametrize("how", ["-t", "PGCTLTIMEOUT"])
def test_smart_stop_that_takes_too_long(cluster: Cluster, how: str) -> None:
    """When the time is over stop exits 1 with a hint; the request stays in force."""
    environment: dict[str, Any] = {} if how == "-t" else {"PGCTLTIMEOUT": "1"}
    with cluster.session() as session:
        option = ("-t", "1") if how == "-t" else ()
        done = cluster.pg_ctl("stop", "-m", "smart", *option, **environment)
        assert (done.code, done.err) == (1, DOES_NOT_SHUT_DOWN + HINT)
        assert said(done.out, GAVE_UP_STOP)
        assert session.query("select 1") == [("1",)]
        cluster.expect_pid_file(PidFileStatus.STOPPING)
    cluster.expect_exit(code=0)


@claim("CT-09", source="pg_ctl.c: do_stop()", needs=[*PG_CTL, Need.OS_SIGNALS])
def test_fast_stop_that_takes_too_long(cluster: Cluster) -> None:
    """A fast stop that fails draws no hint."""
    with pin_wait_backends(cluster):
        done = cluster.pg_ctl("stop", "-t", "1")
        assert (done.code, done.err) == (1, DOES_NOT_SHUT_DOWN)
        assert said(done.out, GAVE_UP_STOP)
    cluster.expect_exit(code=0)


@claim(
    "CT-10 CR-30",
    source="pg_ctl.c: do_stop()",
    needs=[*PG_CTL, Need.OS_SIGNALS, Need.CRASH_INJECTION],
)
def test_stop_says_nothing_of_an_abnormal_end(cluster: Cluster) -> None:
    """pg_ctl stop exits 0 although the server ends with 1 after a crash."""
    # First the request, then the crash: the other way round there are five seconds for it (SL-05).
    with cluster.session():
        program = cluster.begin_pg_ctl("stop", "-m", "smart")
        cluster.expect_log("^received smart shutdown request$")
        cluster.crash(Kind.BACKGROUND_WRITER)
        done = cluster.finish_pg_ctl(program)
    assert (done.code, done.err) == (0, "")
    assert said(done.out, STOPPED)
    cluster.expect_exit(code=1)
    cluster.expect_log("^abnormal database system shutdown$")


@claim(
    "CT-09", source="pg_ctl.c: wait_for_postmaster_stop()", needs=[*PG_CTL, Need.CRASH_INJECTION]
)
@pytest.mark.unmonitored("the model ends with its postmaster")
def test_stop_of_a_server_that_is_killed_meanwhile(cluster: Cluster) -> None:
    """If the process goes but its pid file stays, stop fails at once."""
    with Pin(cluster, Kind.CHECKPOINTER):
        program = cluster.begin_pg_ctl("stop")
        cluster.expect_log("^received fast shutdown request$")
        cluster.signal_postmaster(signal.SIGKILL)
        cluster.expect_exit(code=None)
        done = cluster.finish_pg_ctl(program)
    assert (done.code, done.err) == (1, DOES_NOT_SHUT_DOWN)
    assert said(done.out, GAVE_UP_STOP)


@claim("CT-11", source="pg_ctl.c: do_restart()", needs=PG_CTL)
def test_restart_stops_and_starts(cluster: Cluster) -> None:
    """pg_ctl restart stops fast, starts anew with another pid, and says both."""
    before = cluster.pid
    then = cluster.since()
    done = cluster.pg_ctl("restart", *log_option(cluster))
    assert (done.code, done.err) == (0, "")
    assert said(done.out, STOPPED + STARTED)
    assert cluster.pid != before
    then.expect_line("received fast shutdown request")
    assert cluster.pid_file_status() is PidFileStatus.READY


@claim("CT-11", source="pg_ctl.c: do_restart(), read_post_opts()", needs=PG_CTL)
def test_restart_keeps_the_options(stopped_cluster: Cluster) -> None:
    """A restart takes the options of the last start, and new ones instead if it is given some."""
    cluster = stopped_cluster

    def work_mem() -> list[tuple[str | None, ...]]:
        with cluster.session() as session:
            return session.query("show work_mem")

    assert cluster.pg_ctl("start", "-o", "-c work_mem=5MB", *log_option(cluster)).code == 0
    assert work_mem() == [("5MB",)]
    assert '"work_mem=5MB"' in (cluster.data / "postmaster.opts").read_text(encoding="utf-8")
    assert cluster.pg_ctl("restart", "-m", "immediate", *log_option(cluster)).code == 0
    assert work_mem() == [("5MB",)]
    done = cluster.pg_ctl("restart", "-o", "-c work_mem=6MB", *log_option(cluster))
    assert done.code == 0
    assert work_mem() == [("6MB",)]
    options = (cluster.data / "postmaster.opts").read_text(encoding="utf-8")
    assert options.count("\n") == 1
    assert options.count("work_mem") == 1


@claim("CT-11", source="pg_ctl.c: do_restart()", needs=PG_CTL)
def test_restart_without_a_server(stopped_cluster: Cluster) -> None:
    """A restart without a pid file warns and starts, if it knows the options of a last start."""
    cluster = stopped_cluster
    warning = no_pid_file(cluster) + "trying to start server anyway\n"
    done = cluster.pg_ctl("restart", *log_option(cluster))
    unknown = f'pg_ctl: could not read file "{cluster.data / "postmaster.opts"}"\n'
    assert (done.code, done.out, done.err) == (1, "", warning + unknown)
    cluster.start()
    cluster.stop()
    done = cluster.pg_ctl("restart", *log_option(cluster))
    assert (done.code, done.err) == (0, warning)
    assert said(done.out, STARTED)


@claim("CT-11", source="pg_ctl.c: do_restart()", needs=PG_CTL)
def test_restart_of_a_server_that_has_gone(cluster: Cluster) -> None:
    """A restart with a stale pid file says so and starts."""
    cluster.stop()
    pid = unused_pid()
    cluster.write_file("postmaster.pid", f"{pid}\n")
    done = cluster.pg_ctl("restart", *log_option(cluster))
    expected = f"pg_ctl: old server process (PID: {pid}) seems to be gone\nstarting server anyway\n"
    assert (done.code, done.err) == (0, expected)
    assert said(done.out, STARTED)


@claim("CT-11", source="pg_ctl.c: do_restart()", needs=[*PG_CTL, Need.OS_SIGNALS])
def test_restart_that_cannot_stop(cluster: Cluster) -> None:
    """If the old server does not end in time, nothing is started and restart exits 1."""
    before = cluster.pid
    with cluster.session():
        done = cluster.pg_ctl("restart", "-m", "smart", "-t", "1", *log_option(cluster))
        assert (done.code, done.err) == (1, DOES_NOT_SHUT_DOWN + HINT)
        assert said(done.out, GAVE_UP_STOP)
        assert cluster.pid == before
        assert cluster.is_running()
    cluster.expect_exit(code=0)


@claim("CT-12 SG-02", source="pg_ctl.c: do_reload()", needs=PG_CTL)
def test_reload_sends_one_hup(cluster: Cluster) -> None:
    """pg_ctl reload draws exactly one line from the postmaster."""
    then = cluster.since()
    assert cluster.pg_ctl("reload").code == 0
    then.expect_exactly(["received SIGHUP, reloading configuration files"])
