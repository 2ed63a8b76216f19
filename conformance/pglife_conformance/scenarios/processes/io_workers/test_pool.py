"""Io workers: their number, titles, replacement, and wake-ups.

Source: storage/aio/method_worker.c, postmaster.c: maybe_adjust_io_workers().
"""

import contextlib
import signal

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import SMART
from pglife_conformance.hold.frozen import expect_all_idle
from pglife_conformance.hold.pin import (
    Pin,
    pin_wait_backends,
    pin_wait_io_workers,
    pin_wait_xlog_shutdown,
)
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.signals import pending_signals, was_woken
from pglife_conformance.pytest.claims import claim, settings

ADJUST = "postmaster.c: maybe_adjust_io_workers()"
NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.IO_WORKERS]
RELOADED = "received SIGHUP, reloading configuration files"


def workers(cluster: Cluster) -> list[Child]:
    """The io workers, oldest first."""
    return cluster.children(Kind.IO_WORKER)


def numbers(cluster: Cluster) -> list[int]:
    """The io workers' numbers by title, sorted; -1 for one that has no title yet."""
    words = (kid.title.removeprefix("postgres: io worker ") for kid in workers(cluster))
    return sorted(int(word) if word.isdigit() else -1 for word in words)


@claim("IO-02 TI-12 PR-11", source=ADJUST, needs=NEEDS)
@pytest.mark.parametrize("count", [1, 3, 5])
def test_there_are_as_many_io_workers_as_asked_for(stopped_cluster: Cluster, count: int) -> None:
    """The postmaster forks io_workers workers, numbered from 0, and no more."""
    cluster = stopped_cluster
    cluster.configure(io_workers=count)
    cluster.start()
    cluster.expect_complete()
    cluster.wait_for(f"{count} numbers", lambda: numbers(cluster) == list(range(count)))
    cluster.expect_still("no other", lambda: len(workers(cluster)) == count, 0.1)


@claim("IO-02 TI-34 INV-107", source=ADJUST, needs=NEEDS)
@settings(io_workers="1")
def test_io_workers_are_added_by_reload(cluster: Cluster) -> None:
    """A reload with a higher io_workers adds workers with the next numbers; the old one stays."""
    before = cluster.since()
    cluster.reload(io_workers=4)
    cluster.expect_complete()
    cluster.wait_for("numbers 0 to 3", lambda: numbers(cluster) == [0, 1, 2, 3])
    said = [RELOADED, 'parameter "io_workers" changed to "4"']
    before.expect_undisturbed(said=said)


@claim("IO-04 TI-34 INV-107", source=ADJUST, needs=NEEDS)
@settings(io_workers="5")
def test_io_workers_are_taken_away_by_reload(cluster: Cluster) -> None:
    """A reload with a lower io_workers ends the surplus one by one; the others stay."""
    before = cluster.since()
    cluster.reload(io_workers=2)
    cluster.expect_complete()
    left = {kid.key for kid in workers(cluster)}
    assert left <= {kid.key for kid in before.kids}
    gone = [kid for kid in before.kids if kid.kind is Kind.IO_WORKER and kid.key not in left]
    said = [RELOADED, 'parameter "io_workers" changed to "2"']
    before.expect_undisturbed(said=said, gone=gone)
    cluster.expect_still("two left", lambda: len(workers(cluster)) == 2, 0.2)


@claim("IO-04", source=ADJUST, needs=NEEDS)
@settings(io_workers="4")
def test_surplus_io_workers_end_one_after_the_other(cluster: Cluster) -> None:
    """While a signalled io worker has not exited, no other is signalled."""
    kids = workers(cluster)
    # Asleep, and past their birth: one stopped with the lock of their queue would hold the others
    # even in their ends.
    rests = [IdleProbe(kid.pid) for kid in kids]
    cluster.wait_for(
        "four numbers, and all at rest",
        lambda: all(rest.is_idle() for rest in rests) and numbers(cluster) == [0, 1, 2, 3],
    )
    pins = [Pin(cluster, kid) for kid in kids]
    then = cluster.since()
    cluster.reload(io_workers=1)
    then.expect_line('parameter "io_workers" changed to "1"')
    for _ in range(3):
        signalled = cluster.wait_for("one signalled io worker", lambda: _signalled(pins) or None)
        cluster.expect_still("no other signalled", lambda: len(_signalled(pins)) == 1, 0.05)
        signalled[0].release()
        cluster.expect_death(signalled[0].child)
        pins.remove(signalled[0])
    cluster.expect_still("no io worker signalled", lambda: not _signalled(pins), 0.05)
    assert [kid.key for kid in workers(cluster)] == [pins[0].child.key]


def _signalled(pins: list[Pin]) -> list[Pin]:
    return [pin for pin in pins if signal.SIGUSR2 in pending_signals(pin.child)]


@claim("IO-01 IO-08", source="postmaster.c: PostmasterStateMachine()", needs=NEEDS)
@settings(io_method="sync")
def test_no_io_workers_with_another_method(cluster: Cluster) -> None:
    """With io_method = sync there are no io workers, and a shutdown skips their state."""
    cluster.expect_complete()
    assert workers(cluster) == []
    then = cluster.since()
    cluster.stop()
    then.expect_pmstates(
        [
            ("PM_RUN", "PM_STOP_BACKENDS"),
            ("PM_STOP_BACKENDS", "PM_WAIT_BACKENDS"),
            ("PM_WAIT_BACKENDS", "PM_WAIT_XLOG_SHUTDOWN"),
            ("PM_WAIT_XLOG_SHUTDOWN", "PM_WAIT_XLOG_ARCHIVAL"),
            ("PM_WAIT_XLOG_ARCHIVAL", "PM_WAIT_IO_WORKERS"),
            ("PM_WAIT_IO_WORKERS", "PM_WAIT_CHECKPOINTER"),
            ("PM_WAIT_CHECKPOINTER", "PM_WAIT_DEAD_END"),
            ("PM_WAIT_DEAD_END", "PM_NO_CHILDREN"),
        ]
    )


def expect_another(cluster: Cluster, victim: Child, count: int) -> None:
    """The victim has exited, and there are as many io workers as before."""
    cluster.expect_death(victim)
    cluster.wait_for(
        f"{count} io workers again",
        lambda: (
            len(workers(cluster)) == count
            and victim.key not in {kid.key for kid in workers(cluster)}
        ),
    )


@claim("IO-07 INV-34", source=ADJUST, needs=NEEDS)
def test_io_worker_is_replaced_while_sessions_end(cluster: Cluster) -> None:
    """In PM_WAIT_BACKENDS of a fast shutdown an io worker that exits is replaced."""
    with pin_wait_backends(cluster):
        victim = cluster.signal_child(Kind.IO_WORKER, signal.SIGINT)
        expect_another(cluster, victim, 3)
    cluster.expect_exit(code=0)


@claim("IO-07 INV-34", source=ADJUST, needs=NEEDS)
def test_io_worker_is_replaced_before_the_last_checkpoint(cluster: Cluster) -> None:
    """In PM_WAIT_XLOG_SHUTDOWN an io worker that exits is replaced."""
    with pin_wait_xlog_shutdown(cluster):
        victim = cluster.signal_child(Kind.IO_WORKER, signal.SIGUSR2)
        expect_another(cluster, victim, 3)
    cluster.expect_exit(code=0)


@claim("IO-07 TR18-27", source=ADJUST, needs=NEEDS)
def test_io_workers_are_not_replaced_when_they_are_to_end(cluster: Cluster) -> None:
    """In PM_WAIT_IO_WORKERS none is replaced, and the checkpointer waits for the last one."""
    with pin_wait_io_workers(cluster) as pin:
        cluster.expect_count(Kind.IO_WORKER, 1)
        cluster.expect_same_children()
        assert [kid.key for kid in workers(cluster)] == [pin.child.key]
        assert cluster.pmstate() == "PM_WAIT_IO_WORKERS"
        assert len(cluster.children(Kind.CHECKPOINTER)) == 1
    cluster.expect_exit(code=0)


@claim("IO-02 MM-22 SG-02", source=ADJUST, needs=NEEDS)
def test_number_of_io_workers_may_change_during_a_smart_shutdown(cluster: Cluster) -> None:
    """While a smart shutdown waits, a reload still changes the number of io workers."""
    session = cluster.session()
    cluster.request_shutdown(SMART, logged=True)
    cluster.reload(io_workers=4)
    cluster.wait_for("four io workers", lambda: len(workers(cluster)) == 4)
    session.close()
    cluster.expect_exit(code=0)


QUEUED = 5
ROWS = 8000


@claim("IO-10", source="method_worker.c: IoWorkerMain()", needs=[*NEEDS, Need.FULL_SQL])
@settings(io_workers="16", autovacuum="off", log_min_messages="log")
def test_io_worker_that_finds_more_to_do_wakes_others(cluster: Cluster) -> None:
    """An io worker that takes the first read of a queue wakes as many others as reads are left, two
    at most; each of them does the same."""
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(cluster.session()) for _ in range(QUEUED)]
        for number, session in enumerate(sessions):
            # Twice the buffers, and so its first pages are in none.
            rows = f"select repeat('x', 500) from generate_series(1, {ROWS})"
            session.query(f"create table big_{number} as {rows}")
            session.query(f"select count(*) from big_{number}")
        expect_all_idle(cluster, workers(cluster))
        pins = [stack.enter_context(Pin(cluster, worker)) for worker in workers(cluster)]
        for number, session in enumerate(sessions):
            session.send_query(f"select count(*) from big_{number}")

        def woken() -> list[Pin]:
            return [pin for pin in pins if was_woken(pin.child.pid)]

        cluster.wait_for("one worker woken for each read", lambda: len(woken()) == QUEUED)
        expect_all_idle(cluster, [session.child for session in sessions])
        # Stopped, they ask for nothing more when they have what they wait for.
        for session in sessions:
            stack.enter_context(Pin(cluster, session.child))
        first, *others = woken()
        first.release()
        wanted = len(others) + sum(min(left, 2) for left in range(QUEUED))
        pins.remove(first)
        cluster.wait_for(
            f"{wanted} workers woken", lambda: len(woken()) == wanted, describe=lambda: str(woken())
        )
        expect_all_idle(cluster, [first.child])
        assert len(woken()) == wanted


@claim("IO-10", source="method_worker.c: pgaio_worker_register()", needs=[*SQL, Need.IO_WORKERS])
@settings(io_workers="2")
def test_io_workers_wake_no_missing_worker(cluster: Cluster) -> None:
    """When all io workers have been woken, one that finds more reads wakes no other."""
    with cluster.session() as first, cluster.session() as second:
        for name in ("one", "two"):
            values = "select repeat('x', 500) from generate_series(1, 8000)"
            first.query(f"create table {name} as {values}")
        for session in (first, second):
            # What is read of catalogs has been read.
            session.query("select count(*) from one limit 0")
            session.query("select count(*) from two limit 0")
        before = cluster.since()
        with contextlib.ExitStack() as held:
            for worker in cluster.children(Kind.IO_WORKER):
                cluster.expect_idle(worker)
                held.enter_context(Pin(cluster, worker))
            for session, name in ((first, "one"), (second, "two")):
                session.send_query(f"select count(*) from {name}")
                cluster.expect_idle(session)
                if not session.is_silent():
                    raise Inconclusive("a table that is not in the buffers", "it was there")
        for session in (first, second):
            assert session.result() == [("8000",)]
        before.expect_undisturbed()
