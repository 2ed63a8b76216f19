"""The end of a cluster after its scenario, and the verdict on what it has left behind.

Begin with end_cluster(). Runs that were killed are swept by system/run.py.

Source: SH-12.
"""

import contextlib
import os
import signal
import subprocess
import time

from pglife_conformance.base.deadlines import CLEANUP_LIMIT, POLITE_LIMIT
from pglife_conformance.base.failures import Expectation, Leftover
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.leftovers import (
    dynamic_segments_in,
    left_segments_of,
    processes_in,
)
from pglife_conformance.observation.levels import wrong_levels
from pglife_conformance.system.cleanup import end_processes

_PAUSE_S = 0.002
_CLEAN = frozenset({ControlState.SHUT_DOWN, ControlState.SHUT_DOWN_IN_RECOVERY})


def end_cluster(cluster: Cluster, *, keep: bool) -> None:
    """Stop the server, end all its processes, remove its files.

    A server that was killed, here or in the scenario, cannot remove what it has; then the suite
    does, and that is no failure.

    Args:
        cluster: the cluster.
        keep: whether to keep its directory.

    Raises:
        Leftover: a server that was not killed has left something behind.
        Expectation: a log message has another level than PostgreSQL gives it.
    """
    cluster.watcher.recorders.clear()
    cluster.release_everything()
    has_ended = _has_ended(cluster)
    was_killed = cluster.was_killed or not _stop_politely(cluster)
    if was_killed:
        end_processes(lambda: processes_in(cluster.directory), signal.SIGKILL)
    left = _leftovers(cluster)
    if has_ended:
        left += _dynamic_leftovers(cluster)
    for segment in left_segments_of(cluster.watcher.postmaster_pids, cluster.watcher.made_at):
        segment.remove()
    _reap(cluster)
    wrong = wrong_levels(cluster.all_log().log())
    cluster.watcher.close()
    if not keep:
        # Three times as fast as shutil.rmtree() for a thousand files.
        subprocess.run(["rm", "-rf", "--", os.fspath(cluster.directory)], check=False)
    if left and not was_killed:
        raise Leftover(
            "nothing is left of the server after its end",
            "; ".join(left),
            cluster.watcher.evidence(),
        )
    if wrong:
        raise Expectation(
            "each message of the log has the level that PostgreSQL gives it",
            "\n".join(str(record) for record in wrong),
        )


def _has_ended(cluster: Cluster) -> bool:
    postmaster = cluster.watcher.postmaster
    return postmaster is not None and postmaster.exit_code() is not None


def _stop_politely(cluster: Cluster) -> bool:
    """Request an immediate shutdown; whether the server has exited in time."""
    postmaster = cluster.watcher.postmaster
    if postmaster is None or not postmaster.send(signal.SIGQUIT):
        return True
    with contextlib.suppress(Expectation):
        cluster.watcher.wait_for(
            "the exit of the server after the scenario",
            lambda: postmaster.exit_code() is not None,
            POLITE_LIMIT,
        )
    return postmaster.exit_code() is not None


def _leftovers(cluster: Cluster) -> list[str]:
    """What exists after the postmaster's exit; its processes get a moment to exit too.

    The logger exits at end of file on its pipe, after the postmaster (LG-03).
    """
    until = time.monotonic() + CLEANUP_LIMIT
    while (processes := processes_in(cluster.directory)) and time.monotonic() < until:
        time.sleep(_PAUSE_S)
    left = [str(process) for process in processes]
    if processes:
        end_processes(lambda: processes_in(cluster.directory), signal.SIGKILL)
    left += [f"socket file {path.name}" for path in cluster.socket_directory.iterdir()]
    left += [
        str(segment)
        for segment in left_segments_of(cluster.watcher.postmaster_pids, cluster.watcher.made_at)
    ]
    return left


def _dynamic_leftovers(cluster: Cluster) -> list[str]:
    """Dynamic shared memory that a clean shutdown has not removed.

    After any other end there may be some: a child that receives SIGQUIT while it makes a segment
    leaves a file that the control segment does not list (dsm.c: dsm_create()). The next start
    removes it.
    """
    found = dynamic_segments_in(cluster.data)
    if not found or cluster.controldata_state() not in _CLEAN:
        return []
    return [f"dynamic shared memory {name}" for name in found]


def _reap(cluster: Cluster) -> None:
    """Reap the orphans that the suite has adopted."""
    for pid in cluster.watcher.seen_pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
