"""Shutdown requests that arrive while a crashed server starts up (F01, W3)."""

import os

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import CRASH
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, SMART, ShutdownMode
from pglife_conformance.expect.lines import ABNORMAL, REINITIALIZING
from pglife_conformance.expect.symptom import Symptom, where_it_shows
from pglife_conformance.hold.pin import StoppedPostmaster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import Defect, claim
from pglife_conformance.scenarios.findings.support import (
    HELPERS_18,
    REQUEST,
    expect_end,
    startup_held_after_crash,
)
from pglife_spec import PM, actions

WAITS_FOR_ITS_HELPERS = Symptom(
    summary="the postmaster waits for a checkpointer and io workers that it has not sent SIGQUIT",
    state=PM.PM_WAIT_BACKENDS,
    left={Kind.CHECKPOINTER, Kind.IO_WORKER},
    said=("received (fast|smart) shutdown request",),
    status=PidFileStatus.STOPPING,
)
WAITS_FOR_THE_CHECKPOINTER = Symptom(
    summary="the postmaster waits for a checkpointer that it has sent nothing",
    state=PM.PM_WAIT_BACKENDS,
    left={Kind.CHECKPOINTER},
    said=("received (fast|smart) shutdown request",),
    status=PidFileStatus.STOPPING,
)
WAITS_FOR_THE_STARTUP_PROCESS = Symptom(
    summary="the startup process asks for a minute for a checkpoint without a checkpointer",
    state=PM.PM_WAIT_BACKENDS,
    left={Kind.STARTUP},
    said=("received fast shutdown request",),
    status=PidFileStatus.STOPPING,
)


@claim(
    *("INV-91", "INV-92", "INV-93", "MM-01"),
    source=REQUEST,
    needs=CRASH,
    defects=[
        Defect(Finding.F01, WAITS_FOR_THE_CHECKPOINTER, until=17),
        Defect(Finding.F01, WAITS_FOR_ITS_HELPERS, since=18),
    ],
    spec=actions.process_shutdown_request,
)
@pytest.mark.parametrize("mode", [FAST, SMART])
def test_shutdown_while_a_crashed_server_starts_up(cluster: Cluster, mode: ShutdownMode) -> None:
    """A shutdown requested in the PM_STARTUP after a crash ends the server."""
    with startup_held_after_crash(cluster):
        then = cluster.since()
        cluster.request_shutdown(mode)
        then.expect_line(f"received {mode} shutdown request")
    with where_it_shows(then):
        expect_end(cluster, 1, idle=HELPERS_18)
    then.expect_line(ABNORMAL)
    assert cluster.pid_file() is None


class ReinitializationBarrier:
    """Holds a postmaster while it makes shared memory anew: it reads the control file then, and a
    FIFO without a writer takes that file's place."""

    def __init__(self, cluster: Cluster) -> None:
        self._path = cluster.data / "global" / "pg_control"
        self._kept = self._path.with_name("pg_control.kept")
        self._path.rename(self._kept)
        os.mkfifo(self._path, 0o600)
        cluster.target.user.chown(self._path)
        cluster.at_end.append(self.open)

    def open(self) -> None:
        """Put the control file back, and give its content to a process that reads the FIFO."""
        if not self._path.is_fifo():
            return
        barrier = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        self._kept.rename(self._path)
        os.write(barrier, self._path.read_bytes())
        os.close(barrier)


@claim(
    *("INV-91", "SH-06", "MM-08"),
    source="postmaster.c: pmdie(), reaper()",
    needs=CRASH,
    until=15,
    why="since 16 a request is looked at between two iterations of the loop (and then meets F01)",
    defects=[Defect(Finding.W3, WAITS_FOR_THE_STARTUP_PROCESS, until=15)],
)
@pytest.mark.unmonitored("a delay, and the model has no timer of a minute")
def test_fast_shutdown_right_after_the_reinitialization(cluster: Cluster) -> None:
    """A fast shutdown requested while shared memory is made anew ends without waiting for a
    checkpointer, which is not forked any more."""
    # The first start has logged its settings. With nothing to redo the startup process does not
    # look for SIGTERM.
    cluster.restart()
    then = cluster.since()
    with StoppedPostmaster(cluster):
        barrier = ReinitializationBarrier(cluster)
        cluster.crash(Kind.WALWRITER)
    then.expect_line(REINITIALIZING)
    # The request is taken after the handler of the deaths has returned, which waits at the barrier.
    then = cluster.since()
    cluster.request_shutdown(FAST)
    barrier.open()
    then.expect_line("received fast shutdown request")
    redo = then.expect_log("^redo (starts at|is not required)")
    if redo.message != "redo is not required":
        raise Inconclusive("nothing to redo", redo.message)
    with where_it_shows(then):
        expect_end(cluster, 1, idle=frozenset({Kind.STARTUP}))
