"""What the scenarios of the findings share: a held startup process, and waits for an end that a
defect prevents.

That something never ends is shown by what is left: no process runs, and no child has a signal that
it has not yet taken.
"""

import contextlib
import time
from collections.abc import Iterator

from pglife_conformance.base import deadlines
from pglife_conformance.base.ids import Pid
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.lines import REINITIALIZING
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child, RunState, read_stat
from pglife_conformance.observation.signals import pending_signals

REQUEST = "postmaster.c: process_pm_shutdown_request()"
REAPER = "postmaster.c: process_pm_child_exit()"
HANDLER = "postmaster.c: HandleChildCrash()"
PMSIGNAL = "postmaster.c: process_pm_pmsignal()"
LOOP = "postmaster.c: ServerLoop()"
STARTER = "postmaster.c: StartChildProcess()"
MACHINE = "postmaster.c: PostmasterStateMachine()"

STILL_S = 1.5
"""How long nothing may move before an end is taken never to come."""

ANOTHER_ROUND_S = deadlines.SIGKILL_TIMEOUT + deadlines.REACTION_LIMIT
"""Seconds until a round of SIGKILL has killed a child, if its timer starts now."""

HELPERS_15 = frozenset({Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER})
HELPERS_18 = HELPERS_15 | {Kind.IO_WORKER}
DEAD_END = frozenset({Kind.UNKNOWN})
"""A child that waits for its client's first packet has no title by which to tell its kind."""


@contextlib.contextmanager
def startup_held_after_crash(cluster: Cluster) -> Iterator[tuple[StartupBarrier, Child]]:
    """PM_STARTUP after a crash, FatalError set, with checkpointer and background writer."""
    barrier = StartupBarrier(cluster)
    then = cluster.since()
    cluster.crash(Kind.WALWRITER)
    then.expect_line(REINITIALIZING)
    startup = barrier.wait_for_startup(then)
    cluster.child(Kind.CHECKPOINTER)
    cluster.child(Kind.BACKGROUND_WRITER)
    yield barrier, startup
    barrier.open()


def expect_zombie(cluster: Cluster, child: Child) -> None:
    """The child has exited; a postmaster that is stopped cannot have reaped it."""

    def has_exited() -> bool:
        kids = cluster.watcher.kids
        return any(k.key == child.key and k.state is RunState.ZOMBIE for k in kids)

    cluster.wait_for(f"the end of {child}", has_exited, deadlines.START_LIMIT)


def let_the_loop_run_once(cluster: Cluster) -> None:
    """Wait until the postmaster has handled all that it has been sent (SL-01).

    A client is served after that; a child forked for it may get SIGQUIT at once, so that its answer
    says nothing.
    """
    cluster.attempt()


def is_busy(pid: Pid) -> bool:
    """Whether the process runs or waits for a processor."""
    stat = read_stat(pid)
    return stat is not None and stat.state in "RD"


def expect_end(cluster: Cluster, code: int, *, idle: frozenset[Kind]) -> None:
    """The postmaster exits with this status.

    Raises:
        Hang: as soon as that cannot happen any more: only children of the kinds `idle` are left,
            which do not exit by themselves; each has taken all its signals; and for a while no
            process has run, no child has started or exited, and nothing was logged.
    """
    still: tuple[object, float] = (None, 0.0)

    def how() -> str | None:
        nonlocal still
        seen = cluster.watcher.last
        assert seen is not None
        if seen.exit_code is not None:
            return "exit"
        waits = bool(seen.kids) and all(
            kid.is_alive and kid.kind in idle and not pending_signals(kid) for kid in seen.kids
        )
        waits = waits and not any(map(is_busy, [cluster.pid, *(k.pid for k in seen.kids)]))
        now = time.monotonic()
        scene = (tuple(kid.key for kid in seen.kids), len(cluster.watcher.log.records))
        if not waits or scene != still[0]:
            still = (scene, now)
            return None
        return "still" if now - still[1] >= STILL_S * cluster.scale else None

    if cluster.wait_for("the postmaster's exit", how, deadlines.SHUTDOWN_LIMIT) == "still":
        raise cluster.watcher.failure(
            f"the postmaster's exit with {code}",
            f"no process runs and no signal is pending: {cluster.watcher.summary()}",
            hangs=True,
        )
    cluster.expect_exit(code)
