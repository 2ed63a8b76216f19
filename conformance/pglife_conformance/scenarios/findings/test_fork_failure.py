"""A fork that fails after others have succeeded: of the startup process, of the checkpointer (F05,
F09, F15, W2)."""

import time
from dataclasses import replace

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome
from pglife_conformance.events import FAST
from pglife_conformance.expect.lines import (
    ABNORMAL,
    REINITIALIZING,
    SHUT_DOWN,
    SIGKILL_ROUND,
    TERMINATING,
)
from pglife_conformance.expect.since import Since
from pglife_conformance.expect.symptom import Symptom, where_it_shows
from pglife_conformance.hold.fork_limit import limit_children, start_with_limit
from pglife_conformance.hold.pin import Pin, StoppedPostmaster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import Defect, claim
from pglife_conformance.scenarios.findings.support import (
    ANOTHER_ROUND_S,
    MACHINE,
    STARTER,
    STILL_S,
    is_busy,
)
from pglife_conformance.scenarios.support.failing_forks import (
    AT_BARRIER,
    COUNTED,
    NO_CHECKPOINTER,
    NO_STARTUP,
    QUIET,
    Orphans,
    io_workers,
    open_without_checkpointer,
)
from pglife_spec import PM, actions

FAST_SHUTDOWN = ("received fast shutdown request", "aborting any active transactions")
BEGINS = ("starting PostgreSQL .*", "listening on Unix socket .*")
KILLED = r"checkpointer process \(PID \d+\) was terminated by signal 9: Killed"

ORPHANS_OF_A_START_15 = Symptom(
    summary="the postmaster exits and leaves checkpointer and background writer",
    state=PM.PM_INIT,
    left=(),
    orphans=2,
    said=(*BEGINS, f"{NO_STARTUP}.*", SHUT_DOWN),
    exit_code=1,
)
ORPHANS_OF_A_START_18 = Symptom(
    summary="the postmaster exits and leaves checkpointer, background writer and io workers",
    state=PM.PM_INIT,
    left=(),
    orphans=5,
    said=(*BEGINS, f"{NO_STARTUP}.*", SHUT_DOWN),
    exit_code=1,
)
ORPHANS_OF_A_RESTART_18 = Symptom(
    summary="the postmaster exits and leaves the io workers",
    state=PM.PM_NO_CHILDREN,
    left=(),
    orphans=3,
    said=(KILLED, TERMINATING, REINITIALIZING, f"{NO_STARTUP}.*", SHUT_DOWN),
    exit_code=1,
)
# 19 begins with fewer io workers.
ORPHANS_OF_A_START_19 = replace(ORPHANS_OF_A_START_18, orphans=4)
ORPHANS_OF_A_RESTART_19 = replace(ORPHANS_OF_A_RESTART_18, orphans=2)
ALONE = Symptom(
    summary="the postmaster sleeps without a child and without a timer",
    state=PM.PM_WAIT_BACKENDS,
    left=(),
    said=(*FAST_SHUTDOWN, f"{NO_CHECKPOINTER}.*", SIGKILL_ROUND),
    status=PidFileStatus.STOPPING,
)
ALONE_19 = replace(ALONE, said=(*FAST_SHUTDOWN, f"{NO_CHECKPOINTER}.*"))
"""19 sleeps for a minute before its round of SIGKILL (F15), which changes nothing."""
STUCK_WALSENDER = Symptom(
    summary="no round of SIGKILL reaches the walsender",
    state=PM.PM_WAIT_BACKENDS,
    left={Kind.WALSENDER},
    said=(*FAST_SHUTDOWN, f"{NO_CHECKPOINTER}.*"),
    status=PidFileStatus.STOPPING,
)


@claim(
    *("INV-03", "INV-60", "INV-62", "ST-07"),
    source=STARTER,
    needs=COUNTED,
    defects=[
        Defect(Finding.F09, ORPHANS_OF_A_START_15, until=17),
        Defect(Finding.F09, ORPHANS_OF_A_START_18, since=18, until=18),
        Defect(Finding.F09, ORPHANS_OF_A_START_19, since=19),
    ],
    spec=actions.fork_first_children,
)
def test_the_startup_process_of_a_start_cannot_be_forked(counted_cluster: Cluster) -> None:
    """A postmaster that cannot fork its startup process exits 1 after all children that it has
    forked before."""
    cluster = counted_cluster
    orphans = Orphans(cluster)
    then = cluster.since()
    start_with_limit(
        cluster, io_workers(cluster) + len({Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER})
    )
    cluster.expect_exit(1, within=deadlines.START_LIMIT)
    cluster.expect_log(f"^{NO_STARTUP}")
    cluster.expect_log(f"^{SHUT_DOWN}$")
    assert cluster.pid_file() is None
    with where_it_shows(then, orphans=orphans.found):
        orphans.expect_none()


@claim(
    *("INV-03", "INV-60", "INV-62", "ST-07"),
    source=STARTER,
    needs=COUNTED,
    defects=[
        Defect(Finding.F09, ORPHANS_OF_A_RESTART_18, since=18, until=18),
        Defect(Finding.F09, ORPHANS_OF_A_RESTART_19, since=19),
    ],
    spec=actions.end_reaping,
)
def test_the_startup_process_after_a_crash_cannot_be_forked(counted_cluster: Cluster) -> None:
    """The same at the restart after a crash, when the postmaster has forked io workers again."""
    cluster = counted_cluster
    cluster.start()
    orphans = Orphans(cluster)
    then = cluster.since()
    with StoppedPostmaster(cluster):
        limit_children(cluster, io_workers(cluster))
        cluster.crash(Kind.CHECKPOINTER)
    cluster.expect_exit(1, within=deadlines.CRASH_RESTART_LIMIT)
    then.expect_line(REINITIALIZING)
    then.expect_log(f"^{NO_STARTUP}")
    then.expect_line(SHUT_DOWN)
    assert cluster.pid_file() is None
    with where_it_shows(then, orphans=orphans.found):
        orphans.expect_none()


@claim(
    *("INV-91", "SM-06", "TR18-23", "TR17-20"),
    source=MACHINE,
    needs=AT_BARRIER,
    defects=[
        Defect(Finding.F05, ALONE, since=18, until=18),
        Defect(Finding.F05, ALONE_19, since=19),
    ],
    spec=actions.process_shutdown_request,
)
@QUIET
def test_no_checkpointer_can_be_forked_and_no_child_is_left(counted_cluster: Cluster) -> None:
    """A fast shutdown that finds no checkpointer and can fork none ends the postmaster with 1,
    also if no other child is left whose end would advance it."""
    cluster = counted_cluster
    if cluster.target.version.major >= 18:
        cluster.configure(io_method="sync")
    open_without_checkpointer(cluster)
    then = cluster.since()
    cluster.request_shutdown(FAST)
    then.expect_log(f"^{NO_CHECKPOINTER}")
    with where_it_shows(then):
        expect_end_alone(cluster, then)
    then.expect_line(ABNORMAL)
    assert cluster.pid_file() is None


def expect_end_alone(cluster: Cluster, then: Since) -> None:
    """The postmaster exits with 1.

    Raises:
        Hang: as soon as that cannot happen any more: its timer has expired, and it sleeps without a
            child that could wake it.
    """
    still = time.monotonic()

    def how() -> str | None:
        nonlocal still
        seen = cluster.watcher.last
        assert seen is not None
        if seen.exit_code is not None:
            return "exit"
        has_expired = then.find_log(f"^{SIGKILL_ROUND}$") is not None
        if seen.kids or not has_expired or is_busy(cluster.pid):
            still = time.monotonic()
        return "still" if time.monotonic() - still >= STILL_S * cluster.scale else None

    if cluster.wait_for("the postmaster's exit", how, deadlines.SHUTDOWN_LIMIT) == "still":
        raise cluster.watcher.failure(
            "the postmaster's exit with 1",
            "it has no child, its timer has expired, and it sleeps",
            hangs=True,
        )
    cluster.expect_exit(1)


@claim(
    *("SM-06", "TR18-23", "SM-10"),
    source=MACHINE,
    needs=[*AT_BARRIER, Need.IO_WORKERS],
    since=18,
    why="the only children that outlast the others before are dead-end children and walsenders",
)
@QUIET
def test_no_checkpointer_can_be_forked_and_io_workers_are_left(counted_cluster: Cluster) -> None:
    """A fast shutdown that finds no checkpointer and can fork none goes on as a crash does: the io
    workers get SIGQUIT, and the postmaster exits 1."""
    cluster = counted_cluster
    open_without_checkpointer(cluster)
    workers = cluster.children(Kind.IO_WORKER)
    assert len(workers) == io_workers(cluster)
    then = cluster.since()
    cluster.request_shutdown(FAST)
    then.expect_log(f"^{NO_CHECKPOINTER}")
    cluster.expect_exit(1)
    then.expect_line(ABNORMAL)
    then.expect_no_log(f"^{SIGKILL_ROUND}$")
    assert cluster.pid_file() is None


@claim(
    *("INV-91", "INV-97", "SM-06", "TR17-20", "TR18-23"),
    source=MACHINE,
    needs=[*AT_BARRIER, Need.WALSENDER],
    defects=[
        Defect(Finding.W2, STUCK_WALSENDER, until=17),
        Defect(Finding.F15, STUCK_WALSENDER, since=19),
    ],
)
@QUIET
def test_no_checkpointer_can_be_forked_and_a_walsender_is_stuck(counted_cluster: Cluster) -> None:
    """A fast shutdown that finds no checkpointer and can fork none kills a walsender that cannot
    take SIGQUIT after five seconds, and the postmaster exits 1."""
    cluster = counted_cluster
    if cluster.target.version.major >= 18:
        cluster.configure(io_method="sync")
    open_without_checkpointer(cluster)
    with StoppedPostmaster(cluster):
        # Served before the postmaster looks for a checkpointer, in the same iteration of the loop.
        client = cluster.silent_client(wait_for_child=False)
        limit_children(cluster, 1)
    packet = {"user": "postgres", "database": "postgres", "replication": "true"}
    limit_s = deadlines.ANSWER_LIMIT * cluster.scale
    if client.send_startup_packet(packet, limit_s=limit_s) is not Outcome.ADMITTED:
        raise Inconclusive("a walsender and no checkpointer", f"{client.outcome}")
    with Pin(cluster, Kind.WALSENDER) as walsender:
        limit_children(cluster, 0)
        then = cluster.since()
        cluster.request_shutdown(FAST)
        then.expect_log(f"^{NO_CHECKPOINTER}")
        with where_it_shows(then):
            cluster.expect_death(walsender.child, ANOTHER_ROUND_S)
    cluster.expect_exit(1)
    then.expect_line(ABNORMAL)
