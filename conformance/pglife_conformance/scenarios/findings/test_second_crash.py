"""A second crash while a crashed server starts up (F02, F03, F07, F08).

F04 is the reverse: the startup process exits 0 after another child's crash was handled.
"""

import signal

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import CRASH
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.lines import (
    READY_LINE,
    REINITIALIZING,
    SHUT_DOWN,
    STARTUP_FAILED,
    TERMINATING,
    killed_line,
)
from pglife_conformance.expect.since import Since
from pglife_conformance.expect.symptom import Symptom, where_it_shows
from pglife_conformance.hold.pin import Pin, StoppedPostmaster
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import Defect, claim
from pglife_conformance.scenarios.findings.support import (
    HANDLER,
    HELPERS_15,
    HELPERS_18,
    PMSIGNAL,
    REAPER,
    expect_end,
    expect_zombie,
    let_the_loop_run_once,
    startup_held_after_crash,
)
from pglife_spec import PM, actions

NO_STARTUP_PROCESS_18 = Symptom(
    summary="the postmaster stays in PM_STARTUP without a startup process",
    state=PM.PM_STARTUP,
    left=HELPERS_18,
    said=(),
    status=PidFileStatus.READY,
)
NO_STARTUP_PROCESS_15 = Symptom(
    summary="the postmaster waits in silence for children that it has sent nothing",
    state=PM.PM_WAIT_BACKENDS,
    left=HELPERS_15,
    said=(),
    status=PidFileStatus.READY,
)
UNNOTICED_18 = Symptom(
    summary="the postmaster replaces a crashed child and says nothing of the crash",
    state=PM.PM_STARTUP,
    left=HELPERS_18 | {Kind.STARTUP},
    said=(),
    status=PidFileStatus.READY,
)


def unnoticed_15(kind: Kind) -> Symptom:
    """The symptom of F03 on 15, when a child of this kind has crashed."""
    return Symptom(
        summary="the postmaster waits in silence for children that it has sent nothing",
        state=PM.PM_WAIT_BACKENDS,
        left=(HELPERS_15 | {Kind.STARTUP}) - {kind},
        said=(),
        status=PidFileStatus.READY,
    )


RECOVERY_WITHOUT_STARTUP_PROCESS_16, RECOVERY_WITHOUT_STARTUP_PROCESS_18 = (
    Symptom(
        summary="the postmaster stays in recovery without a startup process",
        state=PM.PM_RECOVERY,
        left=helpers,
        said=(),
        status=PidFileStatus.READY,
    )
    for helpers in (HELPERS_15, HELPERS_18)
)
CHECKPOINTER_OUT_OF_SERVICE = Symptom(
    summary="the postmaster ignores that the checkpointer has shut WAL down",
    state=PM.PM_STARTUP,
    left=HELPERS_18 | {Kind.STARTUP},
    said=(),
    status=PidFileStatus.READY,
)
KILLED = r".* \(PID \d+\) was terminated by signal 9: Killed"
OLD_MEMORY = Symptom(
    summary="the server opens on the shared memory of the crash",
    state=PM.PM_RUN,
    left=None,
    said=(KILLED, TERMINATING, READY_LINE),
    status=PidFileStatus.READY,
)


@claim(
    *("INV-94", "INV-14", "INV-16", "PR-20", "SM-11"),
    source=HANDLER,
    needs=CRASH,
    defects=[
        Defect(Finding.F02, NO_STARTUP_PROCESS_15, until=17),
        Defect(Finding.F02, NO_STARTUP_PROCESS_18, since=18, until=18),
    ],
    spec=actions.reap_startup,
)
def test_startup_process_dies_while_a_crashed_server_starts_up(cluster: Cluster) -> None:
    """When the startup process dies in the PM_STARTUP after a crash, the postmaster logs it, sends
    SIGQUIT to all children, and exits 1."""
    with startup_held_after_crash(cluster) as (_, startup):
        then = cluster.since()
        cluster.crash(startup)
        cluster.expect_reaped(startup)
        with where_it_shows(then):
            expect_end(cluster, 1, idle=HELPERS_18)
    expect_lines_of_a_failed_startup(cluster, startup, then)


def expect_lines_of_a_failed_startup(cluster: Cluster, startup: Child, then: Since) -> None:
    """The postmaster has logged that the startup process was killed, and its own exit, no more."""
    first = TERMINATING if cluster.major < 19 else "aborting startup due to startup process failure"
    lines = [killed_line(cluster, startup), first, STARTUP_FAILED, SHUT_DOWN]
    then.expect_postmaster_lines(lines)


@claim(
    *("INV-61", "INV-64", "INV-82", "CR-38"),
    source=HANDLER,
    needs=CRASH,
    defects=[
        Defect(Finding.F03, unnoticed_15(Kind.BACKGROUND_WRITER), until=17),
        Defect(Finding.F03, unnoticed_15(Kind.CHECKPOINTER), until=17),
        Defect(Finding.F03, UNNOTICED_18, since=18),
    ],
    spec=actions.reap_background_process,
)
@pytest.mark.parametrize("kind", [Kind.BACKGROUND_WRITER, Kind.CHECKPOINTER], ids=str)
def test_crash_while_a_crashed_server_starts_up(cluster: Cluster, kind: Kind) -> None:
    """A child that crashes in the PM_STARTUP after a crash is a new crash: shared memory is made
    anew once more before the server opens."""
    with startup_held_after_crash(cluster):
        then = cluster.since()
        victim = cluster.crash(kind)
        cluster.expect_reaped(victim)
        let_the_loop_run_once(cluster)
        with where_it_shows(then):
            expect_crash_is_handled(cluster, then)
    then.expect_ready()
    lines = [killed_line(cluster, victim), TERMINATING, REINITIALIZING, READY_LINE]
    then.expect_postmaster_lines(lines)


def expect_crash_is_handled(cluster: Cluster, then: Since) -> None:
    """Wait until the postmaster has signalled its children to quit."""
    if then.find_log(f"^{TERMINATING}$") is not None:
        return
    # A successor is recognized when it has set its title.
    cluster.wait_for(
        "an idle postmaster, and a title for each child",
        lambda: all(kid.kind is not Kind.UNKNOWN for kid in cluster.watcher.kids),
    )
    cluster.expect_idle(cluster)
    raise cluster.watcher.failure(
        "SIGQUIT to all children after the crash", f"none: {cluster.watcher.summary()}"
    )


@claim(
    *("INV-13", "INV-14", "INV-16", "INV-94", "MM-08"),
    source=PMSIGNAL,
    needs=CRASH,
    defects=[
        Defect(Finding.F07, RECOVERY_WITHOUT_STARTUP_PROCESS_16, since=16, until=17),
        Defect(Finding.F07, RECOVERY_WITHOUT_STARTUP_PROCESS_18, since=18, until=18),
    ],
    spec=actions.process_pmsignal,
)
def test_startup_process_dies_right_after_it_has_begun_redo(cluster: Cluster) -> None:
    """When the startup process's death reaches the postmaster together with its message that redo
    has begun, the server does not stay in recovery without it: the postmaster exits 1."""
    with startup_held_after_crash(cluster) as (barrier, startup):
        # After redo the startup process waits for a checkpoint, and is killed there.
        with Pin(cluster, Kind.CHECKPOINTER):
            then = cluster.since()
            with StoppedPostmaster(cluster):
                barrier.open()
                then.expect_log("^redo (starts at|is not required)")
                cluster.crash(startup)
            cluster.expect_reaped(startup)
        with where_it_shows(then):
            expect_end(cluster, 1, idle=HELPERS_18)
    expect_lines_of_a_failed_startup(cluster, startup, then)


@claim(
    *("INV-94", "INV-91", "INV-108", "TR18-25"),
    source=PMSIGNAL,
    needs=CRASH,
    since=18,
    why="SIGINT to the checkpointer does nothing before",
    defects=[Defect(Finding.F08, CHECKPOINTER_OUT_OF_SERVICE, since=18)],
    spec=actions.process_pmsignal,
)
def test_checkpointer_shuts_wal_down_while_a_crashed_server_starts_up(cluster: Cluster) -> None:
    """A checkpointer that gets SIGINT in the PM_STARTUP after a crash serves no request any more;
    the postmaster takes that for a new crash, and the restart goes on."""
    with startup_held_after_crash(cluster):
        then = cluster.since()
        checkpointer = cluster.signal_child(Kind.CHECKPOINTER, signal.SIGINT)
        then.expect_line("postmaster received pmsignal signal")
        let_the_loop_run_once(cluster)
        with where_it_shows(then):
            if then.find_log("^WAL was shut down unexpectedly$") is None:
                raise cluster.watcher.failure(
                    "a new crash", f"nothing follows from the message of {checkpointer}"
                )
    then.expect_ready()
    lines = ["WAL was shut down unexpectedly", REINITIALIZING, READY_LINE]
    then.expect_postmaster_lines(lines)


@claim(
    *("INV-61", "INV-64", "TR18-04", "RP-01"),
    source=REAPER,
    needs=CRASH,
    defects=[Defect(Finding.F04, OLD_MEMORY)],
    spec=actions.reap_startup,
)
def test_startup_process_ends_beside_a_crash(stopped_cluster: Cluster) -> None:
    """A startup process that exits 0 after a crash has been handled does not open the server:
    shared memory is made anew first."""
    cluster = stopped_cluster
    barrier = StartupBarrier(cluster)
    cluster.start(wait=False)
    startup = barrier.wait_for_startup()
    cluster.child(Kind.CHECKPOINTER)
    cluster.child(Kind.BACKGROUND_WRITER)
    with StoppedPostmaster(cluster):
        barrier.open()
        expect_zombie(cluster, startup)
        # All others too, so that no death by SIGQUIT is a second crash.
        then = cluster.since()
        for child in cluster.children():
            cluster.crash(child)
    then.expect_line(READY_LINE, within=deadlines.CRASH_RESTART_LIMIT)
    then.expect_line(TERMINATING)
    with where_it_shows(then):
        if then.find_log(f"^{REINITIALIZING}$") is None:
            raise cluster.watcher.failure(
                "shared memory is made anew after a crash", "the server has opened without"
            )
    then.expect_ready()
