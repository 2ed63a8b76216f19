"""The end of recovery: at its target, by promotion, or by a failure; and what pg_ctl prints.

Source: RC-09 to RC-14, CT-07, CT-13, TF-01; xlogrecovery.c, xlogfuncs.c: pg_promote(),
pg_ctl.c: do_promote(), wait_for_postmaster_promote().
"""

import signal
from typing import Any

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import READY_LINE, Cluster, MakeCluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.cluster.standby import READ_ONLY_LINE
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.pg_ctl.test_commands import no_pid_file
from pglife_conformance.scenarios.pg_ctl.test_start_details import is_alive

STANDBY = [Need.STANDBY, Need.FULL_SQL, Need.RESTORE_COMMAND]
PG_CTL = [*STANDBY, Need.PG_CTL, Need.OS_SIGNALS]
TARGET_NAME = "here"
NOT_IN_PREREQUISITE_STATE = "55000"
AS_AT_INITDB: dict[str, Any] = {"max_connections": "100"}
PROMOTING = "waiting for server to promote...."
NOT_IN_TIME = "pg_ctl: server did not promote in time\n"


def recovering(make_cluster: MakeCluster, **options: Any) -> Cluster:
    """A stopped cluster whose restore_command reads the WAL of another cluster of the same system.

    That WAL has a restore point between the creations of two tables.
    """
    source = make_cluster(wal_keep_size="64MB")
    source.start()
    with source.session() as session:
        session.query("create table before ()")
        session.query(f"select pg_create_restore_point('{TARGET_NAME}')")
        session.query("create table behind ()")
    source.stop()
    command = f"cp {source.data}/pg_wal/%f %p"
    named: dict[str, Any] = {"recovery_target_name": TARGET_NAME, "restore_command": command}
    cluster = make_cluster(**(AS_AT_INITDB | named | options))
    cluster.write_file("recovery.signal")
    return cluster


def tables(session: Session) -> set[str | None]:
    """Which of the two tables exist."""
    names = "select relname from pg_class where relname in ('before', 'behind')"
    return {row[0] for row in session.query(names)}


class Barrier:
    """The startup process waits in its restore_command, and the server starts, until opened."""

    def __init__(self, cluster: Cluster) -> None:
        self._file = cluster.data / "gate"
        command = f"while [ ! -e {self._file} ]; do sleep 0.01; done; "
        cluster.configure(restore_command=command + cluster.settings["restore_command"])
        cluster.at_end.append(self.open)

    def open(self) -> None:
        """Let this restore_command and later ones continue."""
        if self._file.parent.exists():
            self._file.touch()


@claim("CT-07 RC-09 RC-10", source="pg_ctl.c: wait_for_postmaster_start()", needs=PG_CTL)
@pytest.mark.parametrize("hot", [True, False], ids=["shutdown", "pause, not hot"])
def test_shutdown_at_the_target_is_no_failure(make_cluster: MakeCluster, hot: bool) -> None:
    """When a server exits at its recovery target pg_ctl start reports it and exits 0, since 18."""
    action = {"recovery_target_action": "shutdown" if hot else "pause", "hot_standby": hot}
    cluster = recovering(make_cluster, **action)
    barrier = Barrier(cluster)
    program = cluster.begin_pg_ctl("start", "-l", str(cluster.stderr))
    cluster.expect_log("^database system was shut down at ", within=deadlines.START_LIMIT)
    pid_file = cluster.pid_file()
    assert pid_file is not None
    assert pid_file.pid is not None
    server = pid_file.pid
    # Stopped, pg_ctl cannot see the server `ready` just before it exits.
    program.send(signal.SIGSTOP)
    barrier.open()
    cluster.wait_for("the end of the server", lambda: not is_alive(server))
    program.send(signal.SIGCONT)
    done = cluster.finish_pg_ctl(program)
    found = (done.code, done.out.replace(".", ""), done.err)
    if cluster.major >= 18:
        printed = "waiting for server to start done\n"
        printed += "server shut down because of recovery target settings\n"
        assert found == (0, printed, "")
    else:
        failed = "pg_ctl: could not start server\nExamine the log output.\n"
        assert found == (1, "waiting for server to start stopped waiting\n", failed)
    cluster.expect_log("^shutdown at recovery target$")
    assert cluster.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY
    assert (cluster.data / "recovery.signal").exists()
    assert cluster.pid_file() is None


@claim("RC-09", source="xlogrecovery.c: PerformWalRecovery()", needs=STANDBY)
def test_pause_at_the_target(make_cluster: MakeCluster) -> None:
    """With action pause the server is read-only at its target until recovery is resumed."""
    cluster = recovering(make_cluster, recovery_target_action="pause")
    cluster.start(wait=False)
    cluster.expect_log("^pausing at the end of recovery$", within=deadlines.START_LIMIT)
    session = cluster.session()
    assert tables(session) == {"before"}
    assert session.query("select pg_is_in_recovery()") == [("t",)]
    # The log line precedes the confirmation of the pause.
    session.expect_rows("select pg_get_wal_replay_pause_state()", [("paused",)])
    session.query("select pg_wal_replay_resume()")
    cluster.expect_ready()
    assert session.query("select pg_is_in_recovery()") == [("f",)]
    assert tables(session) == {"before"}
    assert not (cluster.data / "recovery.signal").exists()


@claim("RC-09 RC-12", source="xlogrecovery.c: PerformWalRecovery()", needs=STANDBY)
def test_promotion_at_the_target(make_cluster: MakeCluster) -> None:
    """With action promote the server becomes a primary at its target, on a new timeline."""
    cluster = recovering(make_cluster, recovery_target_action="promote")
    cluster.start()
    cluster.expect_log("^selected new timeline ID: 2$")
    with cluster.session() as session:
        assert tables(session) == {"before"}
        session.query("create table other ()")
    assert cluster.controldata_state() is ControlState.IN_PRODUCTION


@claim("RC-11 RC-10", source="xlogrecovery.c: PerformWalRecovery()", needs=STANDBY)
def test_target_that_is_not_reached(make_cluster: MakeCluster) -> None:
    """If WAL ends before the target the server exits 1 and never logs that it is ready."""
    cluster = recovering(make_cluster, recovery_target_name="nowhere")
    cluster.start(wait=False)
    cluster.expect_exit(code=1)
    record = cluster.expect_log("^recovery ended before configured recovery target was reached$")
    assert record.level == "FATAL"
    cluster.expect_no_log(f"^{READY_LINE}$")
    cluster.expect_no_log("^shutdown at recovery target$")


# Promotion.


def start_standby(cluster: Cluster) -> Cluster:
    """A hot standby without a primary, which waits for WAL."""
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    cluster.expect_pid_file(PidFileStatus.READY)
    return cluster


def pinned_startup(cluster: Cluster) -> tuple[Pin, Child]:
    """The startup process, stopped, so that it does not react to a promotion request."""
    pin = Pin(cluster, Kind.STARTUP)
    return pin, pin.child


@claim("RC-14 RC-12 TF-01", source="xlogfuncs.c: pg_promote()", needs=STANDBY)
@settings(**AS_AT_INITDB)
@pytest.mark.parametrize("arguments", ["", "false"], ids=["waiting", "not waiting"])
def test_promotion_from_a_session(stopped_cluster: Cluster, arguments: str) -> None:
    """pg_promote() makes a standby a primary and keeps its session; a second call is refused."""
    cluster = start_standby(stopped_cluster)
    with cluster.session() as session:
        assert session.query(f"select pg_promote({arguments})") == [("t",)]
        if not arguments:
            assert session.query("select pg_is_in_recovery()") == [("f",)]
        cluster.expect_ready()
        session.query("create table something ()")
        with pytest.raises(ServerError, match="recovery is not in progress") as refused:
            session.query("select pg_promote()")
        assert refused.value.sqlstate == NOT_IN_PREREQUISITE_STATE
    cluster.expect_log("^received promote request$")
    assert not (cluster.data / "promote").exists()
    assert not (cluster.data / "standby.signal").exists()


@claim("RC-14", source="xlogfuncs.c: pg_promote()", needs=[*STANDBY, Need.OS_SIGNALS])
@settings(**AS_AT_INITDB)
def test_promotion_from_a_session_that_takes_too_long(stopped_cluster: Cluster) -> None:
    """After its timeout pg_promote() warns and returns false; the promotion continues."""
    cluster = start_standby(stopped_cluster)
    session = cluster.session()
    pin, startup = pinned_startup(cluster)
    with pin:
        assert session.query("select pg_promote(true, 1)") == [("f",)]
        notice = session.notices[-1]
        assert (notice.severity, notice.message) == (
            "WARNING",
            "server did not promote within 1 second",
        )
        cluster.expect_pending(startup, signal.SIGUSR2)
    cluster.expect_ready()


@claim("CT-13 CT-02", source="pg_ctl.c: wait_for_postmaster_promote()", needs=PG_CTL)
@settings(**AS_AT_INITDB)
def test_promotion_by_pg_ctl_that_takes_too_long(stopped_cluster: Cluster) -> None:
    """After a timeout of one second pg_ctl promote exits 1; the promotion continues."""
    cluster = start_standby(stopped_cluster)
    pin, startup = pinned_startup(cluster)
    with pin:
        done = cluster.pg_ctl("promote", "-t", "1")
        assert (done.code, done.out, done.err) == (1, f"{PROMOTING} stopped waiting\n", NOT_IN_TIME)
        cluster.expect_pending(startup, signal.SIGUSR2)
        assert (cluster.data / "promote").read_bytes() == b""
    cluster.expect_ready()
    assert not (cluster.data / "promote").exists()


@claim("CT-13", source="pg_ctl.c: wait_for_postmaster_promote()", needs=PG_CTL)
@settings(**AS_AT_INITDB)
@pytest.mark.parametrize("how", ["killed", "file removed"])
def test_server_that_exits_while_it_is_promoted(stopped_cluster: Cluster, how: str) -> None:
    """If the server is killed or its pid file removed, pg_ctl promote exits 1 at once."""
    cluster = start_standby(stopped_cluster)
    pin, startup = pinned_startup(cluster)
    with pin:
        program = cluster.begin_pg_ctl("promote")
        cluster.wait_for("the promotion", lambda: signal.SIGUSR2 in pending_signals(startup))
        if how == "killed":
            cluster.signal_postmaster(signal.SIGKILL)
            # Until the zombie has been reaped kill() finds it.
            cluster.expect_exit(code=None)
        else:
            (cluster.data / "postmaster.pid").unlink()
        done = cluster.finish_pg_ctl(program, within=deadlines.REACTION_LIMIT)
    assert (done.code, done.err) == (1, NOT_IN_TIME)
    said = f"{PROMOTING} stopped waiting\n".replace(".", "")
    assert done.out.replace(".", "") == said


@claim("CT-13 CT-17", source="pg_ctl.c: do_promote()", needs=[*PG_CTL, Need.CRASH_INJECTION])
@settings(**AS_AT_INITDB)
def test_standby_that_cannot_be_promoted(stopped_cluster: Cluster) -> None:
    """If it can write no file or signal no server, pg_ctl promote exits 1 and leaves no file."""
    cluster = start_standby(stopped_cluster)
    path = cluster.data / "promote"
    path.mkdir()
    done = cluster.pg_ctl("promote")
    printed = f'pg_ctl: could not create promote signal file "{path}": Is a directory\n'
    assert (done.code, done.out, done.err) == (1, "", printed)
    path.rmdir()
    pid = cluster.pid
    cluster.signal_postmaster(signal.SIGKILL)
    cluster.expect_exit(code=None)
    done = cluster.pg_ctl("promote")
    printed = f"pg_ctl: could not send promote signal (PID: {pid}): No such process\n"
    assert (done.code, done.out, done.err) == (1, "", printed)
    assert not path.exists()
    (cluster.data / "postmaster.pid").unlink()
    done = cluster.pg_ctl("promote")
    assert (done.code, done.out, done.err) == (1, "", no_pid_file(cluster))
