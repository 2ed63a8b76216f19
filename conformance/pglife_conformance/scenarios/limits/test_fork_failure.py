"""A fork that fails, wherever the postmaster forks: what it says, and what it does next.

Every fork fails (pin_fork_failure), or those from a certain child on (forks.py). The defects that
such failures bring out are in test_09_findings_forks.py.

Source       ST-07, SE-34, BG-09, AV-10, LG-05; postmaster.c: BackendStartup(), StartChildProcess(),
             StartBackgroundWorker(), maybe_adjust_io_workers(); syslogger.c: SysLogger_Start().
"""

import re
import signal

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import CRASH, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.children import children_when_running
from pglife_conformance.expect.lines import READY_LINE, REINITIALIZING, SHUT_DOWN, TERMINATING
from pglife_conformance.hold.fork_limit import lift_limit, limit_children, start_with_limit
from pglife_conformance.hold.pin import StoppedPostmaster, pin_fork_failure, pin_smart_pending
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.failing_forks import (
    AT_BARRIER,
    COUNTED,
    NO_STARTUP,
    Orphans,
    io_workers,
)
from pglife_spec import actions

ACCEPTER = "postmaster.c: BackendStartup()"
STARTER = "postmaster.c: StartChildProcess()"
LAUNCHES = "postmaster.c: LaunchMissingBackgroundProcesses()"
NO_PROCESS = "could not fork new process for connection: Resource temporarily unavailable"
NO_WORKER = "^could not fork (background )?worker process: "
NO_LOGGER = "^could not fork system logger: "
RESTART_INTERVAL_S = 5.0
"""bgw_restart_time of the logical replication launcher."""


def no_child(name: str) -> str:
    """The line about a child of this name, as a pattern: 18 has names of its own, in quotes."""
    return f'^could not fork "?({name})"? process: '


def answer_of_the_postmaster(cluster: Cluster) -> bytes:
    """All bytes that a new client receives from the postmaster itself."""
    client = cluster.silent_client(wait_for_child=False)
    said = client.client.receive_rest(deadlines.ANSWER_LIMIT * cluster.scale)
    client.disconnect()
    return said


FORK_FAILED = f"E{NO_PROCESS}\n\0".encode()


@claim(
    "SE-34 CN-10",
    source="postmaster.c: report_fork_failure_to_client()",
    needs=[Need.OS_SIGNALS],
    spec=actions.fork_for_client_fails,
)
def test_a_client_receives_the_fork_failure(cluster: Cluster) -> None:
    """When fork fails the postmaster sends the client the log line in the old protocol's form and
    closes the connection; no other session is affected."""
    before = {kid.key for kid in cluster.children()}
    with cluster.session() as session:
        then = cluster.since()
        with pin_fork_failure(cluster):
            assert answer_of_the_postmaster(cluster) == FORK_FAILED
            record = then.expect_log(f"^{NO_PROCESS}$")
            assert (record.pid, record.level) == (cluster.pid, "LOG")
            assert session.query("select 1") == [("1",)]
    cluster.session().close()
    assert before <= {kid.key for kid in cluster.children()}


def child_slots(cluster: Cluster) -> int:
    """How many children for clients there can be (CN-30); up to 17 others share the slots."""
    given = {name: int(cluster.settings[name]) for name in _FEW}
    slots = 2 * (given["max_connections"] + given["max_wal_senders"])
    if cluster.major < 18:
        slots += 2 * (given["autovacuum_max_workers"] + 1 + given["max_worker_processes"])
    return slots


_FEW = {
    "max_connections": 2,
    "max_wal_senders": 0,
    "autovacuum_max_workers": 1,
    "max_worker_processes": 0,
    "superuser_reserved_connections": 0,
}


@claim(
    "SE-34 SV-40 CN-30",
    source=ACCEPTER,
    needs=[Need.OS_SIGNALS],
    spec=actions.fork_for_client_fails,
)
@pytest.mark.unmonitored("so many clients are too many ways for the model to go on")
@settings(**_FEW, max_logical_replication_workers=0)
def test_a_fork_that_failed_gives_its_slot_back(cluster: Cluster) -> None:
    """However many forks have failed, as many clients are admitted afterwards as before."""
    with pin_fork_failure(cluster):
        for _ in range(child_slots(cluster) + 1):
            assert answer_of_the_postmaster(cluster) == FORK_FAILED
    sessions = [cluster.session() for _ in range(_FEW["max_connections"])]
    for session in sessions:
        session.close()


@claim("SE-34 SH-04", source=ACCEPTER, needs=[Need.OS_SIGNALS], spec=actions.fork_for_client_fails)
def test_a_refusal_that_cannot_be_forked_is_that_of_the_fork(cluster: Cluster) -> None:
    """During a smart shutdown a client whose fork fails receives the fork failure, not the
    shutdown's refusal; the shutdown completes."""
    with pin_smart_pending(cluster) as session, pin_fork_failure(cluster):
        assert answer_of_the_postmaster(cluster) == FORK_FAILED
        assert session.query("select 1") == [("1",)]
    cluster.expect_exit(code=0)


def opened_alone(cluster: Cluster, barrier: StartupBarrier) -> list[LogRecord]:
    """Start; let no fork succeed from the end of recovery on; gives the lines since then."""
    cluster.start(wait=False)
    barrier.wait_for_startup()
    cluster.child(Kind.BACKGROUND_WRITER)
    then = cluster.since()
    with pin_fork_failure(cluster):
        barrier.open()
        then.expect_log(f"^{READY_LINE}$")
        then.expect_log(no_child("wal_writer|WAL writer"))
        then.expect_log(no_child("autovacuum launcher"))
        then.expect_log(NO_WORKER)
        late = (Kind.WALWRITER, Kind.AUTOVACUUM_LAUNCHER, Kind.LOGICAL_REPLICATION_LAUNCHER)
        assert not any(cluster.children(kind) for kind in late)
        return then.log()


@claim(
    "ST-07 INV-98 SL-03 PR-24",
    source=LAUNCHES,
    needs=[*CRASH, Need.STARTUP_BARRIER],
    spec=actions.launch_background_process,
)
def test_who_could_not_be_forked_is_forked_at_a_later_turn(stopped_cluster: Cluster) -> None:
    """A server whose walwriter and autovacuum launcher could not be forked is open without them,
    and forks them at the next turn of the loop that can."""
    cluster = stopped_cluster
    opened_alone(cluster, StartupBarrier(cluster))
    cluster.session().close()
    cluster.child(Kind.WALWRITER)
    cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    cluster.restart()


@claim(
    "BG-09 BG-05 INV-99",
    source="postmaster.c: StartBackgroundWorker()",
    needs=[*CRASH, Need.STARTUP_BARRIER],
    spec=actions.restart_background_worker,
)
def test_a_background_worker_is_tried_again_after_its_interval(stopped_cluster: Cluster) -> None:
    """A background worker that could not be forked counts as crashed: it is tried again when its
    restart interval is over, without anybody's doing, and not sooner."""
    cluster = stopped_cluster
    lines = opened_alone(cluster, StartupBarrier(cluster))
    failed = [record for record in lines if re.search(NO_WORKER, record.message)][-1]
    cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER, within=deadlines.CRASH_RESTART_LIMIT)
    starting = '^starting background worker process "logical'
    again = cluster.after(failed).expect_log(starting)
    assert again.moment - failed.moment >= RESTART_INTERVAL_S


@claim(
    "ST-07 CR-20 CR-23 INV-94",
    source=LAUNCHES,
    needs=AT_BARRIER,
    spec=actions.launch_background_process,
)
def test_a_crash_restart_goes_on_when_fork_works_again(counted_cluster: Cluster) -> None:
    """A restart after a crash whose checkpointer and background writer cannot be forked waits for
    them, and ends with the whole family when they can."""
    cluster = counted_cluster
    cluster.start()
    barrier = StartupBarrier(cluster)
    then = cluster.since()
    with StoppedPostmaster(cluster):
        limit_children(cluster, io_workers(cluster) + 1)
        cluster.crash(Kind.WALWRITER)
    then.expect_log(f"^{REINITIALIZING}$")
    barrier.wait_for_startup(then)
    then.expect_log(no_child("checkpointer"))
    then.expect_log(no_child("bgwriter|background writer"))
    assert not cluster.children(Kind.CHECKPOINTER)
    lift_limit(cluster)
    barrier.open()
    # A new client wakes the event loop; otherwise it may sleep for a minute.
    cluster.attempt()
    then.expect_ready()


@claim(
    "IO-02 IO-05 ST-07",
    source="postmaster.c: maybe_adjust_io_workers()",
    needs=[*CRASH, Need.IO_WORKERS],
    since=18,
    why="there are none before",
    spec=actions.launch_io_worker,
)
def test_the_pool_of_io_workers_is_filled_when_fork_works_again(cluster: Cluster) -> None:
    """An io worker that has ended and cannot be replaced is missing, which is no crash, and the
    pool is filled up at the next turn that can."""
    wanted = children_when_running(cluster.major, cluster.settings)[Kind.IO_WORKER]
    then = cluster.since()
    with pin_fork_failure(cluster):
        cluster.end_child(Kind.IO_WORKER, signal.SIGUSR2)
        then.expect_log(no_child("io_worker"))
        assert len(cluster.children(Kind.IO_WORKER)) == wanted - 1
    cluster.session().close()
    cluster.expect_count(Kind.IO_WORKER, wanted)
    then.expect_no_log(f"^{TERMINATING}$")


@claim(
    "AV-10 INV-106",
    source="postmaster.c: StartAutovacuumWorker()",
    needs=[*CRASH, Need.AUTOVACUUM_WORKER],
)
@settings(autovacuum_naptime=4)
def test_the_autovacuum_launcher_is_notified_of_a_failed_fork(cluster: Cluster) -> None:
    """The postmaster notifies the autovacuum launcher of a failed fork: the launcher requests a
    worker again every second and does not wait for the missing worker to start."""
    then = cluster.since()
    with pin_fork_failure(cluster):
        first = then.expect_log(no_child("autovacuum worker"), deadlines.START_LIMIT)
        then = cluster.after(first)
        for _ in range(2):
            record = then.expect_log(no_child("autovacuum worker"), deadlines.START_LIMIT)
            then = cluster.after(record)
        # Only until here: a worker that was forked may be slow to start.
        cluster.since(first).expect_no_log("took too long to start; canceled")
    then.expect_log("^autovacuum: processing database", deadlines.START_LIMIT)
    # The launcher has stopped its requests: a further worker would find no entry.
    needless, late = "^autovacuum worker started without a worker entry$", "took too long to start"
    cluster.expect_still(
        "no further worker",
        lambda: then.find_log(needless) is None or then.find_log(late) is not None,
        1.5,
    )


@claim(
    "LG-05 LG-04 RP-08 RP-19", source="syslogger.c: SysLogger_Start()", needs=[*CRASH, Need.LOGGER]
)
@settings(logging_collector="on")
def test_what_is_said_without_a_logger_waits_for_the_next(cluster: Cluster) -> None:
    """While no logger can be forked the lines wait in its pipe; the next one writes them."""
    then = cluster.since()
    with pin_fork_failure(cluster):
        logger = cluster.crash(Kind.LOGGER)
        assert answer_of_the_postmaster(cluster) == FORK_FAILED
        assert not cluster.children(Kind.LOGGER)
        assert then.find_log(f"^{NO_PROCESS}$") is None
    cluster.session().close()
    cluster.child(Kind.LOGGER)
    then.expect_log(NO_LOGGER)
    then.expect_log(rf"^system logger process \(PID {logger.pid}\) was terminated")
    then.expect_log(f"^{NO_PROCESS}$")


@claim("ST-07 INV-72 INV-03", source=STARTER, needs=COUNTED, spec=actions.fork_first_children)
def test_a_start_without_any_child_ends(counted_cluster: Cluster) -> None:
    """A postmaster that cannot fork at all ends with 1 and takes its lock file with it."""
    cluster = counted_cluster
    orphans = Orphans(cluster)
    start_with_limit(cluster, 0)
    cluster.expect_exit(1, within=deadlines.START_LIMIT)
    cluster.expect_log(no_child("checkpointer"))
    cluster.expect_log(no_child("bgwriter|background writer"))
    cluster.expect_log(NO_STARTUP)
    cluster.expect_log(f"^{SHUT_DOWN}$")
    assert cluster.pid_file() is None
    orphans.expect_none()


@claim(
    "SE-34 CN-10", source="postmaster.c: report_fork_failure_to_client()", needs=[Need.OS_SIGNALS]
)
@pytest.mark.unmonitored("the monitor does not see a client that disconnects before its accept")
def test_a_disconnected_client_does_not_block_the_postmaster(cluster: Cluster) -> None:
    """When fork fails for a client that has disconnected, the postmaster serves the next client."""
    then = cluster.since()
    with pin_fork_failure(cluster):
        with StoppedPostmaster(cluster):
            cluster.silent_client(wait_for_child=False).disconnect()
        then.expect_log(f"^{NO_PROCESS}$")
        assert answer_of_the_postmaster(cluster) == FORK_FAILED
    cluster.session().close()
