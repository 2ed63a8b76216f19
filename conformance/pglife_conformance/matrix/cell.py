"""One cell of the matrix: enter, stop all children, act, compare, continue them, compare again.

Begin with play(). What must be seen the model says: by_model.py.
"""

import re
import time
from collections import Counter
from collections.abc import Sequence

from pglife_conformance.base import deadlines
from pglife_conformance.base.deadlines import SIGKILL_TIMEOUT
from pglife_conformance.base.failures import Expectation, Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.base.overload import is_overloaded
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.excerpt import Excerpt, Line, in_version, same_lines
from pglife_conformance.hold.frozen import Frozen
from pglife_conformance.matrix import by_model
from pglife_conformance.matrix.events import Event
from pglife_conformance.matrix.expected import OPEN, Expected, Finale
from pglife_conformance.matrix.frozen_cell import FrozenCell, SignalsByKind
from pglife_conformance.matrix.states import State
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.targets.base import Target
from pglife_spec import PM, REPAIR_NAMES

_SIGKILL_ROUND = "issuing SIGKILL to recalcitrant children"
_LAUNCHER_RESTART_S = 5.0
"""BG-12: its restart interval."""
_LAUNCHER_EXITED = re.compile(
    r'background worker "logical replication launcher" \(PID \d+\) exited with exit code 1'
)


class TooSlow(Inconclusive):
    """The SIGKILL timeout (SL-05) fired before the cell was played."""


def play(cluster: Cluster, state: State, event: Event) -> None:
    """Play one cell.

    Raises:
        TooSlow: if the SIGKILL timeout (SL-05) fired because the machine was overloaded.
        Expectation: at the first difference, a SIGKILL round that came too early among them; the
            postmaster counts whole seconds, so one second less is not too early.
    """
    began = time.monotonic()
    try:
        _play(cluster, state, event)
    except Inconclusive:
        raise
    except Expectation as problem:
        was_slow = time.monotonic() - began >= SIGKILL_TIMEOUT - 1
        if was_slow and is_overloaded() and cluster.find_log(f"^{_SIGKILL_ROUND}$") is not None:
            raise TooSlow(
                "a cell played within the five seconds of SL-05", f"too slow; {problem.observed}"
            ) from problem
        raise


def expectation(target: Target, state: State, event: Event) -> Expected:
    """What must be seen in a cell."""
    repairs = [name for name in REPAIR_NAMES if target.has_repair(name)]
    return by_model.expectation(state, event, target.version.major, repairs)


def _play(cluster: Cluster, state: State, event: Event) -> None:
    major = cluster.target.version.major
    before = state.children_on_entry(major)
    expected = expectation(cluster.target, state, event)
    with state.enter(cluster) as held:
        cluster.wait_for(
            f"exactly these children in {state}: {_count(before)}",
            lambda: held.children() == +before,
            describe=lambda: _count(held.children()),
        )
        with Frozen(cluster) as frozen:
            cell = FrozenCell(held, frozen)
            _expect_signals_before(cell, state, major)
            then = cluster.since()
            cell.acted_at = time.monotonic()
            event.perform(cell)
            if expected.pm is not PM.PM_NO_CHILDREN:
                _expect_held(cell, expected, then)
            cluster.release_everything()
    _expect_finale(cell, state, expected, then)
    if not cluster.is_running() and Need.CONTROL_FILE in cluster.target.capabilities:
        _expect_control_state(cluster, expected.control)


# While all children are stopped.


def _expect_signals_before(cell: FrozenCell, state: State, major: int) -> None:
    """The children that hold the state have the expected signals pending."""
    sent = state.pending_before(major)
    wanted = {kind: frozenset({int(number)}) for kind, number in sent.items()}
    cell.cluster.wait_for(
        f"in {state} signals pending: {_words(wanted)}",
        lambda: cell.signals_before() == wanted,
        describe=lambda: _words(cell.signals_before()),
    )


def _expect_held(cell: FrozenCell, expected: Expected, then: Excerpt) -> None:
    cluster = cell.cluster
    lines = in_version(expected.lines, cluster.major)
    signals = _signals(expected, cell.signals_before())
    probe = IdleProbe(cluster.pid)

    def as_expected() -> bool:
        return (
            same_lines(then.exact_lines(cell.names), lines)
            and cell.signals_since() == signals
            and _children_are_right(cell, expected)
            and probe.is_idle()
        )

    cluster.wait_for(
        f"lines {lines}; signals {_words(signals)}; children {_count(+expected.children)}",
        as_expected,
        describe=lambda: (
            f"lines {then.exact_lines(cell.names)}; signals {_words(cell.signals_since())}; "
            f"children {_count(cell.held.children())}"
        ),
    )
    if (found := cluster.pid_file_status()) is not expected.pid_file:
        raise cluster.watcher.failure(f"the pid file says {expected.pid_file}", f"{found}")
    _expect_refusal(cluster, expected)


def _children_are_right(cell: FrozenCell, expected: Expected) -> bool:
    children = cell.held.children()
    return children in (+expected.children, expected.children + _may_be_restarted(cell, expected))


def _may_be_restarted(cell: FrozenCell, expected: Expected) -> Counter[Kind]:
    """BG-12: a launcher that exited is restarted, but no sooner than after five seconds."""
    launcher = Kind.LOGICAL_REPLICATION_LAUNCHER
    has_exited = (
        expected.pm in OPEN and launcher in expected.children and not expected.children[launcher]
    )
    is_time = time.monotonic() - cell.acted_at >= _LAUNCHER_RESTART_S
    return Counter([launcher] if has_exited and is_time else [])


def _lines_of(cell: FrozenCell, expected: Expected, then: Excerpt) -> list[str]:
    """The postmaster's lines, without the exit of a launcher that may have been restarted."""
    found = then.exact_lines(cell.names)
    if _may_be_restarted(cell, expected):
        return [line for line in found if not _LAUNCHER_EXITED.fullmatch(line)]
    return found


def _signals(expected: Expected, already: SignalsByKind) -> SignalsByKind:
    found = {
        kind: frozenset(int(number) for number in numbers - kind.ignores)
        - already.get(kind, frozenset())
        for kind, numbers in expected.signals.items()
        if expected.children[kind] - expected.forked[kind] > 0
    }
    return {kind: numbers for kind, numbers in found.items() if numbers}


def _expect_refusal(cluster: Cluster, expected: Expected) -> None:
    """A new client receives the expected refusal.

    A client that is admitted is not tried: its backend needs children that are not stopped.
    """
    if not expected.accepts:
        expect_no_answer(cluster)
    elif expected.refusal is not None:
        cluster.expect_refusal(expected.refusal)


def expect_no_answer(cluster: Cluster) -> None:
    """SE-33: a client can connect, but no child is forked and no answer is sent."""
    before = [kid.key for kid in cluster.children()]
    session = cluster.silent_client(wait_for_child=False)
    session.client.send_startup({"user": "postgres", "database": "postgres"})
    probe = IdleProbe(cluster.pid)
    cluster.wait_for("the postmaster to be idle", probe.is_idle)
    if not session.is_silent() or [kid.key for kid in cluster.children()] != before:
        raise cluster.watcher.failure(
            "a new client gets no answer in PM_WAIT_DEAD_END",
            "an answer, or a child that was forked for it",
        )


# After all children are continued.


def _expect_finale(cell: FrozenCell, state: State, expected: Expected, then: Excerpt) -> None:
    cluster = cell.cluster
    finale = expected.finale
    if finale is None:
        # A finding, which has a scenario of its own: the server need not end.
        return
    lines: Sequence[Line] = in_version([*expected.lines, *finale.lines], cluster.major)
    if finale.exit_code is None:
        _expect_life(cell, state, finale, then, lines)
        return
    cluster.expect_exit(code=finale.exit_code, within=deadlines.SHUTDOWN_LIMIT)
    found = _lines_of(cell, expected, then)
    if not same_lines(found, lines):
        raise cluster.watcher.failure(f"exactly the lines {[str(x) for x in lines]}", str(found))
    if cluster.pid_file() is not None:
        raise cluster.watcher.failure("no postmaster.pid after the exit", "it exists")


def _expect_life(
    cell: FrozenCell,
    state: State,
    finale: Finale,
    then: Excerpt,
    lines: Sequence[Line],
) -> None:
    """The server stays up, and has written exactly these lines."""
    cluster = cell.cluster

    def as_expected() -> bool:
        found = then.exact_lines(cell.names)
        if state.is_standby and finale.lines:
            return same_lines(found[: len(lines)], lines)
        return same_lines(found, lines)

    cluster.wait_for(
        f"exactly the lines {[str(line) for line in lines]}",
        as_expected,
        deadlines.CRASH_RESTART_LIMIT,
        describe=lambda: str(then.exact_lines(cell.names)),
    )
    if state.is_standby:
        return
    (then if finale.lines else cluster.all_log()).expect_ready()
    cluster.expect_service()


def _expect_control_state(cluster: Cluster, wanted: ControlState) -> None:
    found = cluster.controldata_state()
    if found is not wanted:
        raise cluster.watcher.failure(f"control state {wanted.value!r}", repr(found.value))


# Texts.


def _count(children: dict[Kind, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(children.items(), key=_by_name))


def _by_name(item: tuple[Kind, int]) -> str:
    return item[0].value


def _words(sent: SignalsByKind) -> str:
    return str({str(kind): sorted(numbers) for kind, numbers in sent.items()})
