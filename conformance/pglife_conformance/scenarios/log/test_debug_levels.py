"""The level of each debug line.

The log shows every debug level as `DEBUG`. So the same workload runs at each setting of
log_min_messages, and a line must appear from its own level on.
Source: the DEBUG lines of postmaster.c, pmchild.c, bgworker.c, launcher.c, autovacuum.c, ipc.c,
procsignal.c and shell_archive.c.
"""

import re
from dataclasses import dataclass

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.hold.parallel import parallel_setting, run_in_parallel
from pglife_conformance.hold.pin import pin_smart_pending
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.pytest.claims import claim


@dataclass(frozen=True)
class Line:
    """A log line, its debug level, and the releases that write it."""

    level: int
    message: str
    since: int = 15
    until: int = 18


LINES = (
    Line(1, r"updating PMState from PM_INIT to PM_STARTUP", since=18),
    Line(1, r'registering background worker "logical replication launcher"'),
    Line(1, r'registering background worker "parallel worker for PID \d+"'),
    Line(1, r'starting background worker process "logical replication launcher"'),
    Line(1, r'starting background worker process "parallel worker for PID \d+"'),
    Line(1, r'unregistering background worker "parallel worker for PID \d+"'),
    Line(1, r'background worker "parallel worker" \(PID \d+\) exited with exit code 0'),
    Line(1, r"autovacuum launcher started"),
    Line(1, r"autovacuum launcher shutting down"),
    Line(1, r"logical replication launcher started"),
    Line(1, r"logical replication launcher shutting down"),
    Line(1, r"waiting for all backends to process ProcSignalBarrier generation \d+"),
    Line(1, r"finished waiting for all backends to process ProcSignalBarrier generation \d+"),
    Line(1, r'archived write-ahead log file "\w+"'),
    Line(1, r"archiver process shutting down"),
    Line(2, r"client backend \(PID \d+\) exited with exit code 0", since=18),
    Line(2, r"client backend \(PID \d+\) exited with exit code 1", since=18),
    Line(2, r"dead-end client backend \(PID \d+\) exited with exit code 1", since=18),
    Line(2, r"server process \(PID \d+\) exited with exit code 0", until=17),
    Line(2, r"server process \(PID \d+\) exited with exit code 1", until=17),
    Line(2, r"forked new client backend, pid=\d+ socket=\d+", since=18),
    Line(2, r"forked new dead-end client backend, pid=\d+ socket=\d+", since=18),
    Line(2, r"forked new backend, pid=\d+ socket=\d+", until=17),
    Line(2, r"assigned pm child slot \d+ for backend", since=18),
    Line(2, r"releasing pm child slot \d+", since=18),
    Line(2, r"allocating dead-end child", since=18),
    Line(2, r"releasing dead-end backend", since=18),
    Line(2, r"postmaster received pmsignal signal", since=18),
    Line(2, r"postmaster received reload request signal", since=18),
    Line(2, r"postmaster received shutdown request signal", since=18),
    Line(2, r"postmaster received signal 15", until=15),
    Line(2, r"processing cancel request: sending SIGINT to process \d+"),
    Line(2, r"checkpointer updated shared memory configuration values"),
    Line(2, r"max_safe_fds = \d+, usable_fds = \d+, already_open = \d+"),
    Line(3, r"(?s)initial environment dump:\n.*", since=18),
    Line(3, r"invoking IpcMemoryCreate\(size=\d+\)"),
    Line(3, r"InitPostgres"),
    Line(3, r"exit\([01]\)"),
    Line(3, r"proc_exit\([01]\): \d+ callbacks to make"),
    Line(3, r"shmem_exit\([01]\): \d+ before_shmem_exit callbacks to make"),
    Line(3, r"shmem_exit\([01]\): \d+ on_shmem_exit callbacks to make"),
    Line(3, r"sending signal 15/SIGTERM to walwriter process with pid \d+", since=18),
    Line(3, r'executing archive command "true"'),
    Line(4, r"reaping dead processes"),
    Line(4, r"client backend process \d+ is still running", since=18),
)


def run_workload(cluster: Cluster) -> None:
    """Do everything that the lines report, and shut down."""
    cluster.expect_log("^logical replication launcher started$")
    cluster.expect_log("^autovacuum launcher started$")
    with cluster.session() as session:
        run_in_parallel(session)
        assert session.query("select 1") == [("1",)]
        session.query(f"reset {parallel_setting(cluster)}")
        session.query("create database one strategy file_copy")
        session.query("drop database one")
        session.query("select pg_switch_wal()")
        # There is nothing to cancel, but the request is logged.
        session.cancel()
    cluster.expect_log('^archived write-ahead log file "')
    assert cluster.refusal_of_new_client(user="nobody").sqlstate == "28000"
    cluster.reload_and_wait()
    with pin_smart_pending(cluster):
        cluster.refusal_of_new_client()
    cluster.expect_exit(code=0)


@claim(
    "RP-22 RP-23 PM-01 SG-42",
    source="the DEBUG lines of postmaster.c, pmchild.c, bgworker.c, ipc.c, procsignal.c",
    needs=[Need.FULL_SQL, Need.SQL_FUNCTIONS, Need.ARCHIVER],
)
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_each_debug_line_has_its_level(make_cluster: MakeCluster, level: int) -> None:
    """A debug line is logged if and only if log_min_messages includes its level."""
    cluster = make_cluster(
        log_min_messages=f"debug{level}", archive_mode="on", archive_command="true"
    )
    major = cluster.major
    cluster.start()
    run_workload(cluster)
    wrong = []
    for line in LINES:
        if not line.since <= major <= line.until:
            continue
        found = _records(cluster, line)
        if bool(found) != (line.level <= level):
            wrong.append(f"{'logged' if found else 'not logged'}: {line}")
        wrong += [str(record) for record in found if record.level != "DEBUG"]
    assert wrong == []


def _records(cluster: Cluster, line: Line) -> list[LogRecord]:
    matches = re.compile(line.message).fullmatch
    return [record for record in cluster.log() if matches(record.message)]
