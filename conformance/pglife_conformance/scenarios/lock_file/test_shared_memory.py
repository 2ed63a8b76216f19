"""The System V segment that guards a data directory: which is taken for whose.

Begin with   test_stale_segment_is_replaced().
Owns         segments of nobody, of another server, and of an earlier life.
Leaves out   orphans in general (test_08_postmaster_death.py).
Source       SH-44, SH-45, CR-55; sysv_shmem.c: PGSharedMemoryCreate(), PGSharedMemoryAttach(),
             PGSharedMemoryIsInUse(), miscinit.c: CreateLockFile().
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.events import FAST
from pglife_conformance.observation.leftovers import SysvSegment, processes_in
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.lock_file.test_contents import NO_SOCKET, try_to_start

SYSV = [Need.SYSV_SHM, Need.OS_SIGNALS]
_IPC_CREAT, _IPC_EXCL = 0o1000, 0o2000
_LIBC = ctypes.CDLL(None, use_errno=True)
MORE_THAN_A_HEADER = 4096
LESS_THAN_A_HEADER = 8
COMPLAINT = r"shm(dt|ctl|at)\("
"""What is said if segments cannot be let go of."""


def segment_of(cluster: Cluster) -> tuple[int, int]:
    """Key and id of the running server's segment: line 7."""
    pid_file = cluster.pid_file()
    assert pid_file is not None
    key, ident = pid_file.lines[6].split()
    return int(key) & 0xFFFFFFFF, int(ident)


def segments() -> dict[int, int]:
    """The key of every segment there is, by id."""
    with open("/proc/sysvipc/shm", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return {int(row[1]): int(row[0]) & 0xFFFFFFFF for row in rows}


def key_of(cluster: Cluster) -> int:
    """The key that its data directory asks for first."""
    return cluster.data.stat().st_ino & 0xFFFFFFFF


@contextmanager
def segment_of_nobody(key: int, size: int, mode: int) -> Iterator[int]:
    """A segment with this key that is no server's."""
    ident = _LIBC.shmget(ctypes.c_int(key), size, _IPC_CREAT | _IPC_EXCL | mode)
    assert ident >= 0, os.strerror(ctypes.get_errno())
    try:
        yield ident
    finally:
        SysvSegment(ident, os.getpid()).remove()


def kill_postmaster(cluster: Cluster, but: set[int]) -> None:
    """SIGKILL; nobody of its family stays but these.

    Until the postmaster has been reaped its pid is a living one to whoever asks by kill().
    """
    cluster.signal_postmaster(signal.SIGKILL)
    cluster.wait_for("the postmaster's end", lambda: not cluster.is_running())
    cluster.wait_for(
        "the end of its family",
        lambda: {process.pid for process in processes_in(cluster.directory)} == but,
    )


@claim("SH-45", source="sysv_shmem.c: PGSharedMemoryCreate()", needs=SYSV)
def test_key_is_that_of_the_directory(cluster: Cluster) -> None:
    """The first key that is tried is the data directory's inode; the segment goes at the end."""
    key, ident = segment_of(cluster)
    assert key == key_of(cluster)
    assert segments()[ident] == key
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
    assert ident not in segments()
    cluster.expect_no_log(COMPLAINT)


@claim("SH-45", source="sysv_shmem.c: PGSharedMemoryCreate()", needs=SYSV)
@pytest.mark.parametrize("size", [LESS_THAN_A_HEADER, MORE_THAN_A_HEADER])
@pytest.mark.parametrize("mode", [0o600, 0o666], ids=["private", "open"])
def test_key_that_is_taken_by_somebody_else(stopped_cluster: Cluster, size: int, mode: int) -> None:
    """A segment that is no server's is left alone, and the next key is taken."""
    cluster = stopped_cluster
    key = key_of(cluster)
    with segment_of_nobody(key, size, mode) as foreign:
        taken = set(segments().values())
        cluster.start()
        # The next may be that of another server, whose directory was made next.
        assert segment_of(cluster)[0] == next(k for k in count(key) if k not in taken)
        assert foreign in segments()
        cluster.request_shutdown(FAST)
        cluster.expect_exit(code=0)
        assert foreign in segments()
        cluster.expect_no_log(COMPLAINT)


@claim("SH-44", "SH-45", "CR-51", source="sysv_shmem.c: PGSharedMemoryCreate()", needs=SYSV)
@pytest.mark.unmonitored("the model ends with its postmaster")
def test_stale_segment_is_replaced(cluster: Cluster) -> None:
    """A killed server's segment, with nobody attached, is removed; its key is used anew."""
    key, ident = segment_of(cluster)
    kill_postmaster(cluster, but=set())
    assert ident in segments()
    then = cluster.since()
    cluster.start()
    cluster.was_killed = False
    assert segment_of(cluster)[0] == key
    assert ident not in segments()
    then.expect_log("^cleaning up dynamic shared memory control segment with ID ")
    then.expect_no_log(COMPLAINT)


@claim("SH-44", "CR-55", source="miscinit.c: CreateLockFile()", needs=SYSV)
@pytest.mark.unmonitored("the model ends with its postmaster")
def test_lock_file_of_a_server_with_orphans_is_not_touched(cluster: Cluster) -> None:
    """As long as an orphan is attached to the segment of line 7, the lock file stays as it is."""
    key, ident = segment_of(cluster)
    session = cluster.session()
    orphan = cluster.signal_child(session.child, signal.SIGSTOP)
    path = cluster.data / "postmaster.pid"
    kill_postmaster(cluster, but={orphan.pid})
    text = path.read_text(encoding="utf-8")
    done = cluster.run_postgres()
    assert done.code == 1
    told = f"pre-existing shared memory block (key {key}, ID {ident}) is still in use\n"
    assert f"FATAL:  {told}" in done.err
    assert "database system is shut down" not in done.err
    assert path.read_text(encoding="utf-8") == text
    cluster.signal_child(orphan, signal.SIGKILL)
    cluster.wait_for("the orphan's end", lambda: not processes_in(cluster.directory))


@claim("SH-44", source="sysv_shmem.c: PGSharedMemoryIsInUse()", needs=SYSV)
@pytest.mark.parametrize("whose", ["another server's", "nobody's", "gone"])
def test_segment_of_line_7_that_is_not_ours(make_cluster: MakeCluster, whose: str) -> None:
    """A lock file that names a segment of another server, of no server, or none is stale."""
    ours = make_cluster()

    def starts(key: int, ident: int) -> None:
        # The pid of nobody, for no pid is that large.
        ours.write_file("postmaster.pid", f"2000000000\n2\n3\n4\n5\n6\n{key:9d} {ident:9d}\n8\n")
        done = try_to_start(ours, 'exec "$@"')
        assert done.code == 1
        assert NO_SOCKET in done.err
        assert "pre-existing shared memory block" not in done.err
        assert re.search(COMPLAINT, done.err) is None

    if whose == "another server's":
        other = make_cluster()
        other.start()
        starts(*segment_of(other))
        assert other.is_running()
        return
    # Far from the inodes of whatever other servers run here.
    key = key_of(ours) ^ 0x40000000
    with segment_of_nobody(key, MORE_THAN_A_HEADER, 0o600) as ident:
        if whose == "nobody's":
            starts(key, ident)
            return
    starts(key, ident)
