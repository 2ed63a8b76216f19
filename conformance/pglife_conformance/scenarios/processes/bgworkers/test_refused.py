"""Background workers and autovacuum workers where something stands in their way.

Source       rules BG-12, BG-20, SL-06, AV-01, PG-07, SV-40; bgworker.c:
             BackgroundWorkerInitializeConnectionByOid(); postmaster.c: StartChildProcess(),
             maybe_start_bgworkers(), DetermineSleepTime().
"""

from __future__ import annotations

import contextlib
import re
import signal
import time

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.crash import SIGKILL_ROUND, TERMINATING
from pglife_conformance.hold.parallel import run_in_parallel
from pglife_conformance.hold.pin import Pin
from pglife_conformance.hold.zombie import EndHeld
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.event_loop.test_event_loop import Awake
from pglife_conformance.scenarios.processes.bgworkers.test_lifecycle import (
    LOGICAL,
    ONE_WORKER,
    expect_a_worker,
    subscribe,
)
from pglife_conformance.scenarios.signals.test_optional_processes import autovacuum_worker

SQL = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]
OUT_OF_MODEL = pytest.mark.unmonitored("the model has no such process")
CONNECT = "bgworker.c: BackgroundWorkerInitializeConnectionByOid()"

_WORKER_ENDED = re.compile(
    r'background worker "logical replication (?:apply )?worker" \(PID (\d+)\) '
    r"exited with exit code 1"
)

SHUT_OUT = (
    "alter role somebody nologin",
    "alter role somebody connection limit 0",
    "alter database somewhere allow_connections false",
    "alter database somewhere connection limit 0",
    "revoke connect on database somewhere from public",
)
"""Each keeps a new session of this role out of this database."""


@claim("BG-12", source=CONNECT, needs=[*SQL, Need.ROLES])
@settings(**ONE_WORKER)
@OUT_OF_MODEL
@pytest.mark.parametrize("how", SHUT_OUT)
def test_parallel_workers_come_for_whoever_is_in(cluster: Cluster, how: str) -> None:
    """A session gets its parallel workers, although it would no longer be let in itself."""
    with cluster.session() as boss:
        boss.query("create role somebody login")
        boss.query("create database somewhere strategy file_copy")
        with cluster.session(user="somebody", database="somewhere") as session:
            run_in_parallel(session)
            expect_a_worker(cluster, session)
            boss.query(how)
            assert cluster.attempt(user="somebody", database="somewhere").refusal is not None
            mark = cluster.mark()
            for _ in range(2):
                expect_a_worker(cluster, session)
            worse = [r for r in cluster.log(mark) if r.level in ("ERROR", "FATAL", "PANIC")]
            assert worse == []


def ended_with_1(cluster: Cluster, since: int) -> set[int]:
    """The background workers of which the postmaster has told this."""
    found = (_WORKER_ENDED.fullmatch(record.message) for record in cluster.log(since))
    return {int(match[1]) for match in found if match is not None}


@claim("BG-26", source=CONNECT, needs=[*SQL, Need.ROLES, Need.WALSENDER])
@settings(**LOGICAL)
@OUT_OF_MODEL
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("alter role boss nologin", 'role "boss" is not permitted to log in'),
        (
            "alter database postgres allow_connections false",
            'database "postgres" is not currently accepting connections',
        ),
    ],
)
def test_apply_workers_come_for_whoever_may_come(cluster: Cluster, how: str, text: str) -> None:
    """An apply worker is let in where its subscription's owner would be, and nowhere else."""
    with cluster.session(database="template1") as session:
        session.query("create role boss superuser login")
        with cluster.session(user="boss") as owner:
            worker = subscribe(cluster, owner)
            session.query(how)
            mark = cluster.mark()
            cluster.signal_child(worker, signal.SIGTERM)
            cluster.expect_death(worker)

            def refused() -> bool:
                # Its walsender may be told the same, but is no background worker.
                told = {r.pid for r in cluster.log(mark) if (r.level, r.message) == ("FATAL", text)}
                return bool(told & ended_with_1(cluster, mark))

            # The launcher tries again and again.
            cluster.wait_for("an apply worker that is refused", refused)
            owner.query("alter subscription news disable")


# No slot.


@claim(
    "SV-40",
    "AV-01",
    "PG-07",
    source="postmaster.c: StartChildProcess()",
    needs=[*SQL, Need.AUTOVACUUM_WORKER],
    since=18,
    why="autovacuum workers have no slots of their own before",
)
@settings(
    autovacuum_worker_slots="1",
    autovacuum_max_workers="1",
    autovacuum_naptime="1s",
)
@OUT_OF_MODEL
def test_no_slot_for_an_autovacuum_worker(cluster: Cluster) -> None:
    """While a worker that has ended is not reaped there is no slot for another one: the launcher
    is told, asks again, and has its worker when there is."""
    launcher = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    with autovacuum_worker(cluster) as worker, EndHeld(cluster, worker) as held:
        mark = cluster.mark()
        cluster.signal_child(worker, signal.SIGTERM)
        held.expect_end()
        told = cluster.expect_log("^no slot available for", since=mark)
        assert told.message == "no slot available for new autovacuum worker process"
        assert (told.pid, told.level) == (cluster.pid, "LOG")
        cluster.expect_no_log("^no postmaster child slot available", since=mark)
        mark = cluster.mark()
        held.let_go()
        cluster.expect_log('^autovacuum: processing database "', since=mark)
    assert cluster.child(Kind.AUTOVACUUM_LAUNCHER).key == launcher.key


# Waiting.


MAY_USE = 0.6
"""Of the time until the postmaster kills; one that spins is awake all the time."""
AT_LEAST_S = 2.0
"""Whoever has seen less of that time has seen nothing."""


def watch_until_the_round(cluster: Cluster, since: int) -> tuple[float, bool]:
    """For how long the postmaster was watched, and whether it has spun in that time.

    What comes after the line, a restart or the postmaster's end, is not counted.
    """
    began, before = time.monotonic(), Awake.of(cluster)
    took, last = 0.0, before

    def told() -> bool:
        nonlocal took, last
        now, then = None, time.monotonic()
        with contextlib.suppress(OSError):
            now = Awake.of(cluster)
        if cluster.find_log(f"^{SIGKILL_ROUND}$", since=since) is not None:
            return True
        if now is not None:
            took, last = then - began, now
        return False

    cluster.wait_for("the round of SIGKILL", told)
    return took, last.has_spun(before, MAY_USE * took)


@claim(
    "SL-05",
    "SL-06",
    "BG-12",
    source="postmaster.c: DetermineSleepTime()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.CRASH_INJECTION],
    since=16,
    why="15 may sleep its minute",
)
@pytest.mark.parametrize("when", ["crash", "immediate shutdown"])
def test_postmaster_sleeps_until_it_kills(cluster: Cluster, when: str) -> None:
    """The time until SIGKILL is slept through, also where a worker waits for its restart."""
    session = cluster.session()
    mark = cluster.mark()
    launcher = cluster.signal_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    cluster.expect_death(launcher)
    cluster.expect_log("exited with exit code 1$", since=mark)
    mark = cluster.mark()
    with Pin(cluster, session.child):
        if when == "crash":
            cluster.crash(Kind.WALWRITER)
            cluster.expect_log(f"^{TERMINATING}$", since=mark)
        else:
            cluster.request_shutdown("immediate")
            cluster.expect_log("^received immediate shutdown request$", since=mark)
        took, has_spun = watch_until_the_round(cluster, mark)
    if took < AT_LEAST_S:
        raise Inconclusive(f"{AT_LEAST_S:g} seconds until SIGKILL", f"{took:.1f} of them")
    assert not has_spun
    if when == "crash":
        cluster.expect_ready(since=mark)
        cluster.request_shutdown("fast")
    cluster.expect_exit(code=0)
