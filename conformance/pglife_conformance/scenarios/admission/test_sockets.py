"""What a postmaster opens at birth, and what of it its children keep.

Source       rules ST-03, ST-06, SH-40, SG-06; postmaster.c: PostmasterMain(),
             ClosePostmasterPorts(), process_pm_reload_request().
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from pglife_conformance.base.deadlines import ANSWER_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.client import Client
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.pin import pin_smart_pending
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.pytest.fixtures import MakeCluster

MAIN = "postmaster.c: PostmasterMain()"
PORTS = "postmaster.c: ClosePostmasterPorts()"
NAME_MAPS = [Need.PASSWORD]
"""pg_ident.conf is of use for ways to authenticate only."""
TOO_LONG = "x" * 100


def line_of_pid_file(cluster: Cluster, number: int) -> str:
    """One of its lines."""
    pid_file = cluster.pid_file()
    assert pid_file is not None
    return pid_file.lines[number - 1]


def answers(path: Path) -> bool:
    """Somebody is served at this Unix socket."""
    client = Client(path, ANSWER_LIMIT)
    client.send_startup({"user": "postgres", "database": "postgres"})
    message = client.receive()
    client.close()
    return message is not None


def another_directory(cluster: Cluster, name: str = "t") -> Path:
    """A second directory for sockets."""
    path = cluster.directory / name
    path.mkdir(mode=0o700)
    cluster.target.user.owns(path)
    return path


@claim("ST-06", "SH-40", source=MAIN)
@pytest.mark.unmonitored("the model has one socket")
def test_two_unix_sockets(stopped_cluster: Cluster) -> None:
    """Each directory gets a socket; line 5 of the pid file names the first."""
    cluster = stopped_cluster
    first, second = cluster.socket_directory, another_directory(cluster)
    cluster.configure(unix_socket_directories=f"{first}, {second}")
    cluster.start()
    assert line_of_pid_file(cluster, 5) == str(first)
    assert answers(first / ".s.PGSQL.5432")
    assert answers(second / ".s.PGSQL.5432")
    lines = [r.message for r in cluster.log() if r.message.startswith("listening on ")]
    assert lines == [f'listening on Unix socket "{d}/.s.PGSQL.5432"' for d in (first, second)]


@claim("ST-06", "SH-40", source=MAIN)
def test_one_unix_socket_is_enough(stopped_cluster: Cluster) -> None:
    """A path that is too long draws a warning; line 5 names the first that could be opened."""
    cluster = stopped_cluster
    bad, good = another_directory(cluster, TOO_LONG), cluster.socket_directory
    cluster.configure(unix_socket_directories=f"{bad}, {good}")
    cluster.start()
    told = f'could not create Unix-domain socket in directory "{bad}"'
    assert [r.level for r in cluster.log() if r.message == told] == ["WARNING"]
    assert line_of_pid_file(cluster, 5) == str(good)


@claim("ST-06", source=MAIN)
@pytest.mark.parametrize("tcp", [False, True])
def test_no_unix_socket_where_one_is_wanted(stopped_cluster: Cluster, tcp: bool) -> None:
    """If no Unix socket can be opened the start ends with 1, TCP or not."""
    cluster = stopped_cluster
    cluster.configure(unix_socket_directories=str(another_directory(cluster, TOO_LONG)))
    if tcp:
        cluster.configure(listen_addresses="127.0.0.1")
    done = cluster.run_postgres()
    assert done.code == 1
    assert "FATAL:  could not create any Unix-domain sockets\n" in done.err
    assert cluster.pid_file() is None


@claim("ST-06", "SH-40", source=MAIN, needs=[Need.TCP])
def test_no_unix_socket_where_none_is_wanted(make_cluster: MakeCluster) -> None:
    """Without a directory there is no Unix socket, line 5 is empty, and TCP is enough."""
    cluster = make_cluster(unix_socket_directories="", listen_addresses="127.0.0.1")
    cluster.start()
    assert line_of_pid_file(cluster, 5) == ""
    assert line_of_pid_file(cluster, 6) == "127.0.0.1"
    with cluster.session(tcp=True) as session:
        assert session.query("select 1") == [("1",)]


@claim("ST-06", "SH-40", source=MAIN, needs=[Need.TCP])
def test_all_addresses(make_cluster: MakeCluster) -> None:
    """With * it listens everywhere, and line 6 is *."""
    cluster = make_cluster(listen_addresses="*")
    cluster.start()
    assert line_of_pid_file(cluster, 6) == "*"
    port = cluster.settings["port"]
    assert cluster.find_log(f'^listening on IPv4 address "0.0.0.0", port {port}$') is not None
    with cluster.session(tcp=True) as session:
        assert session.query("select 1") == [("1",)]


@claim("ST-06", source=MAIN)
@pytest.mark.parametrize("name", ["listen_addresses", "unix_socket_directories"])
def test_list_of_addresses_that_is_none(stopped_cluster: Cluster, name: str) -> None:
    """A list that cannot be parsed ends the start with 1."""
    stopped_cluster.configure(**{name: '"never closed'})
    done = stopped_cluster.run_postgres()
    assert done.code == 1
    assert f'FATAL:  invalid list syntax in parameter "{name}"\n' in done.err
    assert stopped_cluster.pid_file() is None


# Access rules.


@claim("ST-03", "ST-06", source=MAIN)
def test_rules_that_cannot_be_read_end_the_start(stopped_cluster: Cluster) -> None:
    """A bad pg_hba.conf at birth: FATAL, exit 1, and nothing is left."""
    cluster = stopped_cluster
    cluster.write_file("pg_hba.conf", "nonsense\n")
    done = cluster.run_postgres()
    assert done.code == 1
    assert re.search(r"FATAL:  could not load \S*pg_hba\.conf\n", done.err)
    assert cluster.pid_file() is None
    assert list(cluster.socket_directory.iterdir()) == []


@claim("ST-03", "SG-02", source="postmaster.c: process_pm_reload_request()", needs=NAME_MAPS)
def test_user_names_that_cannot_be_read_are_no_reason_to_end(stopped_cluster: Cluster) -> None:
    """A bad pg_ident.conf is told at birth and at a reload, and everything goes on."""
    cluster = stopped_cluster
    cluster.write_file("pg_ident.conf", "nonsense\n")
    cluster.start()
    cluster.expect_no_log(r"^could not load|was not reloaded$")
    mark = cluster.mark()
    cluster.reload()
    record = cluster.expect_log(r"^\S*pg_ident\.conf was not reloaded$", since=mark)
    assert record.level == "LOG"
    cluster.expect_no_log("pg_hba.conf was not reloaded$", since=mark)
    mark = cluster.mark()
    cluster.write_file("pg_ident.conf", "")
    cluster.reload(work_mem="5MB")
    cluster.expect_log('^parameter "work_mem" changed', since=mark)
    with cluster.session() as session:
        assert session.query("select 1") == [("1",)]
    cluster.expect_no_log("was not reloaded$", since=mark)


# What children keep.


def files_of(pid: int) -> dict[str, set[str]]:
    """Sockets and pipes that a process has open, with r, w or rw for each."""
    found: dict[str, set[str]] = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            what = os.readlink(f"/proc/{pid}/fd/{number}")
            text = Path(f"/proc/{pid}/fdinfo/{number}").read_text(encoding="ascii")
        except OSError:
            continue
        flags = int(re.search(r"^flags:\s+(\d+)$", text, re.MULTILINE)[1], 8)  # type: ignore[index]
        found.setdefault(what, set()).add(("r", "w", "rw")[flags & os.O_ACCMODE])
    return found


def listening_sockets(cluster: Cluster) -> set[str]:
    """The postmaster's sockets; it keeps no other when nobody is connecting."""
    return {what for what in files_of(cluster.pid) if what.startswith("socket:")}


LOG_AND_MEMORY = [Need.LOGGER, Need.SYSV_SHM, Need.PROCESS_TITLES]
EVERYBODY = [Need.TCP, Need.LOGGER, Need.PROCESS_TITLES]


@claim("CN-11", "ST-03", source=PORTS, needs=EVERYBODY)
@settings(listen_addresses="127.0.0.1", logging_collector="on")
def test_children_do_not_keep_the_listening_sockets(cluster: Cluster) -> None:
    """No child has a listening socket open: the port is free as soon as the postmaster ends."""
    sockets = listening_sockets(cluster)
    assert len(sockets) == 2
    with pin_smart_pending(cluster):
        refused = cluster.silent_client()
        kids = cluster.children()
        assert {Kind.LOGGER, Kind.CLIENT_BACKEND, Kind.UNKNOWN} <= {kid.kind for kid in kids}
        cluster.wait_for(
            "children without a listening socket",
            lambda: not any(sockets & files_of(kid.pid).keys() for kid in kids),
        )
        refused.vanish()


@claim("LG-03", "CR-41", source=PORTS, needs=EVERYBODY)
@settings(logging_collector="on")
def test_ends_of_pipes_that_children_keep(cluster: Cluster) -> None:
    """Only the logger reads the log's pipe, and only the postmaster holds the pipe that tells of
    its death open."""
    with cluster.session():
        own = files_of(cluster.pid)
        kids = {kid: files_of(kid.pid) for kid in cluster.children()}
        logger = next(files for kid, files in kids.items() if kid.kind is Kind.LOGGER)
        others = {kid: files for kid, files in kids.items() if kid.kind is not Kind.LOGGER}
        both = {what for what, how in own.items() if what.startswith("pipe:") and len(how) == 2}
        log_pipe = {what for what in both if any("w" in f.get(what, ()) for f in others.values())}
        assert len(log_pipe) == 1
        (log,) = log_pipe
        assert "r" in logger[log]
        assert [str(kid) for kid, files in others.items() if files.get(log) != {"w"}] == []
        deaths = [what for what in both if all(f.get(what) == {"r"} for f in kids.values())]
        assert len(deaths) == 1


@claim("LG-02", source="launch_backend.c: postmaster_child_launch()", needs=LOG_AND_MEMORY)
@settings(logging_collector="on")
def test_who_has_shared_memory(cluster: Cluster) -> None:
    """Every child has the shared memory but the logger, which gives it back."""

    def has_it(pid: int) -> bool:
        return "/SYSV" in Path(f"/proc/{pid}/maps").read_text(encoding="ascii")

    assert has_it(cluster.pid)
    with cluster.session():
        kids = cluster.children()
        assert {Kind.LOGGER, Kind.CLIENT_BACKEND} <= {kid.kind for kid in kids}
        assert {kid.kind for kid in kids if not has_it(kid.pid)} == {Kind.LOGGER}


# Signals.


def mask(pid: int, name: str) -> set[signal.Signals]:
    """A set of signals from /proc/PID/status."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    bits = int(re.search(rf"^{name}:\s+(\S+)$", text, re.MULTILINE)[1], 16)  # type: ignore[index]
    return {number for number in signal.Signals if bits >> (number - 1) & 1}


@claim("SG-06", "SG-05", "SG-01", source=MAIN, needs=[Need.OS_SIGNALS])
def test_what_a_postmaster_does_with_each_signal(cluster: Cluster) -> None:
    """It handles six signals, overlooks terminal stops and file size limits, blocks none."""
    # URG, where a latch is told by it, is read from a file.
    blocked = {signal.SIGURG}
    cluster.wait_for("no signal blocked", lambda: mask(cluster.pid, "SigBlk") <= blocked)
    ignored = {signal.SIGTTIN, signal.SIGTTOU, signal.SIGXFSZ, signal.SIGPIPE}
    handled = {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGCHLD,
    }
    assert ignored <= mask(cluster.pid, "SigIgn")
    assert handled <= mask(cluster.pid, "SigCgt")
    for kid in cluster.children():
        assert ignored - {signal.SIGPIPE} <= mask(kid.pid, "SigIgn"), kid
