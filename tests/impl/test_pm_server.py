"""The postmaster with real processes: starts, exits, signals, files."""

import os
import signal

import pytest
from pm_server import HELPERS, IMPL, Cluster, is_zombie, run

CLEAN_END = [
    "STOP_BACKENDS",
    "WAIT_BACKENDS",
    "WAIT_XLOG_SHUTDOWN",
    "WAIT_XLOG_ARCHIVAL",
    "WAIT_IO_WORKERS",
    "WAIT_CHECKPOINTER",
    "WAIT_DEAD_END",
    "NO_CHILDREN",
]
CRASH_RESTART = ["WAIT_BACKENDS", "WAIT_DEAD_END", "NO_CHILDREN", "STARTUP", "RUN"]


def without_recovery(states: list[str]) -> list[str]:
    """States without RECOVERY, which is skipped if the startup process exits first (PG-21)."""
    return [state for state in states if state != "RECOVERY"]


def test_a_start_launches_all_helpers(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait(lambda: set(cluster.children()) == HELPERS, "all helpers")
    assert cluster.states() == ["STARTUP", "RUN"]
    assert cluster.control_state() == "in production"
    lines = [cluster.pid_line(n) for n in range(1, 9)]
    assert lines[0] == str(cluster.pid)
    assert lines[1] == str(cluster.data)
    assert int(lines[2]) > 0
    assert lines[3:6] == ["5432", str(cluster.home), ""]
    assert [int(n) for n in lines[6].split()][1] == 0
    assert lines[7] == "ready   "


@pytest.mark.parametrize(
    ("signum", "states", "control"),
    [
        (signal.SIGTERM, CLEAN_END, "shut down"),
        (signal.SIGINT, CLEAN_END, "shut down"),
        (signal.SIGQUIT, ["WAIT_BACKENDS", "WAIT_DEAD_END", "NO_CHILDREN"], "in production"),
    ],
)
def test_each_shutdown_exits_with_0(
    cluster: Cluster, signum: int, states: list[str], control: str
) -> None:
    cluster.start()
    cluster.signal(signum)
    assert cluster.exit_code() == 0
    assert cluster.states()[2:] == states
    assert cluster.control_state() == control
    assert not (cluster.data / "postmaster.pid").exists()
    assert not list(cluster.home.glob(".s.PGSQL*"))
    assert cluster.log().splitlines()[-1].endswith("LOG:  database system is shut down")


@pytest.mark.parametrize("title", sorted(HELPERS))
def test_a_killed_child_restarts_the_cluster(cluster: Cluster, title: str) -> None:
    cluster.start()
    cluster.wait(lambda: set(cluster.children()) == HELPERS, "all helpers")
    before = cluster.children()
    cluster.kill(title, signal.SIGKILL)
    cluster.wait_ready(times=2)
    assert without_recovery(cluster.states()[2:]) == CRASH_RESTART
    cluster.wait(lambda: set(cluster.children()) == HELPERS, "all helpers")
    assert not set(before.values()) & set(cluster.children().values())
    assert "was terminated by signal 9: Killed" in cluster.log()
    assert cluster.pid_line(8) == "ready   "
    assert cluster.pid_line(7).split()[1] == "1"  # a new generation of shared memory
    cluster.signal(signal.SIGINT)
    assert cluster.exit_code() == 0


@pytest.mark.parametrize("title", ["walwriter ", "background writer ", "autovacuum launcher "])
def test_a_child_that_exits_on_sigterm_is_replaced(cluster: Cluster, title: str) -> None:
    cluster.start()
    old = cluster.kill(title, signal.SIGTERM)
    cluster.wait(lambda: cluster.children().get(title, old) != old, f"another {title}")
    assert cluster.states() == ["STARTUP", "RUN"]


def test_without_restart_after_crash_the_server_exits(cluster: Cluster) -> None:
    cluster.configure("restart_after_crash = off")
    cluster.start()
    cluster.kill("walwriter ", signal.SIGKILL)
    assert cluster.exit_code() == 1
    assert 'shutting down because "restart_after_crash" is off' in cluster.log()


def test_two_killed_children_are_one_crash(cluster: Cluster) -> None:
    cluster.start()
    os.kill(cluster.pid, signal.SIGSTOP)
    dead = [cluster.kill(title, signal.SIGKILL) for title in ("walwriter ", "background writer ")]
    cluster.wait(lambda: all(is_zombie(pid) for pid in dead), "both are killed")
    os.kill(cluster.pid, signal.SIGCONT)
    cluster.wait_ready(times=2)
    assert cluster.log().count("terminating any other active server processes") == 1
    assert without_recovery(cluster.states()[2:]) == CRASH_RESTART


def test_a_child_that_does_not_quit_is_killed_after_five_seconds(cluster: Cluster) -> None:
    cluster.start()
    cluster.kill("io worker 1", signal.SIGSTOP)
    cluster.signal(signal.SIGQUIT)
    assert cluster.exit_code() == 0
    assert "issuing SIGKILL to recalcitrant children" in cluster.log()


def test_sigint_to_the_checkpointer_outside_a_shutdown_is_a_crash(cluster: Cluster) -> None:
    cluster.start()
    cluster.kill("checkpointer ", signal.SIGINT)
    cluster.wait_ready(times=2)
    assert "WAL was shut down unexpectedly" in cluster.log()


def test_a_reload_changes_the_number_of_io_workers(cluster: Cluster) -> None:
    cluster.start()
    cluster.configure("io_workers = 5")
    cluster.signal(signal.SIGHUP)
    cluster.wait(lambda: "io worker 4" in cluster.children(), "five io workers")
    cluster.configure("io_workers = 1", "autovacuum = off")
    cluster.signal(signal.SIGHUP)

    def shrunk() -> bool:
        titles = set(cluster.children())
        return sum(t.startswith("io worker") for t in titles) == 1

    cluster.wait(shrunk, "one io worker")
    cluster.wait(lambda: "autovacuum launcher " not in cluster.children(), "no launcher")
    assert 'parameter "io_workers" changed to "1"' in cluster.log()


# --- the startup process --------------------------------------------------------------------


def block_startup_after_a_crash(cluster: Cluster) -> int:
    """Crash the server and block the next startup process before it does anything: a FIFO stands
    in place of the control file, and open() waits. Return its pid."""
    cluster.start()
    control = cluster.data / "global" / "pg_control"
    saved = control.read_bytes()
    control.unlink()
    os.mkfifo(control)
    if os.geteuid() == 0:
        os.chown(control, 65534, 65534)
    control.with_name("saved").write_bytes(saved)
    cluster.kill("walwriter ", signal.SIGKILL)
    blocked = cluster.child("startup ")
    others = {"checkpointer ", "background writer ", "io worker 0", "io worker 1"}
    cluster.wait(lambda: others <= set(cluster.children()), "the others run")
    return blocked


def restore_control_file(cluster: Cluster) -> None:
    """Put the control file back for the next startup process; the blocked one stays blocked.

    By rename: the next one may open the file at any moment.
    """
    control = cluster.data / "global" / "pg_control"
    control.with_name("saved").rename(control)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_shutdown_during_a_crash_restart_completes(cluster: Cluster, signum: int) -> None:
    block_startup_after_a_crash(cluster)
    cluster.signal(signum)
    assert cluster.exit_code() == 1  # FatalError is left over: "abnormal"
    assert "abnormal database system shutdown" in cluster.log()


@pytest.mark.parametrize("title", ["io worker 0", "checkpointer ", "background writer "])
def test_a_crash_during_the_restart_after_a_crash_restarts_again(
    cluster: Cluster, title: str
) -> None:
    blocked = block_startup_after_a_crash(cluster)
    restore_control_file(cluster)
    cluster.kill(title, signal.SIGKILL)
    cluster.wait(lambda: blocked not in cluster.children().values(), "the blocked one has exited")
    cluster.wait_ready(times=2)
    assert cluster.states().count("STARTUP") == 3
    cluster.signal(signal.SIGINT)
    assert cluster.exit_code() == 0


def test_a_failing_startup_process_ends_the_server(cluster: Cluster) -> None:
    os.kill(block_startup_after_a_crash(cluster), signal.SIGKILL)
    assert cluster.exit_code() == 1
    assert "startup process (PID" in cluster.log()
    assert "shutting down due to startup process failure" in cluster.log()


# --- locks and orphans ----------------------------------------------------------------------


def test_a_second_postmaster_is_refused(cluster: Cluster) -> None:
    cluster.start()
    second = run("postgres", "-D", str(cluster.data))
    assert second.returncode == 1
    assert 'FATAL:  lock file "postmaster.pid" already exists' in second.stderr
    assert f"Is another postmaster (PID {cluster.pid}) running" in second.stderr
    assert cluster.pid_line(8) == "ready   "


@pytest.mark.parametrize("pid_file", ["kept", "deleted"])
def test_orphans_keep_a_new_postmaster_out(cluster: Cluster, pid_file: str) -> None:
    cluster.start()
    orphan = cluster.kill("io worker 1", signal.SIGSTOP)
    cluster.signal(signal.SIGKILL)
    cluster.exit_code()
    if pid_file == "deleted":
        (cluster.data / "postmaster.pid").unlink()
    refused = run("postgres", "-D", str(cluster.data))
    assert refused.returncode == 1
    assert "pre-existing shared memory block (key " in refused.stderr
    assert (cluster.data / "postmaster.pid").exists() == (pid_file == "kept")
    os.kill(orphan, signal.SIGKILL)
    cluster.wait(cluster.every_child_has_exited, "the orphan and all other children have exited")
    cluster.start(until_ready=False)
    cluster.wait_ready(times=2)


def test_children_exit_when_the_postmaster_is_killed(cluster: Cluster) -> None:
    cluster.start()
    client = cluster.connect().ready()
    cluster.children()  # records the pid of the session
    cluster.signal(signal.SIGKILL)
    report = client.report()
    assert report["M"] == "terminating connection due to unexpected postmaster exit"
    cluster.wait(cluster.every_child_has_exited, "every child has exited")


# --- logger, libraries, failures -------------------------------------------------------------


def test_a_startup_process_that_cannot_be_forked_ends_the_server(cluster: Cluster) -> None:
    cluster.start()
    cluster.forbid_forks()
    cluster.kill("walwriter ", signal.SIGKILL)
    assert cluster.exit_code() == 1
    assert 'could not fork "startup" process' in cluster.log()


def test_the_logging_collector_survives_a_crash(cluster: Cluster) -> None:
    cluster.configure("logging_collector = on", "log_filename = 'x.log'")
    cluster.start(until_ready=False)
    cluster.wait(lambda: "logger " in cluster.children(), "the logger")
    logger = cluster.children()["logger "]
    file = cluster.data / "log" / "x.log"

    def opened(times: int) -> bool:
        return file.exists() and file.read_text().count("ready to accept") >= times

    cluster.wait(lambda: opened(1), "ready, in the file")
    cluster.wait(lambda: "walwriter " in cluster.children(), "walwriter is there")
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR2):
        os.kill(logger, signum)
    cluster.kill("walwriter ", signal.SIGKILL)
    cluster.wait(lambda: opened(2), "ready again")
    assert cluster.children()["logger "] == logger
    assert "redirecting log output to logging collector process" in cluster.log()
    os.kill(logger, signal.SIGKILL)
    cluster.wait(lambda: cluster.children().get("logger ", logger) != logger, "a new logger")
    cluster.wait(lambda: "system logger process (PID" in file.read_text(), "the line of its exit")
    cluster.signal(signal.SIGINT)
    assert cluster.exit_code() == 0
    cluster.wait(lambda: "database system is shut down" in file.read_text(), "the last line")
    assert (cluster.data / "current_logfiles").read_text() == "stderr log/x.log\n"


@pytest.mark.parametrize("preload", ["", "pglife_sql"])
def test_the_sql_parser_may_be_preloaded(cluster: Cluster, preload: str) -> None:
    cluster.start("-c", f"shared_preload_libraries={preload}")
    client = cluster.connect().ready()
    client.query("select 40 + 2")
    row = next(body for kind, body in client.until("Z") if kind == "D")
    assert row.endswith(b"42")


def test_a_missing_library_is_refused(cluster: Cluster) -> None:
    cluster.start("-c", "shared_preload_libraries=nosuch", until_ready=False)
    assert cluster.exit_code() == 1
    assert 'FATAL:  could not access file "nosuch": No such file or directory' in cluster.log()
    assert not (cluster.data / "postmaster.pid").exists()


@pytest.mark.parametrize("how", ["deleted", "overwritten"])
def test_a_postmaster_without_its_pid_file_shuts_down(
    cluster: Cluster, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SL-09, with one second instead of a minute: a sitecustomize module changes the constants."""
    hurry = cluster.home / "hurry"
    hurry.mkdir()
    (hurry / "sitecustomize.py").write_text(
        "import sys\n"
        "if any('pglife_impl.commands.postgres' in a for a in sys.orig_argv):\n"
        "    from pglife_impl.postmaster import launch, loop\n"
        "    loop.RECHECK_LOCK_FILE_S = 1\n"
        "    launch.LONGEST_SLEEP_S = 1.0\n"
    )
    if os.geteuid() == 0:
        hurry.chmod(0o755)
    monkeypatch.setattr("pm_server.IMPL", f"{hurry}:{IMPL}")
    cluster.start()
    path = cluster.data / "postmaster.pid"
    if how == "deleted":
        path.unlink()
    else:
        path.write_text("1\n")
    assert cluster.exit_code() == 0
    line = "performing immediate shutdown because data directory lock file is invalid"
    assert line in cluster.log()
    # A file that names another postmaster is left to it.
    assert path.exists() == (how == "overwritten")
