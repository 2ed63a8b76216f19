"""Background processes: which ones run, their titles, and which ones are replaced.

Source: postmaster.c: LaunchMissingBackgroundProcesses(), bgworker.c, ps_status.c.
"""

import signal
from collections import Counter

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import CRASH, SIGNALS, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import SMART
from pglife_conformance.expect.lines import READY_LINE, REINITIALIZING
from pglife_conformance.hold.pin import pin_wait_backends
from pglife_conformance.hold.startup_barrier import pin_startup_after_crash
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import children_of
from pglife_conformance.pytest.claims import claim, settings

LAUNCH = "postmaster.c: LaunchMissingBackgroundProcesses()"
TITLES = "ps_status.c: init_ps_display(), set_ps_display()"
NAMES = [
    "autovacuum launcher ",
    "background writer ",
    "checkpointer ",
    "logger ",
    "logical replication launcher ",
    "walwriter ",
]


def expect_titles(cluster: Cluster, wanted: list[str]) -> None:
    """All children have these titles. An io worker shows its name a moment before its number."""

    def shown() -> list[str]:
        return sorted(kid.title for kid in cluster.children())

    cluster.wait_for(
        f"the titles {sorted(wanted)}",
        lambda: shown() == sorted(wanted),
        describe=lambda: str(shown()),
    )


@claim(
    "TI-03 TI-04 TI-05 TI-06 TI-12 TI-13 TI-14 TI-30",
    source=TITLES,
    needs=[Need.PROCESS_TITLES, Need.LOGGER],
)
@settings(logging_collector="on")
def test_titles_of_background_processes(cluster: Cluster) -> None:
    """The title of a background process is its name and a space, without an activity."""
    cluster.expect_complete()
    names = list(NAMES)
    if Need.IO_WORKERS in cluster.target.capabilities:
        names += ["io worker 0", "io worker 1", "io worker 2"]
    expect_titles(cluster, [f"postgres: {name}" for name in names])


@claim("TI-30", source=TITLES, needs=[Need.PROCESS_TITLES, Need.LOGGER])
@settings(logging_collector="on", cluster_name="main cluster")
def test_titles_carry_the_clusters_name(cluster: Cluster) -> None:
    """With cluster_name set every title shows that name after `postgres: `."""
    with cluster.session() as session:
        assert session.child.title == "postgres: main cluster: postgres postgres [local] idle"
        names = [*NAMES, "postgres postgres [local] idle"]
        if Need.IO_WORKERS in cluster.target.capabilities:
            names += ["io worker 0", "io worker 1", "io worker 2"]
        expect_titles(cluster, [f"postgres: main cluster: {name}" for name in names])


@claim("TI-31", source=TITLES, needs=[Need.PROCESS_TITLES])
@settings(update_process_title="off")
def test_titles_without_activities(stopped_cluster: Cluster) -> None:
    """With update_process_title off a title keeps its fixed part and shows no activity."""
    cluster = stopped_cluster
    # An io worker never shows its number here, and start() would wait for it.
    cluster.start(wait=False)
    cluster.expect_log(f"^{READY_LINE}$", within=deadlines.START_LIMIT)
    cluster.expect_complete()
    with cluster.session() as session:
        assert session.child.title == "postgres: postgres postgres [local] "
        session.query("begin")
        assert session.child.title == "postgres: postgres postgres [local] "
        session.query("rollback")
    shown = {kid.title for kid in cluster.children() if kid.kind is not Kind.CLIENT_BACKEND}
    wanted = {f"postgres: {name}" for name in NAMES if name != "logger "}
    if Need.IO_WORKERS in cluster.target.capabilities:
        wanted.add("postgres: io worker ")
    assert shown == wanted


@claim(
    "TI-20 TI-32 SE-04 SE-05 SE-06",
    source="tcop/postgres.c: PostgresMain()",
    needs=[Need.PROCESS_TITLES],
)
def test_title_of_a_session_follows_its_state(cluster: Cluster) -> None:
    """A session's title shows whether it is idle, in a transaction, or in a failed one."""
    with cluster.session() as session:
        head = "postgres: postgres postgres [local]"
        assert session.child.title == f"{head} idle"
        session.query("begin")
        assert session.child.title == f"{head} idle in transaction"
        with pytest.raises(Exception, match="does_not_exist"):
            session.query("show does_not_exist")
        assert session.child.title == f"{head} idle in transaction (aborted)"
        session.query("rollback")
        assert session.child.title == f"{head} idle"


@claim(
    "TI-03 TI-04 TI-05 TI-06 TI-12 TI-14 TI-20 INV-48",
    source="utils/init/miscinit.c: GetBackendTypeDesc()",
    needs=[Need.PROCESS_TITLES],
)
def test_every_child_is_in_pg_stat_activity(cluster: Cluster) -> None:
    """pg_stat_activity has one row with the type and pid of each child, except silent clients."""
    cluster.silent_client()
    with cluster.session() as session:

        def rows() -> list[tuple[str | None, ...]]:
            return sorted(session.query("select backend_type, pid from pg_stat_activity"))

        def wanted() -> list[tuple[str | None, ...]]:
            kids = (kid for kid in cluster.children() if kid.kind is not Kind.UNKNOWN)
            return sorted((kid.kind.value, str(kid.pid)) for kid in kids)

        # A process has its title a moment before it has its row.
        cluster.wait_for(
            "a row for each child", lambda: rows() == wanted(), describe=lambda: str(rows())
        )


@claim("SM-22 PR-03 PR-04 PR-05", source=LAUNCH, needs=SIGNALS)
def test_background_processes_are_replaced_while_a_smart_shutdown_waits(cluster: Cluster) -> None:
    """While a smart shutdown waits for a session, a background process that exits 0 is replaced."""
    session = cluster.session()
    cluster.request_shutdown(SMART, logged=True)
    before = cluster.since()
    gone = []
    for kind in (Kind.BACKGROUND_WRITER, Kind.WALWRITER, Kind.AUTOVACUUM_LAUNCHER):
        gone.append(cluster.signal_child(kind, signal.SIGTERM))
        cluster.expect_death(gone[-1])
        cluster.expect_complete(Counter({Kind.CLIENT_BACKEND: 1}))
    before.expect_undisturbed(gone=gone)
    session.close()
    cluster.expect_exit(code=0)


@claim("INV-33 INV-34", source=LAUNCH, needs=SIGNALS)
def test_no_process_is_replaced_in_a_fast_shutdown(cluster: Cluster) -> None:
    """While a fast shutdown waits for a session no process is launched again."""
    with pin_wait_backends(cluster) as pin:
        left = {Kind.CHECKPOINTER, Kind.IO_WORKER, Kind.CLIENT_BACKEND}
        cluster.wait_for(
            "the end of all others", lambda: {kid.kind for kid in cluster.children()} <= left
        )
        kids = {kid.key for kid in cluster.children()}
        cluster.expect_still(
            "no new process", lambda: {kid.key for kid in cluster.children()} == kids, 0.2
        )
        assert pin.is_there()
    cluster.expect_exit(code=0)


@claim("BG-20 CR-20", source="bgworker.c: ResetBackgroundWorkerCrashTimes()", needs=CRASH)
def test_background_workers_need_not_wait_after_a_crash(cluster: Cluster) -> None:
    """A worker that waits for its restart interval starts at once after a crash restart."""
    then = cluster.since()
    cluster.end_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    then.expect_log("exited with exit code 1$")
    victim = cluster.crash(Kind.WALWRITER)
    then.expect_log(f"^{READY_LINE}$", within=deadlines.CRASH_RESTART_LIMIT)
    assert then.find_log(f"PID {victim.pid}[)] was terminated")
    reinitialized = then.find_log(f"^{REINITIALIZING}$")
    assert reinitialized is not None
    # No time is measured, because the machine may be loaded. The postmaster launches all missing
    # processes before it serves a client that connects after the line (SL-01).
    with cluster.session():
        started = cluster.since(reinitialized).find_log(
            '^starting background worker process "logical replication launcher"$'
        )
        if started is None:
            raise cluster.watcher.failure(
                "the launcher is started before the first client", cluster.watcher.summary()
            )
    then.expect_ready()


def kinds_by_age(cluster: Cluster) -> list[Kind]:
    """The kinds of all children, oldest first in the kernel's order.

    Start times are too coarse to sort by, and pids wrap.
    """
    kinds = {kid.pid: kid.kind for kid in cluster.children()}
    return [kinds[pid] for pid in children_of(cluster.pid) if pid in kinds]


@claim("CR-20 CR-24 IO-03 PR-02 PR-04 ST-04", source=LAUNCH, needs=CRASH)
def test_children_while_a_crashed_server_starts(cluster: Cluster) -> None:
    """In PM_STARTUP after a crash: io workers, then startup, checkpointer, background writer."""
    wanted = [Kind.STARTUP, Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER]
    if Need.IO_WORKERS in cluster.target.capabilities:
        wanted = [Kind.IO_WORKER] * 3 + wanted

    with pin_startup_after_crash(cluster, Kind.WALWRITER):
        held = cluster.since()
        cluster.wait_for(
            f"these children in this order: {[kind.value for kind in wanted]}",
            lambda: kinds_by_age(cluster) == wanted,
            describe=lambda: str(kinds_by_age(cluster)),
        )
        cluster.expect_still("no other child", lambda: kinds_by_age(cluster) == wanted, 0.1)
        held.expect_no_log(f"^{READY_LINE}$")
    held.expect_ready()
    cluster.expect_complete()


@claim("PR-24 SL-03 BG-08", source=LAUNCH, needs=SIGNALS)
def test_order_of_launch(cluster: Cluster) -> None:
    """In PM_RUN the postmaster launches walwriter, autovacuum launcher, workers, in this order."""
    order = kinds_by_age(cluster)
    at_start = [Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER]
    if Need.IO_WORKERS in cluster.target.capabilities:
        at_start = [Kind.IO_WORKER] * 3 + at_start
    later = [Kind.WALWRITER, Kind.AUTOVACUUM_LAUNCHER, Kind.LOGICAL_REPLICATION_LAUNCHER]
    assert order == at_start + later
