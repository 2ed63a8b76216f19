"""The waits of each process in an idle server."""

import os

from pglife_conformance.base.deadlines import CRASH_RESTART_LIMIT
from pglife_conformance.base.needs import SIGNALS, SQL, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.support.all_processes import run_counts, start_with_all_processes


@claim("IO-10", source="method_worker.c: IoWorkerMain()", needs=[*SQL, Need.IO_WORKERS])
def test_idle_io_workers_and_sessions_sleep_without_a_timeout(cluster: Cluster) -> None:
    """An idle io worker and an idle session sleep without a timeout."""
    with cluster.session() as session:
        for child in (*cluster.children(Kind.IO_WORKER), session.child):
            cluster.expect_endless_sleep(child)


ALL_PROCESSES = [*SIGNALS, Need.FULL_SQL, Need.ARCHIVER, Need.LOGGER]
ARCHIVING = {"archive_mode": "on", "archive_command": "true"}
WINDOW_S = 0.5
MOST_WAKE_UPS = 12
MOST_TICKS = 10
"""In this window a process that does not hibernate wakes 50 times. One that spins uses it all."""
SINCE = {Kind.WALSUMMARIZER: Need.WALSUMMARIZER, Kind.IO_WORKER: Need.IO_WORKERS}
"""Kinds that older releases do not have."""
WAIT_EVENTS = {
    Kind.ARCHIVER: "archivermain",
    Kind.AUTOVACUUM_LAUNCHER: "autovacuummain",
    Kind.BACKGROUND_WRITER: "bgwriterhibernate",
    Kind.CHECKPOINTER: "checkpointermain",
    Kind.IO_WORKER: "ioworkermain",
    Kind.LOGICAL_REPLICATION_LAUNCHER: "logicallaunchermain",
    Kind.WALSUMMARIZER: "walsummarizerwal",
    Kind.WALWRITER: "walwritermain",
}


class IdleWindow:
    """Whether all children have slept for a while, with few wake-ups and little processor time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._began = self._at()
        self._then = self._counts()
        self.restless = "not checked yet"

    @staticmethod
    def _at() -> float:
        return os.times().elapsed

    def _counts(self) -> dict[int, tuple[str, int, int]]:
        return {kid.pid: (str(kid.kind), *run_counts(kid.pid)) for kid in self._cluster.children()}

    def is_idle(self) -> bool:
        """Whether all children were idle for one whole window."""
        if self._at() - self._began < WINDOW_S:
            return False
        now = self._counts()
        share = (self._at() - self._began) / WINDOW_S
        busy = []
        for pid, (name, wakes, ticks) in now.items():
            _, wakes_then, ticks_then = self._then.get(pid, (name, 0, 0))
            if wakes - wakes_then > MOST_WAKE_UPS * share or ticks - ticks_then > MOST_TICKS:
                busy.append(f"{name} {pid}: {wakes - wakes_then} wake-ups")
        self.restless = "; ".join(busy)
        self._began, self._then = self._at(), now
        return not busy


@claim("PG-31 PG-34 BW-01 BW-04", source="each process's main loop", needs=ALL_PROCESSES)
def test_idle_server_does_no_work(stopped_cluster: Cluster) -> None:
    """In an idle server all children sleep, and the walwriter hibernates."""
    cluster = stopped_cluster
    start_with_all_processes(cluster, wal_writer_delay="10ms")
    age = "log_rotation_age = '1d'\nlog_rotation_size = '1GB'\n"
    with (cluster.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write(age)
    cluster.reload()
    cluster.session()
    window = IdleWindow(cluster)
    cluster.wait_for(
        "an idle server", window.is_idle, CRASH_RESTART_LIMIT, describe=lambda: window.restless
    )


@claim("PG-31 BW-01", source="each process's main loop", needs=ALL_PROCESSES)
def test_wait_event_of_each_process_in_an_idle_server(stopped_cluster: Cluster) -> None:
    """pg_stat_activity shows for each background process the wait event of its main loop."""
    cluster = stopped_cluster
    start_with_all_processes(cluster, bgwriter_delay="10ms")
    able = cluster.target.capabilities
    wanted_kinds = {kind for kind in WAIT_EVENTS if SINCE.get(kind, Need.OS_SIGNALS) in able}
    wanted = {kind.value: WAIT_EVENTS[kind] for kind in wanted_kinds}
    with cluster.session() as session:
        session.query("create table something as select generate_series(1, 1000)")

        def found() -> dict[str | None, str | None]:
            rows = session.query(
                "select backend_type, lower(wait_event) from pg_stat_activity "
                "where pid <> pg_backend_pid()"
            )
            return {row[0]: row[1] for row in rows}

        cluster.wait_for(
            "the wait events", lambda: found() == wanted, describe=lambda: str(found())
        )
