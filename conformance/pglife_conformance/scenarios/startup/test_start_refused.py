"""Starts that fail because of settings, directories, lock files or sockets.

Source: postmaster.c: PostmasterMain(); miscinit.c: CreateLockFile(), checkDataDir().
"""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.pg_ctl.test_commands import unused_pid
from pglife_conformance.targets.base import Finished

SETTINGS = "postmaster.c: PostmasterMain()"
LOCK = "miscinit.c: CreateLockFile()"
SHUT_DOWN = "database system is shut down"


def in_version(cluster: Cluster, text: str) -> str:
    """Remove the quotes for releases before 17, which do not quote names of settings."""
    return text if cluster.major >= 17 else text.replace('"', "")


def expect_refused(cluster: Cluster, code: int, text: str) -> Finished:
    """The postmaster exits with this code and text, before it makes a file or a socket."""
    done = cluster.run_postgres()
    assert text in done.err
    assert done.code == code
    assert SHUT_DOWN not in done.err
    assert cluster.pid_file() is None
    assert list(cluster.socket_directory.iterdir()) == []
    assert not (cluster.data / "postmaster.opts").exists()
    return done


MOST_PROCESSES = 2**18 - 1
"""MAX_BACKENDS (postmaster.h; procnumber.h since 17)."""


@claim(
    "ST-02",
    source="postinit.c: InitializeMaxBackends()",
    needs=[Need.FULL_SQL],
    since=18,
    why="the message about the sum differs before",
)
def test_too_many_server_processes(stopped_cluster: Cluster) -> None:
    """The slots of all processes, including two for the autovacuum launcher and the slot sync
    worker, are at most MAX_BACKENDS. With one more the postmaster exits with 1."""
    cluster = stopped_cluster
    few = {"autovacuum_worker_slots": 4, "max_worker_processes": 3, "max_wal_senders": 2}
    room = MOST_PROCESSES - 2 - sum(few.values())
    cluster.configure(**few, max_connections=room + 1)
    done = cluster.run_postgres()
    assert done.code == 1
    assert "FATAL:  too many server processes configured\n" in done.err
    assert (
        f'DETAIL:  "max_connections" ({room + 1}) plus "autovacuum_worker_slots" (4) plus '
        '"max_worker_processes" (3) plus "max_wal_senders" (2) must be less than '
        f"{MOST_PROCESSES - 1}."
    ) in done.err
    assert cluster.pid_file() is None
    assert list(cluster.socket_directory.iterdir()) == []
    cluster.configure(max_connections=room)
    asked = cluster.run_postgres("-C", "shared_memory_size")
    assert (asked.code, asked.out.strip().isdigit()) == (0, True)


@claim("ST-02 INV-72", source=SETTINGS)
@pytest.mark.parametrize("reserved", [20, 21])
def test_reserved_slots_must_leave_room(stopped_cluster: Cluster, reserved: int) -> None:
    """The postmaster exits with 1 unless superuser_reserved_connections < max_connections."""
    cluster = stopped_cluster
    cluster.configure(max_connections=20, superuser_reserved_connections=reserved)
    plus = ' plus "reserved_connections" (0)' if cluster.major >= 16 else ""
    error = f'"superuser_reserved_connections" ({reserved}){plus} must be less than '
    error += '"max_connections" (20)\n'
    expect_refused(cluster, 1, in_version(cluster, f"postgres: {error}"))


@claim("ST-02", source=SETTINGS)
def test_reserved_slots_may_leave_one(stopped_cluster: Cluster) -> None:
    """The server starts with one connection that is not reserved."""
    stopped_cluster.configure(max_connections=3, superuser_reserved_connections=2)
    stopped_cluster.start()
    stopped_cluster.expect_service()


@claim("ST-02 CN-34", source=SETTINGS, since=16)
@pytest.mark.parametrize("number", [17, 18])
def test_both_kinds_of_reserved_slots_count(stopped_cluster: Cluster, number: int) -> None:
    """superuser_reserved_connections + reserved_connections must be less than max_connections."""
    cluster = stopped_cluster
    cluster.configure(
        max_connections=20, superuser_reserved_connections=3, reserved_connections=number
    )
    error = (
        f'"superuser_reserved_connections" (3) plus "reserved_connections" ({number}) '
        'must be less than "max_connections" (20)\n'
    )
    expect_refused(cluster, 1, in_version(cluster, f"postgres: {error}"))


@claim("ST-02 WS-01", source=SETTINGS, needs=[Need.WALSENDER, Need.ARCHIVER])
@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (
            {"archive_mode": "on", "max_wal_senders": "0"},
            'WAL archival cannot be enabled when "wal_level" is "minimal"',
        ),
        (
            {"archive_mode": "always", "max_wal_senders": "0"},
            'WAL archival cannot be enabled when "wal_level" is "minimal"',
        ),
        ({"max_wal_senders": "1"}, "WAL streaming ("),
    ],
    ids=["archiving", "archiving always", "walsenders"],
)
def test_minimal_wal_is_not_enough(
    stopped_cluster: Cluster, wanted: dict[str, str], error: str
) -> None:
    """With wal_level minimal and archiving or walsenders the postmaster exits with 1, before it
    makes the lock file."""
    cluster = stopped_cluster
    cluster.configure(wal_level="minimal", **wanted)
    text = error if cluster.major >= 17 else error.replace('"wal_level"', "wal_level")
    expect_refused(cluster, 1, f"FATAL:  {text}")


@claim("ST-02 WS-01", source=SETTINGS, needs=[Need.WALSUMMARIZER], since=17)
def test_minimal_wal_is_not_enough_for_summaries(stopped_cluster: Cluster) -> None:
    """With wal_level minimal and summarize_wal the postmaster exits with 1."""
    stopped_cluster.configure(wal_level="minimal", max_wal_senders=0, summarize_wal="on")
    error = 'FATAL:  WAL cannot be summarized when "wal_level" is "minimal"'
    expect_refused(stopped_cluster, 1, error)


@claim("ST-02", source=SETTINGS, needs=[Need.WALSENDER])
def test_minimal_wal_is_enough_for_the_rest(stopped_cluster: Cluster) -> None:
    """The server starts with wal_level minimal if it has neither archiving nor walsenders."""
    stopped_cluster.configure(wal_level="minimal", max_wal_senders=0)
    stopped_cluster.start()


@claim("ST-02", source="guc.c: ProcessConfigFile()")
def test_bad_value_in_the_configuration_file(stopped_cluster: Cluster) -> None:
    """The postmaster names an invalid value, and exits with 1."""
    stopped_cluster.configure(work_mem="nonsense")
    done = expect_refused(stopped_cluster, 1, 'invalid value for parameter "work_mem": "nonsense"')
    path = stopped_cluster.data / "postgresql.conf"
    assert f'FATAL:  configuration file "{path}" contains errors\n' in done.err


@claim("ST-02 INV-72", source="guc.c: SelectConfigFiles(); postmaster.c: checkControlFile()")
@pytest.mark.parametrize("name", ["postgresql.conf", "global/pg_control", ""])
def test_missing_files_end_the_start_with_2(stopped_cluster: Cluster, name: str) -> None:
    """Without configuration file, control file or data directory the postmaster exits with 2."""
    cluster = stopped_cluster
    path = cluster.data / name if name else cluster.data
    path.rename(cluster.directory / "away")
    text = str(path) if name else f'could not access directory "{cluster.data}"'
    expect_refused(cluster, 2, text)


@claim("ST-01", source="miscinit.c: checkDataDir()")
@pytest.mark.parametrize("mode", [0o755, 0o701, 0o770, 0o704])
def test_data_directory_with_too_many_permissions(stopped_cluster: Cluster, mode: int) -> None:
    """The postmaster exits with 1 if others may access the data directory or its group write it."""
    cluster = stopped_cluster
    cluster.data.chmod(mode)
    error = f'FATAL:  data directory "{cluster.data}" has invalid permissions\n'
    done = expect_refused(cluster, 1, error)
    assert "DETAIL:  Permissions should be u=rwx (0700) or u=rwx,g=rx (0750).\n" in done.err


@claim("ST-01", source="miscinit.c: checkDataDir()")
def test_directory_that_its_group_may_read(stopped_cluster: Cluster) -> None:
    """The server starts with a data directory of mode 0750."""
    stopped_cluster.data.chmod(0o750)
    stopped_cluster.start()


@claim("ST-02", source="miscinit.c: ValidatePgVersion()")
def test_directory_of_another_version(stopped_cluster: Cluster) -> None:
    """With a data directory of another major version the postmaster exits with 1."""
    (stopped_cluster.data / "PG_VERSION").write_text("9.6\n", encoding="ascii")
    error = "FATAL:  database files are incompatible with server\n"
    done = expect_refused(stopped_cluster, 1, error)
    assert "DETAIL:  The data directory was initialized by PostgreSQL version 9.6, " in done.err


# Lock files.


@claim("SH-44", source=LOCK)
def test_empty_pid_file(stopped_cluster: Cluster) -> None:
    """The start fails if the pid file is empty, because another server may be about to write it.
    The file is not removed."""
    path = stopped_cluster.write_file("postmaster.pid", "")
    done = stopped_cluster.run_postgres()
    assert done.code == 1
    assert 'FATAL:  lock file "postmaster.pid" is empty\n' in done.err
    assert "HINT:  Either another server is starting, or the lock file is the remnant" in done.err
    assert SHUT_DOWN not in done.err
    assert path.read_bytes() == b""


@claim("SH-43", source=LOCK)
@pytest.mark.parametrize("text", ["nonsense\n", "0\n"])
def test_pid_file_without_a_pid(stopped_cluster: Cluster, text: str) -> None:
    """The start fails if the pid file has no PID. The file is not removed."""
    path = stopped_cluster.write_file("postmaster.pid", text)
    done = stopped_cluster.run_postgres()
    assert done.code == 1
    assert 'FATAL:  bogus data in lock file "postmaster.pid": "' in done.err
    assert path.read_text(encoding="ascii") == text


@contextmanager
def process_of_the_servers_user(cluster: Cluster) -> Iterator[int]:
    """Run a process that the server's user may signal."""
    become = cluster.target.user.becoming(keep_reading=False)
    with subprocess.Popen(["sleep", "60"], preexec_fn=become, cwd="/") as sleeper:
        try:
            yield sleeper.pid
        finally:
            sleeper.kill()


@claim("SH-43 CR-50", source=LOCK)
@pytest.mark.parametrize("sign", ["", "-"], ids=["postmaster", "single user"])
def test_pid_file_of_a_running_process(stopped_cluster: Cluster, sign: str) -> None:
    """The start fails if the pid file has the PID of a running process of the same user."""
    cluster = stopped_cluster
    with process_of_the_servers_user(cluster) as pid:
        text = f"{sign}{pid}\n"
        path = cluster.write_file("postmaster.pid", text)
        done = cluster.run_postgres()
    assert done.code == 1
    assert 'FATAL:  lock file "postmaster.pid" already exists\n' in done.err
    who = "postgres" if sign else "postmaster"
    hint = f'HINT:  Is another {who} (PID {pid}) running in data directory "{cluster.data}"?\n'
    assert hint in done.err
    assert SHUT_DOWN not in done.err
    assert path.read_text(encoding="ascii") == text


@claim("SH-43 SH-44", source=LOCK)
@pytest.mark.parametrize("sign", ["", "-"], ids=["postmaster", "single user"])
def test_stale_pid_file_is_replaced(stopped_cluster: Cluster, sign: str) -> None:
    """The postmaster replaces the pid file of a process that does not exist, and logs nothing."""
    cluster = stopped_cluster
    cluster.write_file("postmaster.pid", f"{sign}{unused_pid()}\n{cluster.data}\nold\n")
    cluster.start()
    pid_file = cluster.pid_file()
    assert pid_file is not None
    assert pid_file.pid == cluster.pid
    assert len(pid_file.lines) == 8
    cluster.expect_no_log("lock file")


@claim("SH-43", source=LOCK)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a process of another user")
def test_pid_file_of_another_users_process_is_stale(stopped_cluster: Cluster) -> None:
    """A pid file is stale if its process belongs to another user."""
    stopped_cluster.write_file("postmaster.pid", f"{os.getpid()}\n")
    stopped_cluster.start()
    assert stopped_cluster.pid_file_status() is PidFileStatus.READY


# Sockets.


@contextmanager
def taken_port(address: str, port: int) -> Iterator[None]:
    """Listen at this address and port."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((address, port))
        other.listen()
        yield


def tcp_cluster(make_cluster: MakeCluster, addresses: str) -> tuple[Cluster, int]:
    """Make a cluster that is to listen at these addresses; return it and its port."""
    cluster = make_cluster(listen_addresses=addresses)
    return cluster, int(cluster.settings["port"])


@claim("ST-06 SH-11", source="postmaster.c: PostmasterMain(); pqcomm.c", needs=[Need.TCP])
def test_port_that_is_taken(make_cluster: MakeCluster) -> None:
    """If no TCP socket can be opened, the postmaster removes the pid file and exits with 1."""
    cluster, port = tcp_cluster(make_cluster, "127.0.0.1")
    with taken_port("127.0.0.1", port):
        done = cluster.run_postgres()
    assert done.code == 1
    order = [
        'LOG:  could not bind IPv4 address "127.0.0.1": Address already in use\n',
        f"HINT:  Is another postmaster already running on port {port}? ",
        'WARNING:  could not create listen socket for "127.0.0.1"\n',
        "FATAL:  could not create any TCP/IP sockets\n",
        f"LOG:  {SHUT_DOWN}\n",
    ]
    places = [done.err.find(text) for text in order]
    assert -1 not in places
    assert places == sorted(places)
    assert "listening on" not in done.err
    assert cluster.pid_file() is None


@claim("ST-06", source="postmaster.c: PostmasterMain()", needs=[Need.TCP])
@pytest.mark.parametrize("taken", ["127.0.0.1", "127.0.0.2"])
def test_one_socket_is_enough(make_cluster: MakeCluster, taken: str) -> None:
    """The server starts if one of two addresses is in use; line 6 names the other one."""
    cluster, port = tcp_cluster(make_cluster, "127.0.0.1,127.0.0.2")
    other = "127.0.0.2" if taken == "127.0.0.1" else "127.0.0.1"
    with taken_port(taken, port):
        cluster.start()
    cluster.expect_log(f'^could not create listen socket for "{re.escape(taken)}"$')
    cluster.expect_log(f'^listening on IPv4 address "{re.escape(other)}", port {port}$')
    pid_file = cluster.pid_file()
    assert pid_file is not None
    assert pid_file.listen_address == other


@claim("ST-06", source="postmaster.c: PostmasterMain()")
def test_missing_socket_directory(stopped_cluster: Cluster) -> None:
    """If the lock file of a Unix socket cannot be made, the postmaster exits with 1."""
    cluster = stopped_cluster
    missing = cluster.directory / "missing"
    cluster.configure(unix_socket_directories=str(missing))
    done = cluster.run_postgres()
    assert done.code == 1
    path = missing / ".s.PGSQL.5432.lock"
    assert f'FATAL:  could not create lock file "{path}": No such file or directory\n' in done.err
    assert done.err.endswith(f"LOG:  {SHUT_DOWN}\n")
    assert cluster.pid_file() is None


@claim("ST-06", source="postmaster.c: PostmasterMain()")
def test_no_socket_at_all(stopped_cluster: Cluster) -> None:
    """A server without any socket to listen on does not start."""
    stopped_cluster.configure(unix_socket_directories="")
    done = stopped_cluster.run_postgres()
    assert done.code == 1
    assert "FATAL:  no socket created for listening\n" in done.err
    assert stopped_cluster.pid_file() is None


@claim("ST-06 SH-43", source="pqcomm.c; miscinit.c: CreateSocketLockFile()")
def test_unix_socket_that_is_taken(make_cluster: MakeCluster) -> None:
    """A server does not start if the lock file of its socket belongs to a running server."""
    owner = make_cluster()
    owner.start()
    other = make_cluster(unix_socket_directories=str(owner.socket_directory))
    done = other.run_postgres()
    path = owner.socket_directory / ".s.PGSQL.5432"
    assert done.code == 1
    assert f'FATAL:  lock file "{path}.lock" already exists\n' in done.err
    hint = f'HINT:  Is another postmaster (PID {owner.pid}) using socket file "{path}"?\n'
    assert hint in done.err
    assert other.pid_file() is None
    owner.expect_service()


@claim("SH-43", source="miscinit.c: CreateSocketLockFile(); pqcomm.c")
def test_stale_socket_is_replaced(stopped_cluster: Cluster) -> None:
    """A server starts if its socket has files of a server that does not exist any more."""
    cluster = stopped_cluster
    path = cluster.socket_directory / ".s.PGSQL.5432"
    lock = Path(f"{path}.lock")
    lock.write_text(f"{unused_pid()}\n", encoding="ascii")
    path.touch()
    for left in (lock, path):
        cluster.target.user.chown(left)
    cluster.start()
    cluster.expect_service()
    assert lock.read_text(encoding="utf-8").splitlines()[0] == str(cluster.pid)
