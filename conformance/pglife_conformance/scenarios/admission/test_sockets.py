"""The sockets that the postmaster opens at its start, and invalid pg_hba.conf and pg_ident.conf.

Source: postmaster.c: PostmasterMain(), process_pm_reload_request().
"""

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
"""Only authentication methods use pg_ident.conf."""
TOO_LONG = "x" * 100


def line_of_pid_file(cluster: Cluster, number: int) -> str:
    """Return a line of postmaster.pid; the first has number 1."""
    pid_file = cluster.pid_file()
    assert pid_file is not None
    return pid_file.lines[number - 1]


def answers(path: Path) -> bool:
    """Return whether a server answers a client at this Unix socket."""
    client = Client(path, ANSWER_LIMIT)
    client.send_startup({"user": "postgres", "database": "postgres"})
    message = client.receive()
    client.close()
    return message is not None


def another_directory(cluster: Cluster, name: str = "t") -> Path:
    """Make another directory for sockets."""
    path = cluster.directory / name
    path.mkdir(mode=0o700)
    cluster.target.user.chown(path)
    return path


@claim("ST-06 SH-40 SH-46", source=MAIN)
@pytest.mark.unmonitored("the model has one socket")
def test_two_unix_sockets(stopped_cluster: Cluster) -> None:
    """The postmaster makes a socket in each directory; line 5 of the pid file names the first."""
    cluster = stopped_cluster
    first, second = cluster.socket_directory, another_directory(cluster)
    cluster.configure(unix_socket_directories=f"{first}, {second}")
    cluster.start()
    assert line_of_pid_file(cluster, 5) == str(first)
    assert answers(first / ".s.PGSQL.5432")
    assert answers(second / ".s.PGSQL.5432")
    lines = cluster.all_log().messages(matching="^listening on ")
    assert lines == [f'listening on Unix socket "{d}/.s.PGSQL.5432"' for d in (first, second)]


@claim("ST-06 SH-40", source=MAIN)
def test_one_unix_socket_is_enough(stopped_cluster: Cluster) -> None:
    """A path that is too long causes a WARNING; line 5 names the first socket that was opened."""
    cluster = stopped_cluster
    bad, good = another_directory(cluster, TOO_LONG), cluster.socket_directory
    cluster.configure(unix_socket_directories=f"{bad}, {good}")
    cluster.start()
    warning = f'could not create Unix-domain socket in directory "{bad}"'
    assert [r.level for r in cluster.log() if r.message == warning] == ["WARNING"]
    assert line_of_pid_file(cluster, 5) == str(good)


@claim("ST-06", source=MAIN)
@pytest.mark.parametrize("tcp", [False, True])
def test_unix_socket_that_cannot_be_opened(stopped_cluster: Cluster, tcp: bool) -> None:
    """If no configured Unix socket can be opened, the postmaster exits with 1, even with TCP."""
    cluster = stopped_cluster
    cluster.configure(unix_socket_directories=str(another_directory(cluster, TOO_LONG)))
    if tcp:
        cluster.configure(listen_addresses="127.0.0.1")
    done = cluster.run_postgres()
    assert done.code == 1
    assert "FATAL:  could not create any Unix-domain sockets\n" in done.err
    assert cluster.pid_file() is None


@claim("ST-06 SH-40", source=MAIN, needs=[Need.TCP])
def test_tcp_without_a_unix_socket(make_cluster: MakeCluster) -> None:
    """Without a socket directory the server listens on TCP alone, and line 5 is empty."""
    cluster = make_cluster(unix_socket_directories="", listen_addresses="127.0.0.1")
    cluster.start()
    assert line_of_pid_file(cluster, 5) == ""
    assert line_of_pid_file(cluster, 6) == "127.0.0.1"
    with cluster.session(tcp=True) as session:
        assert session.query("select 1") == [("1",)]


@claim("ST-06 SH-40 SH-46", source=MAIN, needs=[Need.TCP])
def test_all_addresses(make_cluster: MakeCluster) -> None:
    """With * the server listens on all addresses, and line 6 is *."""
    cluster = make_cluster(listen_addresses="*")
    cluster.start()
    assert line_of_pid_file(cluster, 6) == "*"
    port = cluster.settings["port"]
    assert cluster.find_log(f'^listening on IPv4 address "0.0.0.0", port {port}$') is not None
    with cluster.session(tcp=True) as session:
        assert session.query("select 1") == [("1",)]


@claim("ST-06", source=MAIN)
@pytest.mark.parametrize("name", ["listen_addresses", "unix_socket_directories"])
def test_invalid_list_of_addresses(stopped_cluster: Cluster, name: str) -> None:
    """The postmaster exits with 1 if it cannot parse a list of addresses."""
    stopped_cluster.configure(**{name: '"never closed'})
    done = stopped_cluster.run_postgres()
    assert done.code == 1
    assert f'FATAL:  invalid list syntax in parameter "{name}"\n' in done.err
    assert stopped_cluster.pid_file() is None


@claim("ST-03 ST-06", source=MAIN)
def test_invalid_pg_hba_conf_ends_the_start(stopped_cluster: Cluster) -> None:
    """With an invalid pg_hba.conf the postmaster exits with 1 and leaves no pid file or socket."""
    cluster = stopped_cluster
    cluster.write_file("pg_hba.conf", "nonsense\n")
    done = cluster.run_postgres()
    assert done.code == 1
    assert re.search(r"FATAL:  could not load \S*pg_hba\.conf\n", done.err)
    assert cluster.pid_file() is None
    assert list(cluster.socket_directory.iterdir()) == []


@claim("ST-03 SG-02", source="postmaster.c: process_pm_reload_request()", needs=NAME_MAPS)
def test_invalid_pg_ident_conf_does_not_end_the_server(stopped_cluster: Cluster) -> None:
    """An invalid pg_ident.conf does not end the server; a reload logs that it was not reloaded."""
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
    cluster.expect_service()
    then.expect_no_log("was not reloaded$")
