"""One cell of the matrix, played: enter, freeze, act, compare, let go, compare again.

Begin with   play().
Owns         what is compared: lines and steps of the postmaster, who is told what, who is there,
             the pid file, what a new client hears, the rest of the life, exit status, control file.
Leaves out   what it must be (rules.py, finale.py).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence

from pglife_conformance.base import deadlines
from pglife_conformance.base.deadlines import SIGKILL_TIMEOUT
from pglife_conformance.base.failures import Expectation, Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.base.overload import is_overloaded
from pglife_conformance.base.refusals import (
    CANNOT_CONNECT_NOW,
    IN_RECOVERY_MODE,
    SHUTTING_DOWN,
    STARTING_UP,
)
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.excerpt import Excerpt, Line, in_version, same_lines
from pglife_conformance.hold.frozen import Frozen
from pglife_conformance.matrix.events import Event
from pglife_conformance.matrix.finale import Finale, finale_of
from pglife_conformance.matrix.rules import OPEN, Level, Standing
from pglife_conformance.matrix.scene import Scene, Told
from pglife_conformance.matrix.states import RECOVERY, STARTUP_CRASH, State
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus

NOT_ACCEPTING = "the database system is not accepting connections"
_REPAIR = "startup_shutdown_after_crash_quits"
_CLOCK = "issuing SIGKILL to recalcitrant children"
_LAUNCHER_COMES_BACK_S = 5.0
"""BG-12: its restart interval."""
_LAUNCHER_ENDED = re.compile(
    r'background worker "logical replication launcher" \(PID \d+\) exited with exit code 1'
)


class TooSlow(Inconclusive):
    """The clock of SL-05 struck before the cell had been played."""


def play(cluster: Cluster, state: State, event: Event) -> None:
    """Play one cell; raises Expectation at the first difference.

    A cell that took so long that the clock of SL-05 struck was not played. A round that came
    sooner is a difference like any other: whole seconds are counted, so one less may do.
    """
    began = time.monotonic()
    try:
        _play(cluster, state, event)
    except Inconclusive:
        raise
    except Expectation as problem:
        was_slow = time.monotonic() - began >= SIGKILL_TIMEOUT - 1
        if was_slow and is_overloaded() and cluster.find_log(f"^{_CLOCK}$") is not None:
            raise TooSlow(
                "a cell played within the five seconds of SL-05", f"too slow; {problem.observed}"
            ) from problem
        raise


def _play(cluster: Cluster, state: State, event: Event) -> None:
    standing = state.standing(cluster.target.version.major)
    standing.quits_in_crash_startup = cluster.target.has_repair(_REPAIR)
    with state.enter(cluster) as held:
        cluster.wait_for(
            f"exactly these children in {state}: {_crew(standing)}",
            lambda: held.crew() == +standing.crew,
            describe=lambda: _crew_of(held.crew()),
        )
        with Frozen(cluster) as frozen:
            scene = Scene(held, frozen)
            _expect_already_told(scene, state, standing.major)
            then = cluster.since()
            event.by_rules(standing)
            scene.acted_at = time.monotonic()
            event.happen(scene)
            if standing.pm != "PM_NO_CHILDREN":
                _expect_held(scene, state, standing, then)
            cluster.release_everything()
    _expect_finale(scene, state, standing, then)
    if not cluster.is_running() and Need.CONTROL_FILE in cluster.target.capabilities:
        _expect_control_state(cluster, control_by_rules(state, event, standing))


# While everybody is stopped.


def _expect_already_told(scene: Scene, state: State, major: int) -> None:
    """The state was entered by telling those who hold it."""
    wanted = state.signals_before(major)
    scene.cluster.wait_for(
        f"in {state} already told: {_words(wanted)}",
        lambda: scene.signals_before() == wanted,
        describe=lambda: _words(scene.signals_before()),
    )


def _expect_held(scene: Scene, state: State, standing: Standing, then: Excerpt) -> None:
    cluster = scene.cluster
    lines = in_version(standing.lines, standing.major)
    told = _told_by_rules(standing, scene.signals_before())
    rest = IdleProbe(cluster.pid)

    def as_expected() -> bool:
        return (
            same_lines(then.exact_lines(scene.names), lines)
            and scene.told() == told
            and _crew_is_right(scene, standing)
            and rest.is_idle()
        )

    cluster.wait_for(
        f"lines {lines}; told {_words(told)}; children {_crew(standing)}",
        as_expected,
        describe=lambda: (
            f"lines {then.exact_lines(scene.names)}; told {_words(scene.told())}; "
            f"children {_crew_of(scene.held.crew())}"
        ),
    )
    _expect_pid_file(cluster, state, standing)
    _expect_doors(cluster, standing)


def _crew_is_right(scene: Scene, standing: Standing) -> bool:
    crew = scene.held.crew()
    return crew in (+standing.crew, standing.crew + _may_be_back(scene, standing))


def _may_be_back(scene: Scene, standing: Standing) -> Counter[Kind]:
    """BG-12: a launcher that ended by itself comes again, but no sooner than after five seconds."""
    launcher = Kind.LOGICAL_REPLICATION_LAUNCHER
    has_ended = standing.pm in OPEN and launcher in standing.crew and not standing.crew[launcher]
    is_time = time.monotonic() - scene.acted_at >= _LAUNCHER_COMES_BACK_S
    return Counter([launcher] if has_ended and is_time else [])


def _story_of(scene: Scene, standing: Standing, then: Excerpt) -> list[str]:
    """What the postmaster has told; the end of a launcher that may have come back is no matter."""
    told = then.exact_lines(scene.names)
    if _may_be_back(scene, standing):
        return [line for line in told if not _LAUNCHER_ENDED.fullmatch(line)]
    return told


def _told_by_rules(standing: Standing, already: Told) -> Told:
    found = {
        kind: frozenset(int(number) for number in numbers - kind.ignores)
        - already.get(kind, frozenset())
        for kind, numbers in standing.told.items()
        if standing.crew[kind] - standing.born[kind] > 0
    }
    return {kind: numbers for kind, numbers in found.items() if numbers}


def _expect_pid_file(cluster: Cluster, state: State, standing: Standing) -> None:
    """SH-02, SH-40, SH-41."""
    if standing.level > Level.NO:
        wanted = PidFileStatus.STOPPING
    elif (standing.pm == "PM_STARTUP" and not standing.fatal) or _began_in_startup(state):
        wanted = PidFileStatus.STARTING
    elif state is RECOVERY:
        wanted = PidFileStatus.STANDBY
    else:
        wanted = PidFileStatus.READY
    found = cluster.pid_file_status()
    if found is not wanted:
        raise cluster.watcher.failure(f"the pid file says {wanted}", f"{found}")


def _began_in_startup(state: State) -> bool:
    return state.pm == "PM_STARTUP" and not state.fatal


def refusal_by_rules(standing: Standing) -> str | None:
    """CN-01 to CN-05; None where a client is let in."""
    if standing.pm in OPEN:
        return SHUTTING_DOWN if standing.doors_closed else None
    if standing.level > Level.NO:
        return SHUTTING_DOWN
    if standing.pm == "PM_STARTUP" and not standing.fatal:
        return STARTING_UP
    if standing.pm == "PM_RECOVERY" and not standing.fatal:
        return NOT_ACCEPTING
    return IN_RECOVERY_MODE


def _expect_doors(cluster: Cluster, standing: Standing) -> None:
    """What a new client hears; whom nobody refuses needs a family that is not stopped."""
    wanted = refusal_by_rules(standing)
    if standing.pm == "PM_WAIT_DEAD_END":
        expect_no_answer(cluster)
        return
    if wanted is None:
        return
    refusal = cluster.refusal_of_new_client()
    if (refusal.severity, refusal.sqlstate, refusal.message) != (
        "FATAL",
        CANNOT_CONNECT_NOW,
        wanted,
    ):
        raise cluster.watcher.failure(f"a new client hears {wanted!r}", str(refusal))


def expect_no_answer(cluster: Cluster) -> None:
    """SE-33: one can connect, but nobody is forked and nothing is said."""
    before = [kid.key for kid in cluster.children()]
    session = cluster.silent_client(wait_for_child=False)
    session.client.send_startup({"user": "postgres", "database": "postgres"})
    rest = IdleProbe(cluster.pid)
    cluster.wait_for("the postmaster to rest", rest.is_idle)
    if not session.is_silent() or [kid.key for kid in cluster.children()] != before:
        raise cluster.watcher.failure(
            "a new client is left alone in PM_WAIT_DEAD_END",
            "it got an answer, or a child was forked for it",
        )


# After they have been let go.


def _expect_finale(scene: Scene, state: State, standing: Standing, then: Excerpt) -> None:
    cluster = scene.cluster
    is_asked = state is STARTUP_CRASH and Level.NO < standing.level < Level.IMMEDIATE
    if is_asked and not standing.quits_in_crash_startup:
        # Whether this ends by itself is told elsewhere: real releases have a defect here.
        return
    finale = finale_of(standing, is_standby=state.is_standby)
    lines: Sequence[Line] = in_version([*standing.lines, *finale.lines], standing.major)
    if finale.exit_code is None:
        _expect_life(scene, state, standing, finale, then, lines)
        return
    cluster.expect_exit(code=finale.exit_code, within=deadlines.SHUTDOWN_LIMIT)
    told = _story_of(scene, standing, then)
    if not same_lines(told, lines):
        raise cluster.watcher.failure(f"the whole story: {[str(x) for x in lines]}", str(told))
    if cluster.pid_file() is not None:
        raise cluster.watcher.failure("no postmaster.pid after the end", "it is there")


def _expect_life(
    scene: Scene,
    state: State,
    standing: Standing,
    finale: Finale,
    then: Excerpt,
    lines: Sequence[Line],
) -> None:
    """It lives on, and has told exactly this."""
    cluster = scene.cluster

    def as_expected() -> bool:
        told = then.exact_lines(scene.names)
        if state.is_standby and finale.lines:
            return same_lines(told[: len(lines)], lines)
        return same_lines(told, lines)

    cluster.wait_for(
        f"the whole story: {[str(line) for line in lines]}",
        as_expected,
        deadlines.CRASH_RESTART_LIMIT,
        describe=lambda: str(then.exact_lines(scene.names)),
    )
    if state.is_standby:
        return
    (then if finale.lines else cluster.all_log()).expect_ready()
    with cluster.session() as session:
        if session.query("select 1") != [("1",)]:
            raise cluster.watcher.failure("a new session works", "it does not")


def control_by_rules(state: State, event: Event, standing: Standing) -> ControlState:
    """SH-07, SH-13, SH-14; SG-11 for a checkpointer of 17 and before."""
    if not standing.fatal and standing.level < Level.IMMEDIATE:
        return ControlState.SHUT_DOWN_IN_RECOVERY if state.is_standby else ControlState.SHUT_DOWN
    if event.writes_shutdown_checkpoint(standing.major):
        return ControlState.SHUT_DOWN
    return state.control


def _expect_control_state(cluster: Cluster, wanted: ControlState) -> None:
    found = cluster.controldata_state()
    if found is not wanted:
        raise cluster.watcher.failure(f"control state {wanted.value!r}", repr(found.value))


# Words.


def _crew(standing: Standing) -> str:
    return _crew_of(+standing.crew)


def _crew_of(crew: dict[Kind, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(crew.items(), key=_by_name))


def _by_name(item: tuple[Kind, int]) -> str:
    return item[0].value


def _words(told: Told) -> str:
    return str({str(kind): sorted(numbers) for kind, numbers in told.items()})
