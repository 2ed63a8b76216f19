"""Birth: the order of the first children, the ready line, the pid file.

Source       rules ST-04, SH-40, PR-24; postmaster.c: PostmasterMain().
"""

from __future__ import annotations

from pglife_conformance.claims import claim
from pglife_conformance.cluster import Cluster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus


@claim("SH-40", source="postmaster.c: PostmasterMain(); miscinit.c: AddToDataDirLockFile()")
def test_pid_file_tells_who_where_and_ready(cluster: Cluster) -> None:
    """A server that is ready has a pid file of eight lines that name it and say `ready`."""
    pid_file = cluster.pid_file()
    assert pid_file is not None
    assert len(pid_file.lines) == 8
    assert pid_file.pid == cluster.pid
    assert pid_file.data_directory == str(cluster.data)
    assert pid_file.port == cluster.settings.get("port", "5432")
    assert pid_file.socket_directory == str(cluster.socket_directory)
    assert pid_file.status is PidFileStatus.READY
    assert pid_file.lines[7] == "ready   "


@claim("ST-04", source="postmaster.c: PostmasterMain()")
def test_first_children_are_forked_in_order(cluster: Cluster) -> None:
    """Io workers, checkpointer, background writer, and the rest only after recovery."""
    order = [child.kind for child in sorted(cluster.children(), key=lambda child: child.pid)]
    at_birth = [Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER]
    if Kind.IO_WORKER in order:
        at_birth = [Kind.IO_WORKER] * order.count(Kind.IO_WORKER) + at_birth
    assert order[: len(at_birth)] == at_birth
