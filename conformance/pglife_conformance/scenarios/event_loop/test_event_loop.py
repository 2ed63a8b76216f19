"""The postmaster's loop: it sleeps unless there is something to do, and does nothing else then.

Source       rules SL-01 to SL-06, SL-09, PR-26, RP-02, RP-22, RP-23, BG-12, TR18-22, SM-05, CR-06;
             postmaster.c: ServerLoop(), DetermineSleepTime(), CleanupBackend(), signal_child().
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import time
from dataclasses import dataclass
from datetime import datetime

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.standby import stop
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.expect.lines import SIGKILL_ROUND, TERMINATING, exited_line
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.fork_limit import lift_limit
from pglife_conformance.hold.parallel import run_in_parallel
from pglife_conformance.hold.pin import Pin, StoppedPostmaster, pin_wait_backends, pin_wait_dead_end
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.observation.processes import children_of, read_stat
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.replication.test_launcher import RESTART_INTERVAL_S
from pglife_conformance.scenarios.shutdown.test_waits import wait_for_rest
from pglife_conformance.scenarios.signals.test_optional_processes import (
    parallel_worker,
)
from pglife_conformance.scenarios.signals.test_sent_by_the_postmaster import (
    expect_reaped,
    expect_words,
)
from pglife_conformance.scenarios.support.failing_forks import (
    GATED,
    QUIET,
    open_without_checkpointer,
)
from pglife_conformance.scenarios.support.sleeping import (
    expect_sleep,
)

LOOP = "postmaster.c: ServerLoop()"


SLEEP = "postmaster.c: DetermineSleepTime()"


CLEANUP = "postmaster.c: CleanupBackend()"


MACHINE = "postmaster.c: PostmasterStateMachine()"


SIGNALS = [Need.OS_SIGNALS, Need.PROCESS_TITLES]


CRASH = [*SIGNALS, Need.CRASH_INJECTION]


PARALLEL = [*SIGNALS, Need.FULL_SQL, Need.SQL_FUNCTIONS]


WORDS_18 = "the signals that are sent are not in the log before"


WATCHED_S = 0.4


MAY_USE = 0.6


"""Of this time, by a postmaster that has nothing to do; one that spins is awake all the time."""


TURN_S = 0.03


"""One turn of the loop takes less of a processor. However long it had to wait for it on a loaded
machine, who has not had more than this has not spun."""


@dataclass(frozen=True)
class Awake:
    """For how long a postmaster has run, and has wanted to while others had the processor."""

    ran_s: float
    waited_s: float

    @classmethod
    def of(cls, cluster: Cluster) -> Awake:
        """Since its birth."""
        with open(f"/proc/{cluster.pid}/schedstat", encoding="ascii") as file:
            ran, waited = (int(word) for word in file.read().split()[:2])
        return cls(ran / 1e9, waited / 1e9)

    def has_spun(self, since: Awake, allowed_s: float) -> bool:
        """Whether it was awake for longer than this, and not for want of a processor alone."""
        ran, waited = self.ran_s - since.ran_s, self.waited_s - since.waited_s
        return ran > TURN_S and ran + waited > allowed_s


def expect_asleep(cluster: Cluster) -> None:
    """The postmaster does not spin."""
    wait_for_rest(cluster)
    began, before = time.monotonic(), Awake.of(cluster)

    def sleeps() -> bool:
        allowed = MAY_USE * max(WATCHED_S, time.monotonic() - began)
        return not Awake.of(cluster).has_spun(before, allowed)

    cluster.expect_still("a postmaster that sleeps", sleeps, WATCHED_S)


@claim("SL-01", "SL-06", source=LOOP)
def test_postmaster_sleeps_when_it_has_done_its_work(cluster: Cluster) -> None:
    """After a reload, a client and an end of a child the postmaster sleeps again."""
    then = cluster.since()
    with cluster.session() as session:
        child = session.child
        cluster.reload()
        then.expect_line("received SIGHUP, reloading configuration files")
    expect_reaped(cluster, child)
    expect_asleep(cluster)


TAKEN = {
    signal.SIGUSR1: "postmaster received pmsignal signal",
    signal.SIGHUP: "postmaster received reload request signal",
    signal.SIGTERM: "postmaster received shutdown request signal",
    signal.SIGCHLD: "reaping dead processes",
}


@claim("SG-01", "RP-22", source=LOOP, since=18, why="not all of these lines are there before")
@settings(log_min_messages="debug4", autovacuum="off", max_logical_replication_workers="0")
def test_postmaster_takes_each_signal_once(cluster: Cluster) -> None:
    """What a signal asks for is done at the next turn of the loop, and not again at the others."""
    with cluster.session():
        wait_for_rest(cluster)
        for number, line in TAKEN.items():
            then = cluster.since()
            if number is signal.SIGTERM:
                cluster.request_shutdown(SMART)
            else:
                cluster.signal_postmaster(number)
            then.expect_log(f"^{line}$")
            wait_for_rest(cluster)
            said = [r.message for r in then.log() if r.message in TAKEN.values()]
            assert said == [line]


@claim("SL-06", source=SLEEP, needs=SIGNALS)
@pytest.mark.parametrize("state", ["PM_WAIT_BACKENDS", "PM_WAIT_DEAD_END"])
def test_postmaster_sleeps_while_it_waits_in_a_shutdown(cluster: Cluster, state: str) -> None:
    """A shutdown that waits for somebody takes no processor time."""
    enter = pin_wait_backends if state == "PM_WAIT_BACKENDS" else pin_wait_dead_end
    with enter(cluster):
        expect_asleep(cluster)
    cluster.release_everything()
    cluster.expect_exit(code=0)


@claim("SL-06", "BG-12", "SH-27", source=SLEEP, needs=SIGNALS)
def test_postmaster_sleeps_while_a_worker_waits_for_its_restart(cluster: Cluster) -> None:
    """Until a background worker may be restarted the postmaster sleeps; its end is told once."""
    then, began = cluster.since(), time.monotonic()
    victim = cluster.signal_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    cluster.expect_death(victim)
    then.expect_log("exited with exit code 1$")
    expect_asleep(cluster)
    # Looked at first: where that took so long another may have come in its time.
    there = cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER)
    assert not there or time.monotonic() - began >= RESTART_INTERVAL_S
    assert ends_told(cluster, victim.pid, then) == [("LOG", exited_line(cluster, victim, 1))]


@claim("SL-06", "BG-12", "BG-14", source=SLEEP, needs=PARALLEL)
@pytest.mark.unmonitored("the model has no such process")
def test_worker_that_waits_for_its_restart_leaves_the_others_alone(cluster: Cluster) -> None:
    """While one background worker waits for its restart a running one is not forgotten."""
    with parallel_worker(cluster) as (_, worker):
        then = cluster.since()
        victim = cluster.signal_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
        cluster.expect_death(victim)
        then.expect_log("exited with exit code 1$")
        expect_asleep(cluster)
        then.expect_no_log("^unregistering background worker")
        assert worker.key in {kid.key for kid in cluster.children()}


SPINS_S = 0.5


"""Who has slept until the clock is awake for a moment; who came too early spins for a second."""


AT_LATEST_S = 7.6


"""Whole seconds count, and a busy machine; a clock set anew at the client comes at eight. What the
postmaster has waited for a processor meanwhile, to sleep or to wake, comes on top."""


@claim(
    "SL-05", "SL-06", "CR-07", source=SLEEP, needs=CRASH, since=16, why="15 may sleep its minute"
)
def test_postmaster_sleeps_until_its_clock_whoever_wakes_it(cluster: Cluster) -> None:
    """After a crash the postmaster sleeps until it kills, five seconds after the crash, although a
    client wakes it meanwhile; what it says of it is of level LOG."""
    session = cluster.session()
    then = cluster.since()
    # A whole second is counted from its beginning, so the clock then runs for five of them.
    beginning = math.ceil(time.time())
    cluster.wait_for("the beginning of a second", lambda: time.time() >= beginning)
    with Pin(cluster, session.child):
        began, at_crash = time.monotonic(), Awake.of(cluster)
        cluster.crash(Kind.WALWRITER)
        crashed = then.expect_log(f"^{TERMINATING}$")
        cluster.wait_for("three seconds", lambda: time.monotonic() > began + 3.0)
        cluster.attempt().disconnect()
        wait_for_rest(cluster)
        before = last = Awake.of(cluster)

        def round_told() -> LogRecord | None:
            nonlocal last
            # What comes after the line, the restart, is not counted.
            now = Awake.of(cluster)
            record = then.find_log(f"^{SIGKILL_ROUND}$")
            last = last if record is not None else now
            return record

        told = cluster.wait_for("the round", round_told, deadlines.CRASH_RESTART_LIMIT)
        late_s = Awake.of(cluster).waited_s - at_crash.waited_s
        assert told.level == "LOG"
        assert _clock(told) - _clock(crashed) <= AT_LATEST_S * cluster.scale + late_s
        assert not last.has_spun(before, SPINS_S)
    then.expect_ready()
    stop(cluster)


def _clock(record: LogRecord) -> float:
    return datetime.strptime(record.time, "%Y-%m-%d %H:%M:%S.%f %Z").timestamp()


@claim("SL-09", "SL-10", source=LOOP)
def test_sockets_are_not_touched_in_the_first_hour(cluster: Cluster) -> None:
    """The socket and its lock file keep their times, whatever wakes the postmaster."""

    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in cluster.socket_directory.iterdir()}

    before = times()
    assert len(before) == 2
    then = cluster.since()
    with cluster.session():
        cluster.reload()
        then.expect_line("received SIGHUP, reloading configuration files")
    wait_for_rest(cluster)
    assert times() == before


@claim("SL-01", source=LOOP, needs=[Need.SIGNAL_LOG], since=18, why=WORDS_18)
@settings(log_min_messages="debug4")
def test_reload_does_nothing_but_reload(cluster: Cluster) -> None:
    """Nobody is looked for who has ended where nobody has, and each signal sent gets there."""
    wait_for_rest(cluster)
    then = cluster.since()
    cluster.reload()
    then.expect_line("received SIGHUP, reloading configuration files")
    wait_for_rest(cluster)
    then.expect_log("sending signal 1/SIGHUP to checkpointer")
    for unasked in ("^reaping dead processes$", "^received .* shutdown", r"^kill\("):
        then.expect_no_log(unasked)
    then = cluster.since()
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
    then.expect_no_log(r"^kill\(")


def ends_told(cluster: Cluster, pid: int, since: Since) -> list[tuple[str, str]]:
    """What the postmaster has said of this child's end."""
    said = (r for r in since.log() if r.pid == cluster.pid)
    return [
        (re.sub(r"^DEBUG\d?$", "DEBUG", r.level), r.message)
        for r in said
        if f"(PID {pid})" in r.message
    ]


@claim("RP-23", "RP-02", source=CLEANUP, needs=SIGNALS)
@pytest.mark.parametrize("code", [0, 1])
def test_end_of_a_session_is_told_once_at_debug2(cluster: Cluster, code: int) -> None:
    """The ordinary end of a session is a line of level DEBUG2 with its exit code."""
    session = cluster.session()
    child = session.child
    then = cluster.since()
    if code == 0:
        session.close()
    else:
        cluster.signal_child(child, signal.SIGTERM)
    cluster.expect_death(child)
    name = "client backend" if cluster.target.version.major >= 18 else "server process"
    wanted = [("DEBUG", f"{name} (PID {child.pid}) exited with exit code {code}")]
    cluster.wait_for("its line", lambda: ends_told(cluster, child.pid, then) == wanted)
    wait_for_rest(cluster)
    assert ends_told(cluster, child.pid, then) == wanted


@claim("RP-23", "RP-22", source=CLEANUP, needs=PARALLEL)
@pytest.mark.unmonitored("the model has no such process")
@settings(log_min_messages="debug1")
def test_at_debug1_only_the_ends_of_background_workers_are_told(cluster: Cluster) -> None:
    """A background worker that exits 0 is told once, at DEBUG1, and never started again."""
    with cluster.session() as session:
        child = session.child
        run_in_parallel(session)
        then = cluster.since()
        assert session.query("select 1") == [("1",)]
    cluster.expect_death(child)
    wait_for_rest(cluster)
    told = [r.message for r in then.log() if r.pid == cluster.pid]
    (started,) = [line for line in told if line.startswith("starting background worker process")]
    (ended,) = [line for line in told if " exited with " in line]
    assert re.fullmatch(
        r'background worker "parallel worker" \(PID \d+\) exited with exit code 0', ended
    ), ended
    assert "parallel worker for PID" in started
    assert ends_told(cluster, child.pid, then) == []


def expect_all_log(cluster: Cluster, since: Since, *wanted: str) -> None:
    """These lines were said, and every line of the postmaster's is of level LOG."""
    records = since.postmaster_records()
    said = [r.message for r in records]
    assert [line for line in wanted if line not in said] == []
    assert [str(r) for r in records if r.level != "LOG"] == []


@claim("CR-02", "CR-20", "SH-02", source="postmaster.c: HandleChildCrash()", needs=CRASH)
def test_levels_of_a_crash_and_an_ordered_end(cluster: Cluster) -> None:
    """The lines of a crash, of its restart, of a smart and of a fast shutdown are LOG."""
    then = cluster.since()
    cluster.crash(Kind.WALWRITER)
    then.expect_ready()
    session = cluster.session()
    cluster.request_shutdown(SMART)
    then.expect_line("received smart shutdown request")
    cluster.request_shutdown(FAST)
    session.expect_end()
    cluster.expect_exit(code=0)
    expect_all_log(
        cluster,
        then,
        TERMINATING,
        "received smart shutdown request",
        "received fast shutdown request",
        "aborting any active transactions",
    )


@claim("CR-22", "CR-30", "SH-02", source=MACHINE, needs=CRASH)
@pytest.mark.parametrize("end", ["immediate", "abnormal", "no restart"])
def test_levels_of_an_abrupt_end(stopped_cluster: Cluster, end: str) -> None:
    """So are those of an immediate shutdown, of an abnormal one, and where there is no restart."""
    cluster = stopped_cluster
    cluster.configure(restart_after_crash=end != "no restart")
    cluster.start()
    then = cluster.since()
    if end == "immediate":
        cluster.request_shutdown(IMMEDIATE)
    elif end == "abnormal":
        with pin_wait_backends(cluster):
            cluster.crash(Kind.CHECKPOINTER)
    else:
        cluster.crash(Kind.WALWRITER)
    cluster.expect_exit(code=0 if end == "immediate" else 1)
    expect_all_log(cluster, then)
    assert len(then.postmaster_records()) >= 2


@claim("PR-26", "SE-20", source="postmaster.c: signal_child()", needs=[*SIGNALS, Need.FULL_SQL])
@pytest.mark.unmonitored("the model does not know of a child's own children")
@pytest.mark.parametrize("mode", [FAST, IMMEDIATE])
def test_signal_reaches_what_a_child_has_started(cluster: Cluster, mode: ShutdownMode) -> None:
    """A program that a session waits for is told what the session is told, and ends with it."""
    session = cluster.session()
    session.query("create table target (a int)")
    session.send_query("copy target from program 'exec sleep 60'")
    backend = session.child.pid

    def started() -> int | None:
        kids = children_of(backend)
        return next((pid for pid in kids if _command(pid) == "sleep"), None)

    program = cluster.wait_for("the program", started)
    stat = read_stat(program)
    assert stat is not None
    began = stat.start_time
    cluster.request_shutdown(mode)
    cluster.expect_exit(code=0)
    cluster.wait_for("the program's end", lambda: _has_ended(program, began))
    with contextlib.suppress(ChildProcessError):
        os.waitpid(program, os.WNOHANG)


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _has_ended(pid: int, start_time: int) -> bool:
    stat = read_stat(pid)
    return stat is None or stat.start_time != start_time or stat.state in "ZX"


@claim("SM-05", "TR18-22", "TR17-19", "PR-02", source=MACHINE, needs=GATED)
@QUIET
def test_checkpointer_is_forked_for_the_last_checkpoint(counted_cluster: Cluster) -> None:
    """A fast shutdown that finds no checkpointer forks one, which writes the last checkpoint."""
    cluster = counted_cluster
    open_without_checkpointer(cluster)
    then = cluster.since()
    with StoppedPostmaster(cluster):
        lift_limit(cluster)
        cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
    then.expect_log("^checkpoint complete: ")


@claim(
    "SM-06",
    "TR18-23",
    "CR-06",
    source=MACHINE,
    needs=[*GATED, Need.SIGNAL_LOG, Need.IO_WORKERS],
    since=18,
    why=WORDS_18,
)
@QUIET
@settings(send_abort_for_crash="on", log_min_messages="debug3")
def test_nobody_is_told_to_abort_where_a_fork_fails(counted_cluster: Cluster) -> None:
    """Where no checkpointer can be forked the others are told QUIT, never ABRT."""
    cluster = counted_cluster
    open_without_checkpointer(cluster)
    then = cluster.since()
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=1)
    expect_words(cluster, [(signal.SIGQUIT, "io worker")] * 3, then)


"""Of the time until the postmaster kills; one that spins is awake all the time."""


AT_LEAST_S = 2.0


"""Whoever has seen less of that time has seen nothing."""


def watch_until_the_round(cluster: Cluster, since: Since) -> tuple[float, bool]:
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
        if since.find_log(f"^{SIGKILL_ROUND}$") is not None:
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
    then = cluster.since()
    launcher = cluster.signal_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    cluster.expect_death(launcher)
    then.expect_log("exited with exit code 1$")
    then = cluster.since()
    with Pin(cluster, session.child):
        if when == "crash":
            cluster.crash(Kind.WALWRITER)
            then.expect_log(f"^{TERMINATING}$")
        else:
            cluster.request_shutdown(IMMEDIATE)
            then.expect_line("received immediate shutdown request")
        took, has_spun = watch_until_the_round(cluster, then)
    if took < AT_LEAST_S:
        raise Inconclusive(f"{AT_LEAST_S:g} seconds until SIGKILL", f"{took:.1f} of them")
    assert not has_spun
    if when == "crash":
        then.expect_ready()
        cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)


SQL = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]


POSTMASTER_MS = 60_000


BY_SELECT = "the postmaster waits by select() before"


@claim("SL-04", source="postmaster.c: DetermineSleepTime()", needs=SQL, since=16, why=BY_SELECT)
def test_postmaster_that_has_nothing_to_do_sleeps_for_a_minute(cluster: Cluster) -> None:
    """Without a clock of its own to wait for the postmaster looks around once a minute."""
    with cluster.session():
        expect_sleep(cluster, "postmaster", cluster.pid, POSTMASTER_MS)


@claim(
    "BG-12",
    source="postmaster.c: DetermineSleepTime()",
    needs=SQL,
    since=16,
    why="the postmaster waits by select() before",
)
def test_postmaster_sleeps_until_a_worker_is_to_be_started_again(cluster: Cluster) -> None:
    """After the end of the logical replication launcher the postmaster sleeps for five seconds at
    most, since it will not be called to start it again."""
    victim = cluster.signal_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    cluster.expect_death(victim)
    cluster.wait_for(
        "a sleep until then",
        lambda: 0 < (sleep_ms(cluster.pid) or 0) <= 1000 * RESTART_INTERVAL_S,
        describe=lambda: f"{sleep_ms(cluster.pid)} ms",
    )
