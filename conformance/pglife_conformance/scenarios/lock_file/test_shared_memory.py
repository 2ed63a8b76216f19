"""The System V segment that guards a data directory.

Source: sysv_shmem.c: PGSharedMemoryCreate(), PGSharedMemoryAttach(), PGSharedMemoryIsInUse();
miscinit.c: CreateLockFile().
"""

import ctypes
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.observation.leftovers import SysvSegment
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.lock_file.test_contents import NO_SOCKET, try_to_start

SYSV = [Need.SYSV_SHM, Need.OS_SIGNALS]
_IPC_CREAT, _IPC_EXCL = 0o1000, 0o2000
_LIBC = ctypes.CDLL(None, use_errno=True)
MORE_THAN_A_HEADER = 4096
LESS_THAN_A_HEADER = 8
COMPLAINT = r"shm(dt|ctl|at)\("
"""A failed system call on a segment is logged so."""


def segment_of(cluster: Cluster) -> tuple[int, int]:
    """Key and id of the running server's segment: line 7 of the pid file."""
    pid_file = cluster.pid_file()
    assert pid_file is not None
    key, ident = pid_file.lines[6].split()
    return int(key) & 0xFFFFFFFF, int(ident)


def segments() -> dict[int, int]:
    """The key of every segment of this machine, by id."""
    with open("/proc/sysvipc/shm", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return {int(row[1]): int(row[0]) & 0xFFFFFFFF for row in rows}


def key_of(cluster: Cluster) -> int:
    """The key that the postmaster tries first: the data directory's inode."""
    return cluster.data.stat().st_ino & 0xFFFFFFFF


@contextmanager
def foreign_segment(key: int, size: int, mode: int) -> Iterator[int]:
    """A segment with this key that belongs to no server."""
    ident = _LIBC.shmget(ctypes.c_int(key), size, _IPC_CREAT | _IPC_EXCL | mode)
    assert ident >= 0, os.strerror(ctypes.get_errno())
    try:
        yield ident
    finally:
        SysvSegment(ident, Pid(os.getpid())).remove()


def kill_postmaster(cluster: Cluster, but: set[Pid]) -> None:
    """SIGKILL the postmaster, and wait until only these of its children are left.

    Until the postmaster has been reaped kill(pid, 0) finds it.
    """
    cluster.signal_postmaster(signal.SIGKILL)
    cluster.expect_exit(code=None)
    cluster.expect_no_process(*but)


@claim("SH-45", source="sysv_shmem.c: PGSharedMemoryCreate()", needs=SYSV)
def test_key_is_that_of_the_directory(cluster: Cluster) -> None:
    """The data directory's inode is the first key tried; the segment is removed at the end."""
    key, ident = segment_of(cluster)
    assert key == key_of(cluster)
    assert segments()[ident] == key
    cluster.stop()
    assert ident not in segments()
    cluster.expect_no_log(COMPLAINT)


@claim("SH-45", source="sysv_shmem.c: PGSharedMemoryCreate()", needs=SYSV)
@pytest.mark.parametrize("size", [LESS_THAN_A_HEADER, MORE_THAN_A_HEADER])
@pytest.mark.parametrize("mode", [0o600, 0o666], ids=["private", "open"])
def test_key_in_use_by_a_foreign_segment(stopped_cluster: Cluster, size: int, mode: int) -> None:
    """A segment of no server is left alone, and the postmaster takes the next key."""
    cluster = stopped_cluster
    key = key_of(cluster)
    with foreign_segment(key, size, mode) as foreign:
        taken = set(segments().values())
        cluster.start()
        # The next key may be that of another server, whose directory was made next.
        assert segment_of(cluster)[0] == next(k for k in count(key) if k not in taken)
        assert foreign in segments()
        cluster.stop()
        assert foreign in segments()
        cluster.expect_no_log(COMPLAINT)


@claim("SH-44 SH-45 CR-51", source="sysv_shmem.c: PGSharedMemoryCreate()", needs=SYSV)
@pytest.mark.unmonitored("the model ends with the postmaster")
def test_stale_segment_is_replaced(cluster: Cluster) -> None:
    """A killed server's segment without attached processes is removed; its key is used again."""
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


@claim("SH-44 CR-55", source="miscinit.c: CreateLockFile()", needs=SYSV)
@pytest.mark.unmonitored("the model ends with the postmaster")
def test_lock_file_stays_while_an_orphan_is_attached(cluster: Cluster) -> None:
    """While an orphan is attached to the segment of line 7, a start fails and leaves the file."""
    key, ident = segment_of(cluster)
    session = cluster.session()
    orphan = cluster.signal_child(session.child, signal.SIGSTOP)
    path = cluster.data / "postmaster.pid"
    kill_postmaster(cluster, but={orphan.pid})
    text = path.read_text(encoding="utf-8")
    done = cluster.run_postgres()
    assert done.code == 1
    in_use = f"pre-existing shared memory block (key {key}, ID {ident}) is still in use\n"
    assert f"FATAL:  {in_use}" in done.err
    assert "database system is shut down" not in done.err
    assert path.read_text(encoding="utf-8") == text
    cluster.signal_child(orphan, signal.SIGKILL)
    cluster.expect_no_process()


@claim("SH-44", source="sysv_shmem.c: PGSharedMemoryIsInUse()", needs=SYSV)
@pytest.mark.parametrize("whose", ["another server's", "no server's", "missing"])
def test_foreign_segment_in_line_7(make_cluster: MakeCluster, whose: str) -> None:
    """A lock file is stale if its segment is another server's, no server's, or missing."""
    ours = make_cluster()

    def starts(key: int, ident: int) -> None:
        # No pid is that large.
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
    # Far from the inodes of other servers that run here.
    key = key_of(ours) ^ 0x40000000
    with foreign_segment(key, MORE_THAN_A_HEADER, 0o600) as ident:
        if whose == "no server's":
            starts(key, ident)
            return
    starts(key, ident)
