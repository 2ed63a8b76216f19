"""What a postmaster opens at birth, and what of it its children keep.

Source       rules ST-03, ST-06, SH-40, SG-06; postmaster.c: PostmasterMain(),
             ClosePostmasterPorts(), process_pm_reload_request().
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pglife_conformance.base.deadlines import ANSWER_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.client import Client
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.pytest.claims import claim

MAIN = "postmaster.c: PostmasterMain()"


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
    cluster.target.user.chown(path)
    return path


@claim("ST-06", "SH-40", "SH-46", source=MAIN)
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


@claim("ST-06", "SH-40", "SH-46", source=MAIN, needs=[Need.TCP])
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
    then = cluster.since()
    cluster.reload()
    record = then.expect_log(r"^\S*pg_ident\.conf was not reloaded$")
    assert record.level == "LOG"
    then.expect_no_log("pg_hba.conf was not reloaded$")
    then = cluster.since()
    cluster.write_file("pg_ident.conf", "")
    cluster.reload(work_mem="5MB")
    then.expect_log('^parameter "work_mem" changed')
    with cluster.session() as session:
        assert session.query("select 1") == [("1",)]
    then.expect_no_log("was not reloaded$")
