"""Crashes as clients and operators see them.

Source: rules CR-02, CR-04, CR-22, CR-25, CR-26, SE-24; postmaster.c: HandleChildCrash(),
PostmasterStateMachine(), tcop/postgres.c: quickdie().
"""

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import CRASH_SHUTDOWN, IN_RECOVERY_MODE, TERMINATED_BY_CRASH
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.lines import SHUT_DOWN, TERMINATING, killed_line, quoted
from pglife_conformance.hold.pin import pin_wait_backends_after_crash
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.crash.test_sigkill_round import Countdown

SOURCE = "postmaster.c: HandleChildCrash()"
SM = "postmaster.c: PostmasterStateMachine()"
CRASH = [Need.OS_SIGNALS, Need.CRASH_INJECTION]

SE_24_DETAIL = (
    "The postmaster has commanded this server process to roll back the current transaction and "
    "exit, because another server process exited abnormally and possibly corrupted shared memory."
)
SE_24_HINT = "In a moment you should be able to reconnect to the database and repeat your command."


@claim("SE-24 CR-02 CR-20", source="tcop/postgres.c: quickdie()", needs=CRASH)
def test_sessions_are_warned_of_a_crash_elsewhere(cluster: Cluster) -> None:
    """A session receives WARNING 57P02 with DETAIL and HINT, or nothing, before it is closed."""
    sessions = [cluster.session() for _ in range(3)]
    before = cluster.since()
    victim = cluster.crash(Kind.WALWRITER)
    for session in sessions:
        for warning in session.expect_end():
            assert (warning.severity, warning.sqlstate) == ("WARNING", CRASH_SHUTDOWN)
            assert warning.message == TERMINATED_BY_CRASH
            assert (warning.detail, warning.hint) == (SE_24_DETAIL, SE_24_HINT)
    before.expect_crash_restart(killed_line(cluster, victim))
    before.expect_no_log(TERMINATED_BY_CRASH)


@claim("CR-04 CN-04", source="postmaster.c: canAcceptConnections()", needs=CRASH)
def test_new_clients_are_refused_while_children_end(cluster: Cluster) -> None:
    """While the children of a crashed server end, new clients are refused: `in recovery mode`."""
    then = cluster.since()
    countdown = Countdown(cluster)
    with pin_wait_backends_after_crash(cluster):
        for _ in range(2):
            with countdown.step():
                cluster.expect_refusal(IN_RECOVERY_MODE)
    then.expect_ready()


@claim("CR-22 INV-70 TR18-34", source=SM, needs=[*CRASH, Need.CONTROL_FILE])
@settings(restart_after_crash="off")
@pytest.mark.parametrize("kind", [Kind.WALWRITER, Kind.CHECKPOINTER], ids=str)
def test_no_restart_with_restart_after_crash_off(cluster: Cluster, kind: Kind) -> None:
    """With restart_after_crash off the postmaster exits 1 when all children have exited."""
    cluster.session()
    then = cluster.since()
    victim = cluster.crash(kind)
    cluster.expect_exit(code=1)
    reason = f"shutting down because {quoted('restart_after_crash', cluster)} is off"
    lines = [killed_line(cluster, victim), TERMINATING, reason, SHUT_DOWN]
    then.expect_postmaster_lines(lines)
    assert cluster.children() == []
    assert cluster.pid_file() is None
    assert cluster.controldata_state() is ControlState.IN_PRODUCTION


@claim("LG-02 CR-25", source="syslogger.c: SysLogger_Start()", needs=[*CRASH, Need.LOGGER])
@settings(logging_collector="on")
def test_logger_survives_a_crash_restart(cluster: Cluster) -> None:
    """The logger keeps running during a crash restart."""
    before = cluster.since()
    victim = cluster.crash(Kind.WALWRITER)
    before.expect_crash_restart(killed_line(cluster, victim))
    assert len(cluster.children(Kind.LOGGER)) == 1


@claim("CR-26 INV-67", source="xlog.c: StartupXLOG()", needs=[*CRASH, Need.FULL_SQL])
def test_what_was_committed_survives_a_crash(cluster: Cluster) -> None:
    """Committed rows survive a crash; uncommitted ones do not, nor rows of unlogged tables."""
    with cluster.session() as session:
        session.query("create table kept (a int)")
        session.query("create unlogged table emptied (a int)")
        session.query("insert into kept values (1), (2)")
        session.query("insert into emptied values (1)")
    open_session = cluster.session()
    open_session.query("begin")
    open_session.query("insert into kept values (3)")
    then = cluster.since()
    cluster.crash(open_session.child)
    then.expect_ready()
    with cluster.session() as session:
        assert session.query("select a from kept order by a") == [("1",), ("2",)]
        assert session.query("select count(*) from emptied") == [("0",)]


@claim(
    "CR-21 SV-30", source="postmaster.c: PostmasterStateMachine()", needs=[*CRASH, Need.FULL_SQL]
)
@pytest.mark.parametrize("value", ["on", "off"])
def test_temporary_files_after_a_crash(stopped_cluster: Cluster, value: str) -> None:
    """remove_temp_files_after_crash decides whether the restart removes temporary files."""
    cluster = stopped_cluster
    cluster.configure(remove_temp_files_after_crash=value)
    cluster.start()
    place = cluster.data / "base" / "pgsql_tmp"
    place.mkdir(exist_ok=True)
    left = place / "pgsql_tmp4711.0"
    left.touch()
    for path in (place, left):
        cluster.target.user.chown(path)
    then = cluster.since()
    cluster.crash(Kind.WALWRITER)
    then.expect_ready()
    assert left.exists() is (value == "off")
    cluster.restart()
    assert not left.exists()
