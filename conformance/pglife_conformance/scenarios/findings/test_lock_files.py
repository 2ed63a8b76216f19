"""A server that exits removes the files of another server that has taken its place (W5, W6)."""

import signal
from pathlib import Path

import pytest

from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.expect.symptom import Answer, expect_answer
from pglife_conformance.pytest.claims import Defect, claim
from pglife_conformance.scenarios.lock_file.test_recheck import (
    AT_LATEST_S,
    INVALID,
    put_pid_file,
)
from pglife_conformance.scenarios.startup.test_start_refused import process_of_the_servers_user

UNLINK = "miscinit.c: UnlinkLockFiles()"
IS_THERE = "it is there"

PID_FILE_REMOVED = Answer("a server has removed the pid file of another one", "it is gone")
SOCKET_REMOVED = Answer("a server has removed the socket of another one", "it is gone, it is gone")


def state_of(path: Path) -> str:
    """Whether a file exists."""
    return IS_THERE if path.exists() else "it is gone"


@claim(
    *("SH-12", "SL-09"),
    source=UNLINK,
    needs=[Need.OS_SIGNALS],
    defects=[Defect(Finding.W5, PID_FILE_REMOVED)],
)
@pytest.mark.unmonitored("the model has no timer of a minute")
@pytest.mark.waits_long
def test_a_server_leaves_the_pid_file_of_its_successor(cluster: Cluster) -> None:
    """A postmaster that finds another process in postmaster.pid shuts down and leaves the file."""
    path = cluster.data / "postmaster.pid"
    _, *rest = path.read_text(encoding="utf-8").splitlines()
    then = cluster.since()
    with process_of_the_servers_user(cluster) as successor:
        put_pid_file(cluster, "\n".join([str(successor), *rest, ""]))
        cluster.expect_exit(code=0, within=AT_LATEST_S)
        then.expect_line(INVALID)
        expect_answer(state_of(path), IS_THERE)


@claim(
    *("SH-12", "SL-10"),
    source="pqcomm.c: RemoveSocketFiles(); miscinit.c: UnlinkLockFiles()",
    defects=[Defect(Finding.W6, SOCKET_REMOVED)],
)
@pytest.mark.unmonitored("two servers share a socket's path")
def test_a_server_leaves_the_socket_of_its_successor(make_cluster: MakeCluster) -> None:
    """A server whose socket another one has replaced removes neither that socket nor its lock file
    when it exits."""
    first, second = make_cluster(), make_cluster()
    first.start()
    socket = first.socket_directory / ".s.PGSQL.5432"
    lock = socket.with_name(f"{socket.name}.lock")
    # As a cleaner of temporary directories does, which spares sockets.
    lock.unlink()
    second.configure(unix_socket_directories=f"{second.socket_directory}, {first.socket_directory}")
    second.start()
    first.signal_postmaster(signal.SIGINT)
    first.expect_exit(code=0)
    expect_answer(f"{state_of(socket)}, {state_of(lock)}", f"{IS_THERE}, {IS_THERE}")
