"""The postmaster dies: its children exit, and a new postmaster may start when all have exited.

Source: postmaster.c: PostmasterMain(), pmsignal.c: PostmasterIsAlive(),
miscinit.c: CreateLockFile().
"""

import signal

import pytest

from pglife_conformance.base.deadlines import REACTION_LIMIT, START_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import ADMIN_SHUTDOWN
from pglife_conformance.cluster.client import Ending
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.leftovers import processes_in
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child, RunState
from pglife_conformance.pytest.claims import claim, settings

PIPE = "pmsignal.c: PostmasterIsAlive()"
LOCK = "miscinit.c: CreateLockFile()"
DEATH = [Need.OS_SIGNALS, Need.CRASH_INJECTION]
UNEXPECTED_EXIT = "terminating connection due to unexpected postmaster exit"

UNMONITORED = pytest.mark.unmonitored("the model ends with its postmaster")


def kill_postmaster(cluster: Cluster, number: signal.Signals = signal.SIGKILL) -> None:
    """Kill the postmaster and wait for its exit."""
    cluster.signal_postmaster(number)
    cluster.expect_exit(code=None)


def expect_no_process_left(cluster: Cluster) -> None:
    """No process of this data directory is left."""
    cluster.expect_no_process(within=REACTION_LIMIT)


def expect_fatal_about_postmaster(session: Session) -> None:
    """The session sends FATAL 57P01 about the postmaster and closes the connection (SE-28)."""
    final = session.expect_final_message()
    assert final is not None
    assert (final.severity, final.sqlstate, final.message) == (
        "FATAL",
        ADMIN_SHUTDOWN,
        UNEXPECTED_EXIT,
    )
    assert session.ending is Ending.END_OF_FILE


def busy_session(cluster: Cluster, sql: str) -> Session:
    """A session stopped in the middle of this statement; the caller continues it."""
    session = cluster.session()
    backend = session.child
    session.send_query(sql)

    def is_stopped_in_it() -> bool:
        if cluster.child_with_pid(backend.pid).title.endswith(" SELECT"):
            cluster.signal_child(backend, signal.SIGSTOP)
            cluster.wait_for("the session to be stopped", lambda: _is_stopped(cluster, backend))
            if session.is_silent():
                return True
            cluster.signal_child(backend, signal.SIGCONT)
        if not session.is_silent():
            # The statement ended before the session was stopped: run it again.
            session.result()
            session.send_query(sql)
        return False

    cluster.wait_for("the session stopped in its statement", is_stopped_in_it)
    return session


def _is_stopped(cluster: Cluster, child: Child) -> bool:
    return any(
        kid.key == child.key and kid.state is RunState.STOPPED for kid in cluster.watcher.kids
    )


@claim("CR-41 CR-52 SG-07 INV-102", source=PIPE, needs=DEATH)
@UNMONITORED
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT], ids=lambda number: number.name
)
@settings(logging_collector="on")
def test_children_exit_when_the_postmaster_dies(cluster: Cluster, number: signal.Signals) -> None:
    """When the postmaster dies all children exit, the logger too; the pid file stays unchanged."""
    before = cluster.pid_file()
    then = cluster.since()
    kill_postmaster(cluster, number)
    expect_no_process_left(cluster)
    assert before is not None
    assert cluster.pid_file() == before
    assert before.status is PidFileStatus.READY
    messages = [r.message for r in then.log() if r.level in ("LOG", "WARNING", "PANIC")]
    assert messages == []


@claim("SE-28 CR-52", source="be-secure.c: secure_read()", needs=DEATH)
@UNMONITORED
def test_idle_sessions_notice_the_postmasters_death(cluster: Cluster) -> None:
    """An idle session sends FATAL 57P01 and exits when the postmaster dies."""
    sessions = [cluster.session() for _ in range(2)]
    kill_postmaster(cluster)
    for session in sessions:
        expect_fatal_about_postmaster(session)
    expect_no_process_left(cluster)


@claim("CR-41 SG-30", source=PIPE, needs=DEATH)
@UNMONITORED
def test_child_before_its_packet_exits_without_a_message(cluster: Cluster) -> None:
    """A child before its startup packet exits without ERROR, at the latest when it gets one."""
    client = cluster.silent_client()
    kill_postmaster(cluster)
    client.client.send_startup({"user": "postgres", "database": "postgres"})
    messages = client.expect_end()
    assert all(message.severity != "ERROR" for message in messages if message.tag.value == b"E")
    expect_no_process_left(cluster)


@claim("CR-53 SE-29", source="be-secure.c: secure_read()", needs=[*DEATH, Need.FULL_SQL])
@UNMONITORED
def test_orphan_finishes_its_statement(cluster: Cluster) -> None:
    """A busy session returns its result first, and then sends FATAL 57P01."""
    session = busy_session(cluster, "select count(*) from generate_series(1, 1000000)")
    kill_postmaster(cluster)
    cluster.signal_child(session.child, signal.SIGCONT)
    assert session.result() == [("1000000",)]
    expect_fatal_about_postmaster(session)
    expect_no_process_left(cluster)


@claim("CR-55 SH-44 SH-45 INV-63", source=LOCK, needs=[*DEATH, Need.SYSV_SHM])
@UNMONITORED
@pytest.mark.parametrize("pid_file", ["kept", "removed"])
def test_orphan_blocks_a_new_start(cluster: Cluster, pid_file: str) -> None:
    """While an orphan uses the shared memory no postmaster starts, even without a pid file."""
    session = cluster.session()
    orphan = cluster.signal_child(session.child, signal.SIGSTOP)
    kill_postmaster(cluster)
    cluster.expect_no_process(orphan)
    if pid_file == "removed":
        (cluster.data / "postmaster.pid").unlink()
    done = cluster.run_postgres()
    assert done.code == 1
    text = done.err + done.out
    assert "FATAL:  pre-existing shared memory block (key " in text
    assert ") is still in use" in text
    hint = "HINT:  Terminate any old server processes associated with data directory "
    assert f'{hint}"{cluster.data}".' in text
    cluster.signal_child(orphan, signal.SIGCONT)
    expect_fatal_about_postmaster(session)
    expect_no_process_left(cluster)
    cluster.start()
    cluster.was_killed = False
    cluster.stop()


@claim("CR-51 CR-23 SH-44", source=LOCK, needs=DEATH)
@UNMONITORED
def test_new_postmaster_recovers_after_the_old_ones_death(cluster: Cluster) -> None:
    """When all old processes have exited a new postmaster replaces the pid file and recovers."""
    old = cluster.pid
    kill_postmaster(cluster)
    expect_no_process_left(cluster)
    then = cluster.since()
    cluster.start()
    assert cluster.pid != old
    assert then.find_log("^database system was interrupted; last known up at ")
    assert then.find_log("^database system was not properly shut down; ")
    pid_file = cluster.pid_file()
    assert pid_file is not None
    assert pid_file.pid == cluster.pid
    cluster.expect_service()
    cluster.was_killed = False
    cluster.stop()


@claim("CR-50 SH-43 ST-05", source=LOCK)
def test_second_postmaster_is_refused(cluster: Cluster) -> None:
    """A second postmaster in the same data directory exits 1, and the first is not disturbed."""
    # Compare keys: the title of an io worker shows its name a moment before its number.
    before = [kid.key for kid in cluster.children()]
    pid_file = cluster.pid_file()
    then = cluster.since()
    done = cluster.run_postgres()
    assert done.code == 1
    text = done.err + done.out
    assert 'FATAL:  lock file "postmaster.pid" already exists' in text
    hint = (
        f"HINT:  Is another postmaster (PID {cluster.pid}) running in "
        f'data directory "{cluster.data}"?'
    )
    assert hint in text
    assert [kid.key for kid in cluster.children()] == before
    assert cluster.pid_file() == pid_file
    assert then.log(pid=cluster.pid) == []


@claim("LG-03 CR-54 INV-47", source="syslogger.c: SysLoggerMain()", needs=[*DEATH, Need.LOGGER])
@UNMONITORED
@settings(logging_collector="on")
def test_logger_exits_after_the_last_writer_of_its_pipe(cluster: Cluster) -> None:
    """The logger exits when the last process that has its pipe open has exited."""
    session = cluster.session()
    logger = cluster.child(Kind.LOGGER)
    held = cluster.signal_child(session.child, signal.SIGSTOP)
    kill_postmaster(cluster)
    cluster.expect_no_process(held, logger, within=START_LIMIT)
    cluster.expect_still(
        "the logger running",
        lambda: logger.pid in {process.pid for process in processes_in(cluster.directory)},
        0.2,
    )
    cluster.signal_child(held, signal.SIGCONT)
    expect_no_process_left(cluster)
