"""The signals that the postmaster sends to each child, read from the pending signals.

All children are stopped, so a signal to one of them stays pending. A signal that the process
ignores does not show (TERM to the checkpointer). Release 18 also logs each signal at debug3.
Source: postmaster.c: SignalChildren(), TerminateChildren(), signal_child().
"""

import contextlib
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from pglife_conformance.base.failures import Expectation, Inconclusive
from pglife_conformance.base.needs import CRASH, SIGNALS, Need
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
LOGGED_SINCE_18 = "earlier releases do not log the signals they send"

pytestmark = pytest.mark.unmonitored("with all children stopped the model has too many successors")

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
def all_children_stopped(cluster: Cluster) -> Iterator[list[Pin]]:
    """Stop all children but the logger, in the order of cluster.children()."""
    with contextlib.ExitStack() as stack:
        kids = [kid for kid in cluster.children() if kid.kind is not Kind.LOGGER]
        expect_all_idle(cluster, kids)
        yield [stack.enter_context(Pin(cluster, kid)) for kid in kids]


def expect_each_pending(cluster: Cluster, wanted: dict[Child, set[signal.Signals]]) -> None:
    """Exactly these signals are pending in each of these stopped children."""

    def pending() -> dict[Child, set[signal.Signals]]:
        return {child: set(pending_signals(child)) for child in wanted}

    idle = IdleProbe(cluster.pid)
    was_idle = False

    def all_pending() -> bool:
        nonlocal was_idle
        if pending() == wanted:
            return True
        # A postmaster that is idle after such a line and before SIGKILL has sent all its signals.
        was_idle |= _is_terminating(cluster) and idle.is_idle() and not _sent_sigkill(cluster)
        return False

    try:
        cluster.wait_for(
            "the expected signals to be pending in each child",
            all_pending,
            describe=lambda: "; ".join(
                f"{child.kind}: expected {_names(wanted[child])}, pending {_names(found)}"
                for child, found in pending().items()
                if found != wanted[child]
            ),
        )
    except Expectation as problem:
        if not was_idle:
            expect_no_sigkill_round(cluster, problem)
        raise


def _is_terminating(cluster: Cluster) -> bool:
    return cluster.find_log(f"^({TERMINATING}|received immediate shutdown request)$") is not None


def _sent_sigkill(cluster: Cluster) -> bool:
    return cluster.find_log(f"^{SIGKILL_ROUND}$") is not None


def expect_no_sigkill_round(cluster: Cluster, problem: Expectation | None = None) -> None:
    """SIGKILL did not end the stopped children before their signals were read (SL-05)."""
    if is_overloaded() and _sent_sigkill(cluster):
        raise Inconclusive(
            "pending signals read within the five seconds of SL-05", "too slow"
        ) from problem


def _names(numbers: set[signal.Signals]) -> str:
    return " ".join(sorted(number.name for number in numbers)) or "nothing"


def sent_by_kind(
    pins: list[Pin], number: signal.Signals, kinds: frozenset[Kind]
) -> dict[Child, set[signal.Signals]]:
    """This signal for each child of these kinds, and no signal for the others."""
    return {pin.child: {number} if pin.child.kind in kinds else set() for pin in pins}


@claim("SG-02", source="postmaster.c: process_pm_reload_request()", needs=SIGNALS)
@settings(logging_collector="on")
def test_reload_sends_hup_to_every_child(cluster: Cluster) -> None:
    """A reload sends HUP to every child, also to a session and to a child before its packet."""
    session = cluster.session()
    client = cluster.silent_client()
    with all_children_stopped(cluster) as pins:
        assert {session.child.key, client.child.key} <= {pin.child.key for pin in pins}
        cluster.reload_and_wait()
        expect_each_pending(cluster, {pin.child: {signal.SIGHUP} for pin in pins})


@claim("SG-02", source="postmaster.c: process_pm_reload_request()", needs=SIGNALS)
def test_reload_during_a_smart_shutdown_spares_dead_end_children(cluster: Cluster) -> None:
    """A reload during a smart shutdown sends HUP to all children except dead-end children."""
    session = cluster.session()
    cluster.request_shutdown(SMART, logged=True)
    refused = cluster.silent_client()
    dead_end = refused.child
    with all_children_stopped(cluster) as pins:
        cluster.reload_and_wait()
        wanted = {pin.child: {signal.SIGHUP} for pin in pins if pin.child.key != dead_end.key}
        assert len(wanted) == len(pins) - 1
        expect_each_pending(cluster, wanted)
        assert pending_signals(dead_end) == frozenset()
    session.close()
    refused.disconnect()
    cluster.expect_exit(code=0)


@claim("SG-02 MM-22", source="postmaster.c: process_pm_reload_request()", needs=SIGNALS)
def test_no_reload_after_a_fast_request(cluster: Cluster) -> None:
    """After a fast shutdown request the postmaster ignores a reload and sends no HUP."""
    cluster.session()
    then = cluster.since()
    with all_children_stopped(cluster) as pins:
        cluster.request_shutdown(FAST)
        then.expect_line("aborting any active transactions")
        cluster.reload()
        wanted = sent_by_kind(pins, signal.SIGTERM, BACKGROUND | SESSIONS)
        expect_each_pending(cluster, wanted)
        cluster.expect_still(
            "no HUP", lambda: all(signal.SIGHUP not in pending_signals(kid) for kid in wanted), 0.1
        )
        then.expect_no_log("^received SIGHUP")
    cluster.expect_exit(code=0)


@claim("SM-02 TR18-20 IO-06 CK-05", source="postmaster.c: PostmasterStateMachine()", needs=SIGNALS)
@settings(logging_collector="on")
def test_fast_shutdown_first_sends_term_to_sessions_and_background(cluster: Cluster) -> None:
    """A fast shutdown first sends TERM to sessions and background processes, and to no other."""
    cluster.session()
    cluster.silent_client()
    then = cluster.since()
    with all_children_stopped(cluster) as pins:
        cluster.request_shutdown(FAST)
        then.expect_line("aborting any active transactions")
        expect_each_pending(cluster, sent_by_kind(pins, signal.SIGTERM, BACKGROUND | SESSIONS))
        assert {pin.child.kind for pin in pins} >= BACKGROUND | SESSIONS | {Kind.CHECKPOINTER}
    cluster.expect_exit(code=0)


@claim("SM-01 SM-20", source="postmaster.c: PostmasterStateMachine()", needs=SIGNALS)
def test_smart_shutdown_sends_no_signal_while_a_session_is_open(cluster: Cluster) -> None:
    """A smart shutdown sends no signal until the last session has exited, then TERM."""
    session = cluster.session()
    with all_children_stopped(cluster) as pins:
        cluster.request_shutdown(SMART, logged=True)
        cluster.expect_still(
            "no signal pending", lambda: not any(pending_signals(pin.child) for pin in pins), 0.1
        )
        session.close()
        held = next(pin for pin in pins if pin.child.key == session.child.key)
        held.release()
        cluster.expect_death(held.child)
        pins.remove(held)
        expect_each_pending(cluster, sent_by_kind(pins, signal.SIGTERM, BACKGROUND))
    cluster.expect_exit(code=0)


@claim(
    "TR18-22 TR18-26 TR18-27 SH-24",
    source="postmaster.c: PostmasterStateMachine()",
    needs=[*SIGNALS, Need.IO_WORKERS],
)
def test_shutdown_signals_checkpointer_then_io_workers_then_checkpointer(cluster: Cluster) -> None:
    """The checkpointer gets INT; after its checkpoint the io workers get USR2, then it does."""
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
        expect_each_pending(cluster, wanted | {checkpointer.child: {signal.SIGINT}})
        checkpointer.release()
        cluster.expect_pmstate("PM_WAIT_IO_WORKERS")
        again = stack.enter_context(Pin(cluster, checkpointer.child))
        wanted = {pin.child: {signal.SIGUSR2} for pin in workers}
        expect_each_pending(cluster, wanted | {again.child: set()})
        for pin in workers:
            assert cluster.pmstate() == "PM_WAIT_IO_WORKERS"
            pin.release()
            cluster.expect_death(pin.child)
        cluster.expect_pmstate("PM_WAIT_CHECKPOINTER")
        expect_each_pending(cluster, {again.child: {signal.SIGUSR2}})
        then.expect_no_log("^received SIGHUP")
    cluster.expect_exit(code=0)


@claim(
    "TR17-19 SM-05",
    source="postmaster.c: PostmasterStateMachine()",
    needs=SIGNALS,
    until=17,
    why="INT and USR2 are two steps since 18",
)
def test_shutdown_signals_the_checkpointer_last(cluster: Cluster) -> None:
    """Until 17 the postmaster sends USR2 to the checkpointer when all others have exited."""
    expect_all_idle(cluster, cluster.children())
    with Pin(cluster, Kind.CHECKPOINTER) as pin:
        cluster.request_shutdown(FAST)
        expect_each_pending(cluster, {pin.child: {signal.SIGUSR2}})
        assert [kid.key for kid in cluster.children()] == [pin.child.key]
    cluster.expect_exit(code=0)


@claim("TR18-18 TR17-15 SM-23", source="postmaster.c: TerminateChildren()", needs=SIGNALS)
@settings(logging_collector="on")
def test_immediate_shutdown_sends_quit_to_all_children(cluster: Cluster) -> None:
    """An immediate shutdown sends QUIT to all but the logger, until 17 not to dead-end children."""
    cluster.session()
    cluster.request_shutdown(SMART, logged=True)
    refused = cluster.silent_client()
    dead_end = refused.child
    with all_children_stopped(cluster) as pins:
        cluster.request_shutdown(IMMEDIATE, logged=True)
        wanted: dict[Child, set[signal.Signals]] = {pin.child: {signal.SIGQUIT} for pin in pins}
        if cluster.major <= 17:
            wanted[next(kid for kid in wanted if kid.key == dead_end.key)] = set()
        expect_each_pending(cluster, wanted)
    refused.disconnect()
    cluster.expect_exit(code=0)


@claim("CR-02 CR-05 TR18-10", source="postmaster.c: HandleFatalError()", needs=CRASH)
@settings(logging_collector="on")
def test_crash_sends_quit_to_all_children(cluster: Cluster) -> None:
    """After a crash the postmaster sends QUIT to all but the logger, dead-end children too."""
    cluster.session()
    cluster.silent_client()
    then = cluster.since()
    cluster.request_shutdown(SMART, logged=True)
    cluster.silent_client()
    victim = cluster.child(Kind.WALWRITER)
    with all_children_stopped(cluster) as pins:
        cluster.crash(victim)
        then.expect_log(f"^{TERMINATING}$")
        expect_each_pending(
            cluster, {pin.child: {signal.SIGQUIT} for pin in pins if pin.child.key != victim.key}
        )
        assert Counter(pin.child.kind for pin in pins)[Kind.UNKNOWN] == 2
    cluster.expect_exit(code=1)


@claim("CR-03 RP-04 CR-02", source="postmaster.c: HandleChildCrash()", needs=CRASH)
def test_further_crashes_send_no_further_signals(cluster: Cluster) -> None:
    """Crashes after the first one add no log line and no signal."""
    then = cluster.since()
    with all_children_stopped(cluster) as pins:
        for kind in (Kind.WALWRITER, Kind.BACKGROUND_WRITER, Kind.CHECKPOINTER):
            victim = next(pin for pin in pins if pin.child.kind is kind)
            cluster.crash(victim.child)
            pins.remove(victim)
            cluster.expect_reaped(victim.child)
            expect_each_pending(cluster, {pin.child: {signal.SIGQUIT} for pin in pins})
        lines = then.messages("LOG")
        expect_no_sigkill_round(cluster)
        assert lines[1:] == [TERMINATING], lines
    then.expect_ready()


@claim(
    "CR-06 SV-29",
    source="postmaster.c: HandleFatalError()",
    needs=CRASH,
    since=16,
    why="there is no such setting before",
)
@settings(send_abort_for_crash="on")
def test_crash_sends_abort_if_so_configured(cluster: Cluster) -> None:
    """With send_abort_for_crash the postmaster sends ABRT, not QUIT, and logs no signal 6."""
    cluster.session()
    then = cluster.since()
    victim = cluster.child(Kind.WALWRITER)
    with all_children_stopped(cluster) as pins:
        cluster.crash(victim)
        then.expect_log(f"^{TERMINATING}$")
        others = [pin.child for pin in pins if pin.child.key != victim.key]
        expect_each_pending(cluster, {child: {signal.SIGABRT} for child in others})
    then.expect_ready()
    lines = [r.message for r in then.log() if r.level == "LOG" and r.pid == cluster.pid]
    assert lines[1] == TERMINATING
    assert [line for line in lines if "signal 6" in line] == []


@claim(
    "CR-06 SL-05",
    source="postmaster.c: process_pm_shutdown_request()",
    needs=SIGNALS,
    since=16,
    why="there is no such setting before",
)
@settings(send_abort_for_crash="on")
def test_immediate_shutdown_never_aborts(cluster: Cluster) -> None:
    """With send_abort_for_crash an immediate shutdown still sends QUIT."""
    with all_children_stopped(cluster) as pins:
        cluster.request_shutdown(IMMEDIATE)
        expect_each_pending(cluster, {pin.child: {signal.SIGQUIT} for pin in pins})
    cluster.expect_exit(code=0)


# The same signals as the postmaster logs them. No child needs to be stopped.


def expect_words(cluster: Cluster, wanted: list[tuple[signal.Signals, str]], since: Since) -> None:
    """The postmaster has logged exactly these signals to these types of process, in any order.

    SIGKILL to children that exit slowly (SL-05) is not counted.
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


def expect_complete_log(cluster: Cluster, since: Since) -> None:
    """The log is complete: the logger may write the last line after the postmaster exits."""
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
    "SM-02 TR18-20 TR18-22 TR18-26 TR18-27",
    source=SENDER,
    since=18,
    why=LOGGED_SINCE_18,
    needs=[Need.SIGNAL_LOG],
)
@settings(log_min_messages="debug3", logging_collector="on")
@pytest.mark.parametrize("mode", [SMART, FAST])
def test_logged_signals_of_an_ordered_shutdown(cluster: Cluster, mode: ShutdownMode) -> None:
    """An ordered shutdown logs TERM, INT, USR2 and USR2, once for each of its targets."""
    session = cluster.session()
    then = cluster.since()
    cluster.request_shutdown(mode, logged=True)
    session.close()
    expect_complete_log(cluster, then)
    first = ALWAYS if mode is FAST else ALWAYS[:-1]
    wanted = [(signal.SIGTERM, name) for name in first]
    wanted += [(signal.SIGINT, "checkpointer"), (signal.SIGUSR2, "checkpointer")]
    wanted += [(signal.SIGUSR2, "io worker")] * 3
    expect_words(cluster, wanted, then)


@claim(
    "TR18-10 TR18-21 CR-02",
    source=SENDER,
    since=18,
    why=LOGGED_SINCE_18,
    needs=[*CRASH, Need.SIGNAL_LOG],
)
@settings(log_min_messages="debug3", logging_collector="on")
def test_logged_signals_of_a_crash(cluster: Cluster) -> None:
    """After a crash the postmaster logs one QUIT for each other child, and no other signal."""
    cluster.session()
    then = cluster.since()
    cluster.crash(Kind.WALWRITER)
    then.expect_ready()
    names = [name for name in ALWAYS if name != "walwriter"] + ["checkpointer"]
    wanted = [(signal.SIGQUIT, name) for name in names] + [(signal.SIGQUIT, "io worker")] * 3
    expect_words(cluster, wanted, then)


@claim("TR18-18", source=SENDER, since=18, why=LOGGED_SINCE_18, needs=[Need.SIGNAL_LOG])
@settings(log_min_messages="debug3", logging_collector="on")
def test_logged_signals_of_an_immediate_shutdown(cluster: Cluster) -> None:
    """An immediate shutdown logs one QUIT for each child but the logger, and no other signal."""
    cluster.session()
    then = cluster.since()
    cluster.request_shutdown(IMMEDIATE)
    expect_complete_log(cluster, then)
    wanted = [(signal.SIGQUIT, name) for name in [*ALWAYS, "checkpointer"]]
    wanted += [(signal.SIGQUIT, "io worker")] * 3
    expect_words(cluster, wanted, then)


@claim("SG-02", source=SENDER, since=18, why=LOGGED_SINCE_18, needs=[Need.SIGNAL_LOG])
@settings(log_min_messages="debug3", logging_collector="on")
def test_logged_signals_of_a_reload(cluster: Cluster) -> None:
    """A reload logs one HUP for each child, the logger included."""
    with cluster.session():
        then = cluster.since()
        cluster.reload(checkpoint_timeout="777s")
        wanted = [(signal.SIGHUP, name) for name in [*ALWAYS, "checkpointer", "logger"]]
        wanted += [(signal.SIGHUP, "io worker")] * 3
        cluster.wait_for("all HUP lines", lambda: len(sent_signals(then.log(), cluster.pid)) >= 10)
        expect_words(cluster, wanted, then)
