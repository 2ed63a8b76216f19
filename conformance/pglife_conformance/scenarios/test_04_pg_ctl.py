"""pg_ctl: words and exit codes.

Source       rules CT-01 to CT-17; src/bin/pg_ctl/pg_ctl.c.
"""

from __future__ import annotations

from pglife_conformance.claims import claim
from pglife_conformance.cluster import Cluster
from pglife_conformance.needs import Need

PG_CTL = [Need.PG_CTL]


@claim("CT-15", "CT-17", source="pg_ctl.c: do_status()", needs=PG_CTL)
def test_status_tells_running_from_stopped_from_missing(stopped_cluster: Cluster) -> None:
    """pg_ctl status exits 0 with a server, 3 without one, 4 without a data directory."""
    cluster = stopped_cluster
    done = cluster.pg_ctl("status")
    assert (done.code, done.out) == (3, "pg_ctl: no server running\n")
    cluster.start()
    done = cluster.pg_ctl("status")
    assert done.code == 0
    assert done.out.startswith(f"pg_ctl: server is running (PID: {cluster.pid})\n")
    cluster.request_shutdown("fast")
    cluster.expect_exit(code=0)
    (cluster.data / "PG_VERSION").rename(cluster.data / "PG_VERSION.away")
    assert cluster.pg_ctl("status").code == 4


@claim("CT-05", "CT-09", source="pg_ctl.c: do_start(), do_stop()", needs=PG_CTL)
def test_start_and_stop_wait(stopped_cluster: Cluster) -> None:
    """pg_ctl start returns when the server is ready, stop when the pid file is gone."""
    cluster = stopped_cluster
    done = cluster.pg_ctl("start", "-l", str(cluster.stderr))
    assert done.code == 0
    assert done.out.startswith("waiting for server to start...")
    assert done.out.endswith(" done\nserver started\n")
    cluster.expect_ready()
    done = cluster.pg_ctl("stop")
    assert done.code == 0
    assert done.out.startswith("waiting for server to shut down...")
    assert done.out.endswith(" done\nserver stopped\n")
    assert cluster.pid_file() is None
    cluster.expect_log("^received fast shutdown request$")


@claim("CT-08", source="pg_ctl.c: do_stop()", needs=PG_CTL)
def test_stop_without_a_server_fails(stopped_cluster: Cluster) -> None:
    """pg_ctl stop without a pid file exits 1 and asks whether the server is running."""
    done = stopped_cluster.pg_ctl("stop")
    assert done.code == 1
    pid_file = stopped_cluster.data / "postmaster.pid"
    assert done.err == f'pg_ctl: PID file "{pid_file}" does not exist\nIs server running?\n'
