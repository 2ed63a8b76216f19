"""Who is told what: the signals that the postmaster sends, read where they arrive.

Source       rules SM-02, SM-23, SG-02, CR-02, CR-05, CR-06, TR18-18, -20 to -22, -26 to -28, SH-24;
             postmaster.c: SignalChildren(), TerminateChildren(), signal_child().

All children are stopped; a stopped child keeps what it was told, so its pending signals are
exactly the postmaster's words to it. What a process ignores leaves no trace (TERM to the
checkpointer). Where the log tells of each signal sent (18 at debug3), that is compared too.
"""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from pglife_conformance.base.failures import Expectation, Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.base.overload import is_overloaded
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.expect.lines import SHUT_DOWN, SIGKILL_ROUND, TERMINATING
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.frozen import expect_all_idle
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.signals import Sent, pending_signals, sent_signals
from pglife_conformance.pytest.claims import claim, settings

SENDER = "postmaster.c: SignalChildren()"
SIGNALS = [Need.OS_SIGNALS, Need.PROCESS_TITLES]
CRASH = [*SIGNALS, Need.CRASH_INJECTION]
WORDS_18 = "the signals that are sent are not in the log before"

pytestmark = pytest.mark.unmonitored("with everybody stopped the model has too many ways to go on")

BACKGROUND = frozenset(
    {
        Kind.BACKGROUND_WRITER,
        Kind.WALWRITER,
        Kind.AUTOVACUUM_LAUNCHER,
        Kind.LOGICAL_REPLICATION_LAUNCHER,
    }
)
SESSIONS = frozenset({Kind.CLIENT_BACKEND, Kind.UNKNOWN})


@contextlib.contextmanager
def everybody_stopped(cluster: Cluster) -> Iterator[list[Pin]]:
    """All children but the logger stopped, the oldest last: it is there for all the others."""
    with contextlib.ExitStack() as stack:
        kids = [kid for kid in cluster.children() if kid.kind is not Kind.LOGGER]
        expect_all_idle(cluster, kids)
        yield [stack.enter_context(Pin(cluster, kid)) for kid in kids]


def expect_told(cluster: Cluster, wanted: dict[Child, set[signal.Signals]]) -> None:
    """Each of these stopped children has been told exactly this."""

    def told() -> dict[Child, set[signal.Signals]]:
        return {child: set(pending_signals(child)) for child in wanted}

    rest = IdleProbe(cluster.pid)
    has_rested = False

    def is_told() -> bool:
        nonlocal has_rested
        if told() == wanted:
            return True
        # Whoever rests after such a line and before the round has told what there was to tell.
        has_rested |= _has_begun(cluster) and rest.is_idle() and not _has_struck(cluster)
        return False

    try:
        cluster.wait_for(
            "each child told its own",
            is_told,
            describe=lambda: "; ".join(
                f"{child.kind}: expected {_names(wanted[child])}, pending {_names(found)}"
                for child, found in told().items()
                if found != wanted[child]
            ),
        )
    except Expectation as problem:
        if not has_rested:
            expect_no_round(cluster, problem)
        raise


def _has_begun(cluster: Cluster) -> bool:
    return cluster.find_log(f"^({TERMINATING}|received immediate shutdown request)$") is not None


def _has_struck(cluster: Cluster) -> bool:
    return cluster.find_log(f"^{SIGKILL_ROUND}$") is not None


def expect_no_round(cluster: Cluster, problem: Expectation | None = None) -> None:
    """The stopped children have not been killed before we had read what they were told (SL-05)."""
    if is_overloaded() and _has_struck(cluster):
        raise Inconclusive(
            "who is told what, within the five seconds of SL-05", "too slow"
        ) from problem


def _names(numbers: set[signal.Signals]) -> str:
    return " ".join(sorted(number.name for number in numbers)) or "nothing"


def expect_reaped(cluster: Cluster, child: Child) -> None:
    """The postmaster has taken its exit status."""
    cluster.expect_reaped(child)


def told_by_kind(
    pins: list[Pin], number: signal.Signals, kinds: frozenset[Kind]
) -> dict[Child, set[signal.Signals]]:
    """This signal to these kinds, and nothing to the others."""
    return {pin.child: {number} if pin.child.kind in kinds else set() for pin in pins}


@claim("SG-02", source="postmaster.c: process_pm_reload_request()", needs=SIGNALS)
@settings(logging_collector="on")
def test_reload_tells_every_child(cluster: Cluster) -> None:
    """A reload sends HUP to every child, to a session and to one before its packet too."""
    session = cluster.session()
    client = cluster.silent_client()
    then = cluster.since()
    with everybody_stopped(cluster) as pins:
        assert {session.child.key, client.child.key} <= {pin.child.key for pin in pins}
        cluster.reload()
        then.expect_line("received SIGHUP, reloading configuration files")
        expect_told(cluster, {pin.child: {signal.SIGHUP} for pin in pins})


@claim("SG-02", source="postmaster.c: process_pm_reload_request()", needs=SIGNALS)
def test_reload_during_a_smart_shutdown_spares_dead_end_children(cluster: Cluster) -> None:
    """During a smart shutdown a reload is obeyed; a dead-end child is told nothing."""
    session = cluster.session()
    then = cluster.since()
    cluster.request_shutdown(SMART)
    then.expect_line("received smart shutdown request")
    refused = cluster.silent_client()
    dead_end = refused.child
    with everybody_stopped(cluster) as pins:
        cluster.reload()
        then.expect_line("received SIGHUP, reloading configuration files")
        wanted = {pin.child: {signal.SIGHUP} for pin in pins if pin.child.key != dead_end.key}
        assert len(wanted) == len(pins) - 1
        expect_told(cluster, wanted)
        assert pending_signals(dead_end) == frozenset()
    session.close()
    refused.disconnect()
    cluster.expect_exit(code=0)


@claim("SG-02", "MM-22", source="postmaster.c: process_pm_reload_request()", needs=SIGNALS)
def test_no_reload_after_a_fast_request(cluster: Cluster) -> None:
    """From a fast request on a reload is refused, and nobody is told of it."""
    cluster.session()
    then = cluster.since()
    with everybody_stopped(cluster) as pins:
        cluster.request_shutdown(FAST)
        then.expect_line("aborting any active transactions")
        cluster.reload()
        told = told_by_kind(pins, signal.SIGTERM, BACKGROUND | SESSIONS)
        expect_told(cluster, told)
        cluster.expect_still(
            "no HUP", lambda: all(signal.SIGHUP not in pending_signals(kid) for kid in told), 0.1
        )
        then.expect_no_log("^received SIGHUP")
    cluster.expect_exit(code=0)


@claim(
    "SM-02",
    "TR18-20",
    "IO-06",
    "CK-05",
    source="postmaster.c: PostmasterStateMachine()",
    needs=SIGNALS,
)
@settings(logging_collector="on")
def test_fast_shutdown_first_tells_all_but_the_last_ones(cluster: Cluster) -> None:
    """TERM goes to sessions and background processes; checkpointer and io workers hear nothing."""
    cluster.session()
    cluster.silent_client()
    then = cluster.since()
    with everybody_stopped(cluster) as pins:
        cluster.request_shutdown(FAST)
        then.expect_line("aborting any active transactions")
        expect_told(cluster, told_by_kind(pins, signal.SIGTERM, BACKGROUND | SESSIONS))
        assert {pin.child.kind for pin in pins} >= BACKGROUND | SESSIONS | {Kind.CHECKPOINTER}
    cluster.expect_exit(code=0)


@claim("SM-01", "SM-20", source="postmaster.c: PostmasterStateMachine()", needs=SIGNALS)
def test_smart_shutdown_tells_nobody_while_a_session_is_there(cluster: Cluster) -> None:
    """A smart shutdown tells nobody anything until the last session has left."""
    session = cluster.session()
    then = cluster.since()
    with everybody_stopped(cluster) as pins:
        cluster.request_shutdown(SMART)
        then.expect_line("received smart shutdown request")
        cluster.expect_still(
            "nobody told", lambda: not any(pending_signals(pin.child) for pin in pins), 0.1
        )
        session.close()
        held = next(pin for pin in pins if pin.child.key == session.child.key)
        held.release()
        cluster.expect_death(held.child)
        pins.remove(held)
        expect_told(cluster, told_by_kind(pins, signal.SIGTERM, BACKGROUND))
    cluster.expect_exit(code=0)


@claim(
    "TR18-22",
    "TR18-26",
    "TR18-27",
    "SH-24",
    source="postmaster.c: PostmasterStateMachine()",
    needs=[*SIGNALS, Need.IO_WORKERS],
)
def test_shutdown_tells_checkpointer_then_io_workers_then_checkpointer(cluster: Cluster) -> None:
    """INT to the checkpointer; after its checkpoint USR2 to io workers; then USR2 to it."""
    with contextlib.ExitStack() as stack:
        then = cluster.since()
        expect_all_idle(cluster, cluster.children())
        workers = [
            stack.enter_context(Pin(cluster, kid)) for kid in cluster.children(Kind.IO_WORKER)
        ]
        checkpointer = stack.enter_context(Pin(cluster, Kind.CHECKPOINTER))
        cluster.request_shutdown(FAST)
        cluster.expect_pmstate("PM_WAIT_XLOG_SHUTDOWN")
        wanted: dict[Child, set[signal.Signals]] = {pin.child: set() for pin in workers}
        expect_told(cluster, wanted | {checkpointer.child: {signal.SIGINT}})
        checkpointer.release()
        cluster.expect_pmstate("PM_WAIT_IO_WORKERS")
        again = stack.enter_context(Pin(cluster, checkpointer.child))
        wanted = {pin.child: {signal.SIGUSR2} for pin in workers}
        expect_told(cluster, wanted | {again.child: set()})
        for pin in workers:
            assert cluster.pmstate() == "PM_WAIT_IO_WORKERS"
            pin.release()
            cluster.expect_death(pin.child)
        cluster.expect_pmstate("PM_WAIT_CHECKPOINTER")
        expect_told(cluster, {again.child: {signal.SIGUSR2}})
        then.expect_no_log("^received SIGHUP")
    cluster.expect_exit(code=0)


@claim(
    "TR17-19",
    "SM-05",
    source="postmaster.c: PostmasterStateMachine()",
    needs=SIGNALS,
    until=17,
    why="INT and USR2 are two steps since 18",
)
def test_shutdown_tells_the_checkpointer_last(cluster: Cluster) -> None:
    """Until 17 the checkpointer is told USR2 when all others have ended."""
    expect_all_idle(cluster, cluster.children())
    with Pin(cluster, Kind.CHECKPOINTER) as pin:
        cluster.request_shutdown(FAST)
        expect_told(cluster, {pin.child: {signal.SIGUSR2}})
        assert [kid.key for kid in cluster.children()] == [pin.child.key]
    cluster.expect_exit(code=0)


@claim("TR18-18", "TR17-15", "SM-23", source="postmaster.c: TerminateChildren()", needs=SIGNALS)
@settings(logging_collector="on")
def test_immediate_shutdown_tells_everybody_to_quit(cluster: Cluster) -> None:
    """QUIT goes to every child but the logger; until 17 not to dead-end ones."""
    cluster.session()
    then = cluster.since()
    cluster.request_shutdown(SMART)
    then.expect_line("received smart shutdown request")
    refused = cluster.silent_client()
    dead_end = refused.child
    with everybody_stopped(cluster) as pins:
        cluster.request_shutdown(IMMEDIATE)
        then.expect_line("received immediate shutdown request")
        wanted: dict[Child, set[signal.Signals]] = {pin.child: {signal.SIGQUIT} for pin in pins}
        if cluster.target.version.major <= 17:
            wanted[next(kid for kid in wanted if kid.key == dead_end.key)] = set()
        expect_told(cluster, wanted)
    refused.disconnect()
    cluster.expect_exit(code=0)


@claim("CR-02", "CR-05", "TR18-10", source="postmaster.c: HandleFatalError()", needs=CRASH)
@settings(logging_collector="on")
def test_crash_tells_everybody_to_quit(cluster: Cluster) -> None:
    """After a crash QUIT goes to every child but the logger, dead-end ones too."""
    cluster.session()
    cluster.silent_client()
    then = cluster.since()
    cluster.request_shutdown(SMART)
    then.expect_line("received smart shutdown request")
    cluster.silent_client()
    victim = cluster.child(Kind.WALWRITER)
    with everybody_stopped(cluster) as pins:
        cluster.crash(victim)
        then.expect_log(f"^{TERMINATING}$")
        expect_told(
            cluster,
            {pin.child: {signal.SIGQUIT} for pin in pins if pin.child.key != victim.key},
        )
        assert Counter(pin.child.kind for pin in pins)[Kind.UNKNOWN] == 2
    cluster.expect_exit(code=1)


@claim("CR-03", "RP-04", "CR-02", source="postmaster.c: HandleChildCrash()", needs=CRASH)
def test_further_deaths_bring_no_further_round(cluster: Cluster) -> None:
    """Deaths after the first crash are neither told nor answered by other signals."""
    then = cluster.since()
    with everybody_stopped(cluster) as pins:
        for kind in (Kind.WALWRITER, Kind.BACKGROUND_WRITER, Kind.CHECKPOINTER):
            victim = next(pin for pin in pins if pin.child.kind is kind)
            cluster.crash(victim.child)
            pins.remove(victim)
            expect_reaped(cluster, victim.child)
            expect_told(cluster, {pin.child: {signal.SIGQUIT} for pin in pins})
        lines = [r.message for r in then.log() if r.level == "LOG"]
        expect_no_round(cluster)
        assert lines[1:] == [TERMINATING], lines
    then.expect_ready()


@claim(
    "CR-06",
    "SV-29",
    source="postmaster.c: HandleFatalError()",
    needs=CRASH,
    since=16,
    why="there is no such setting before",
)
@settings(send_abort_for_crash="on")
def test_children_may_be_told_to_abort_after_a_crash(cluster: Cluster) -> None:
    """With send_abort_for_crash everybody is told ABRT instead of QUIT, and dies of it."""
    cluster.session()
    then = cluster.since()
    victim = cluster.child(Kind.WALWRITER)
    with everybody_stopped(cluster) as pins:
        cluster.crash(victim)
        then.expect_log(f"^{TERMINATING}$")
        others = [pin.child for pin in pins if pin.child.key != victim.key]
        expect_told(cluster, {child: {signal.SIGABRT} for child in others})
    then.expect_ready()
    lines = [r.message for r in then.log() if r.level == "LOG" and r.pid == cluster.pid]
    assert lines[1] == TERMINATING
    assert [line for line in lines if "signal 6" in line] == []


@claim(
    "CR-06",
    "SL-05",
    source="postmaster.c: process_pm_shutdown_request()",
    needs=SIGNALS,
    since=16,
    why="there is no such setting before",
)
@settings(send_abort_for_crash="on")
def test_immediate_shutdown_never_aborts(cluster: Cluster) -> None:
    """send_abort_for_crash does not change what an immediate shutdown sends: QUIT."""
    with everybody_stopped(cluster) as pins:
        cluster.request_shutdown(IMMEDIATE)
        expect_told(cluster, {pin.child: {signal.SIGQUIT} for pin in pins})
    cluster.expect_exit(code=0)


# The same in the postmaster's words, where it says them. Nobody has to be stopped for it.


def expect_words(cluster: Cluster, wanted: list[tuple[signal.Signals, str]], since: Since) -> None:
    """These signals to processes of these types, and no others; order within a round is free.

    Children that are slow to end are killed, once the log says so (SL-05): that is left out.
    """
    records = since.log()
    rounds = [at for at, record in enumerate(records) if record.message == SIGKILL_ROUND]
    sent: list[Sent] = sent_signals(records[: rounds[0] if rounds else None], cluster.pid)
    if rounds:
        sent += [
            one
            for one in sent_signals(records[rounds[0] :], cluster.pid)
            if one.signal is not signal.SIGKILL
        ]
    assert Counter((one.signal, one.to) for one in sent) == Counter(wanted)


def expect_last_word(cluster: Cluster, since: Since) -> None:
    """All of a postmaster that has ended is in the log: its logger may have been behind it."""
    cluster.expect_exit(code=0)
    since.expect_log(f"^{SHUT_DOWN}$")


ALWAYS = [
    "background writer",
    "walwriter",
    "autovacuum launcher",
    "background worker",
    "client backend",
]


@claim(
    "SM-02",
    "TR18-20",
    "TR18-22",
    "TR18-26",
    "TR18-27",
    source=SENDER,
    since=18,
    why=WORDS_18,
    needs=[Need.SIGNAL_LOG],
)
@settings(log_min_messages="debug3", logging_collector="on")
@pytest.mark.parametrize("mode", [SMART, FAST])
def test_words_of_an_ordered_shutdown(cluster: Cluster, mode: ShutdownMode) -> None:
    """An ordered shutdown sends TERM, INT, USR2 and USR2, each to its own and once."""
    session = cluster.session()
    then = cluster.since()
    cluster.request_shutdown(mode)
    then.expect_log(f"^received {mode} shutdown request$")
    session.close()
    expect_last_word(cluster, then)
    first = ALWAYS if mode is FAST else ALWAYS[:-1]
    wanted = [(signal.SIGTERM, name) for name in first]
    wanted += [(signal.SIGINT, "checkpointer"), (signal.SIGUSR2, "checkpointer")]
    wanted += [(signal.SIGUSR2, "io worker")] * 3
    expect_words(cluster, wanted, then)


@claim(
    "TR18-10",
    "TR18-21",
    "CR-02",
    source=SENDER,
    since=18,
    why=WORDS_18,
    needs=[*CRASH, Need.SIGNAL_LOG],
)
@settings(log_min_messages="debug3", logging_collector="on")
def test_words_of_a_crash(cluster: Cluster) -> None:
    """A crash sends QUIT to everybody who is left, once, and nothing else."""
    cluster.session()
    then = cluster.since()
    cluster.crash(Kind.WALWRITER)
    then.expect_ready()
    names = [name for name in ALWAYS if name != "walwriter"] + ["checkpointer"]
    wanted = [(signal.SIGQUIT, name) for name in names] + [(signal.SIGQUIT, "io worker")] * 3
    expect_words(cluster, wanted, then)


@claim("TR18-18", source=SENDER, since=18, why=WORDS_18, needs=[Need.SIGNAL_LOG])
@settings(log_min_messages="debug3", logging_collector="on")
def test_words_of_an_immediate_shutdown(cluster: Cluster) -> None:
    """An immediate shutdown sends QUIT to everybody, once, and nothing else."""
    cluster.session()
    then = cluster.since()
    cluster.request_shutdown(IMMEDIATE)
    expect_last_word(cluster, then)
    wanted = [(signal.SIGQUIT, name) for name in [*ALWAYS, "checkpointer"]]
    wanted += [(signal.SIGQUIT, "io worker")] * 3
    expect_words(cluster, wanted, then)


@claim("SG-02", source=SENDER, since=18, why=WORDS_18, needs=[Need.SIGNAL_LOG])
@settings(log_min_messages="debug3", logging_collector="on")
def test_words_of_a_reload(cluster: Cluster) -> None:
    """A reload sends HUP to everybody, the logger too, once."""
    with cluster.session():
        then = cluster.since()
        cluster.reload(checkpoint_timeout="777s")
        wanted = [(signal.SIGHUP, name) for name in [*ALWAYS, "checkpointer", "logger"]]
        wanted += [(signal.SIGHUP, "io worker")] * 3
        cluster.wait_for("everybody told", lambda: len(sent_signals(then.log(), cluster.pid)) >= 10)
        expect_words(cluster, wanted, then)
