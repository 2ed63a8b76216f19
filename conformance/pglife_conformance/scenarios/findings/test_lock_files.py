"""Two servers and one file: a server removes its successor's files when it exits (W5, W6), and two
containers share a data directory (W16)."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.expect.lines import READY_LINE
from pglife_conformance.expect.symptom import Answer, expect_answer
from pglife_conformance.observation.processes import children_of
from pglife_conformance.pytest.claims import Defect, claim
from pglife_conformance.scenarios.lock_file.test_recheck import (
    AT_LATEST_S,
    INVALID,
    put_pid_file,
)
from pglife_conformance.scenarios.startup.test_start_refused import process_of_the_servers_user
from pglife_conformance.targets.base import Program

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


IS_READY = "it is ready"
TWO_SERVERS = Answer("two servers run on one data directory", IS_READY)


@claim(
    *("SH-43", "SH-44", "INV-62"),
    source="miscinit.c: CreateLockFile()",
    needs=[Need.OS_SIGNALS, Need.CONTAINERS],
    defects=[Defect(Finding.W16, TWO_SERVERS)],
)
@pytest.mark.unmonitored("two servers run on one data directory")
def test_two_containers_share_a_data_directory(stopped_cluster: Cluster) -> None:
    """A server in one container keeps another container's out, though both have the same pid."""
    with (
        contained(stopped_cluster, "first") as first,
        contained(stopped_cluster, "second") as second,
    ):
        assert first == IS_READY
        expect_answer(second, "it exits with 1")


@contextlib.contextmanager
def contained(cluster: Cluster, name: str) -> Iterator[str]:
    """Start a server on the cluster's data directory in namespaces of its own; kill it in the end.

    Yields:
        How its start has ended.
    """
    user = cluster.target.user
    sockets = cluster.directory / name
    sockets.mkdir()
    user.chown(sockets)
    log = cluster.directory / f"{name}.log"
    words = ["-D", str(cluster.data), "-k", str(sockets)]
    with log.open("wb") as file:
        outer = cluster.target.in_a_container().start(
            Program.POSTGRES,
            words,
            run_id=cluster.run.id,
            stdout=file.fileno(),
            stderr=file.fileno(),
        )

    def outcome() -> str | None:
        if (code := outer.poll()) is not None:
            return f"it exits with {code}"
        return IS_READY if READY_LINE in log.read_text(encoding="utf-8") else None

    try:
        yield cluster.wait_for(f"the {name} server", outcome, deadlines.START_LIMIT)
    finally:
        # unshare(1) waits for its child, the first process of the namespace, which ends all others.
        with contextlib.suppress(ProcessLookupError):
            for pid in children_of(Pid(outer.pid)):
                os.kill(pid, signal.SIGKILL)
        outer.wait()
