"""Playing: one trace on one cluster, turn by turn, and what is to be said of it.

Begin with   play().
Owns         the course of a performance and its verdicts: Impossible (the model forbids what the
             server did), Inconclusive (the server took another way, or could not be brought to
             it), or the account of a trace that was followed to its end.
Leaves out   pytest (scenarios/traces/test_traces.py).
Source       issue 2, item 7; DESIGN section 4.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation, Inconclusive
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome, ServerError
from pglife_conformance.events import IMMEDIATE
from pglife_conformance.expect.crash import SIGKILL_ROUND
from pglife_conformance.monitor.judge import Impossible, Monitor
from pglife_conformance.monitor.steps import TooMany
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.processes import RunState, read_stat
from pglife_conformance.play.eager import CLOCK, Eager
from pglife_conformance.play.evidence import Expected
from pglife_conformance.play.plan import Deed, Plan, Turn, make_plan
from pglife_conformance.play.script import Script
from pglife_conformance.play.stage import Stage
from pglife_conformance.play.stimuli import do
from pglife_spec.lang.expr import Value
from pglife_spec.meanings.python.program import Program
from pglife_spec.postgres.state import (
    CONNS_ALLOWED,
    CONTROL,
    EXIT,
    FATAL_ERROR,
    PID_FILE,
    REPAIRS,
    SHUTDOWN,
    STATE,
    none_recorded,
    number,
)
from pglife_spec.postgres.words import SINGLETONS, Control, Kind

REST_S = 2.0
"""How long nothing may move until a server that is not where it should be has gone another way."""

_SEEN = (STATE, SHUTDOWN, FATAL_ERROR, CONNS_ALLOWED, EXIT, PID_FILE)


def play(script: Script, cluster: Cluster) -> list[str]:
    """Play a trace on a cluster that was never started; what is to be told of it.

    Raises:
        Expectation: if the server does what the model forbids.
        Inconclusive: if it takes another way, which the model allows, or cannot be brought on.
    """
    plan = make_plan(script)
    player = _Player(script, cluster, plan)
    try:
        player.prepare()
        player.perform()
    except Impossible as problem:
        raise player.failure(str(problem)) from None
    return player.account()


class _Player:
    def __init__(self, script: Script, cluster: Cluster, plan: Plan) -> None:
        self.script = script
        self.program = script.program
        self.cluster = cluster
        self.plan = plan
        self.stage = Stage(cluster)
        self.monitor = Monitor(self._repairs)
        self.at = "the start"
        self.turn: Turn | None = None
        self._vector = _vector(self.program)

    def _repairs(self) -> list[str]:
        names = (param.name.removeprefix("repair.") for param in REPAIRS)
        return [name for name in names if self.cluster.target.has_repair(name)]

    # The course of it.

    def prepare(self) -> None:
        """The data as the trace's first state has them."""
        clean = self.program.predicate(CONTROL == Control.SHUT_DOWN)
        if not clean(self.plan.initial):
            self.cluster.start()
            with self.cluster.session() as session, contextlib.suppress(ServerError):
                # Something to redo: only in redo does a startup process look at SIGTERM.
                session.query("create table pglife_something_to_redo ()")
            self.cluster.request_shutdown(IMMEDIATE)
            self.cluster.expect_exit(code=0)
        self.cluster.record(self.monitor)

    def perform(self) -> None:
        """All turns, then what comes after the last."""
        for turn in self.plan.turns:
            self._deeds(turn.deeds)
            self._turn(turn)
        self._deeds(self.plan.last_deeds)
        obstacle = self.plan.obstacle
        if obstacle is not None:
            raise Inconclusive(
                self._step(obstacle.index, obstacle.action),
                f"played and explained up to there; then it cannot be done: {obstacle.reason}",
            )
        if self.plan.other_end:
            raise Inconclusive(
                f"the last state of {self.script.name}",
                f"a postmaster that is let go ends otherwise: {'; '.join(self.plan.other_end)}",
            )
        loop = self.script.trace.loop
        if loop is not None and loop == len(self.script.trace):
            self._rest_for_ever()

    def _deeds(self, deeds: tuple[Deed, ...]) -> None:
        for deed in deeds:
            self.at = self._step(deed.index, deed.action)
            action = self.program.machine.action(deed.action)
            try:
                do(self.stage, deed, action)
            except Inconclusive as problem:
                raise self._other_way(problem.expected, problem.observed) from None
            except Expectation as problem:
                self._judge()
                raise self._other_way(problem.expected, problem.observed) from None

    def _turn(self, turn: Turn) -> None:
        self.at, self.turn = self._step(turn.index, turn.action), turn
        stage, mark = self.stage, self.cluster.mark()
        stage.hold_kinds(turn.hold)
        forks_startup = "STARTUP" in turn.steps.forked
        if forks_startup:
            stage.close_gate()
        if turn is self.plan.turns[0]:
            self.cluster.start(wait=False)
        stage.release_postmaster()
        if turn.client is not None:
            self._client(turn)
        expected = Expected.of(
            self.program, turn, has_pmstates=self.cluster.target.version.major >= 18
        )
        self._wait(expected, mark, needs_clock=turn.needs_clock)
        if forks_startup and not stage.is_over():
            stage.wait_at_gate(mark)
        stage.note_refused()
        self._rest()
        stage.hold_postmaster()
        self._judge()
        self._compare(turn.steps.after)

    def _client(self, turn: Turn) -> None:
        is_admitted = turn.client == "admit_client"
        session = self.stage.client(is_admitted=is_admitted)
        if is_admitted and session.outcome is not Outcome.ADMITTED:
            told = session.refusal if session.refusal is not None else session.outcome.value
            self._judge()
            raise self._other_way("a client is admitted", str(told))

    # Waiting.

    def _wait(self, expected: Expected, mark: int, *, needs_clock: bool) -> None:
        """Until all that the turn leaves is seen, or something else and nothing moves any more."""
        limit = deadlines.START_LIMIT + (deadlines.SIGKILL_LATEST if needs_clock else 0)
        still = _Stillness(self.cluster)
        patience = deadlines.SIGKILL_LATEST if needs_clock else REST_S

        def over() -> bool:
            if not expected.differences(self.cluster, mark):
                return True
            return still.lasts() >= patience * self.cluster.scale

        with contextlib.suppress(Expectation):
            self.cluster.wait_for("the end of a turn", over, limit)
        different = expected.differences(self.cluster, mark)
        if different:
            self._judge()
            late = not needs_clock and self.cluster.find_log(f"^{SIGKILL_ROUND}$", since=mark)
            raise self._other_way(
                "; ".join(wanted for wanted, _ in different),
                "; ".join(found for _, found in different)
                + (" (its five seconds were over before the trace was)" if late else ""),
            )

    def _rest(self) -> None:
        """Until the postmaster sleeps, so that it is not held in the middle of something."""
        if self.stage.is_over():
            return
        rest = IdleProbe(self.cluster.pid)
        self.cluster.wait_for("the postmaster to rest", rest.is_idle)

    def _rest_for_ever(self) -> None:
        """The trace says that nothing moves any more, although nobody is held."""
        self.at = "at rest for ever"
        self.stage.let_go_of_all()
        self.stage.open_gate()
        self.stage.release_postmaster()
        expected = self._settled()
        still = _Stillness(self.cluster)

        def over() -> bool:
            return self.stage.is_over() or still.lasts() >= REST_S * self.cluster.scale

        self.cluster.wait_for("a server at rest", over, deadlines.SHUTDOWN_LIMIT)
        self._judge()
        if self.stage.is_over():
            code = self.cluster.watcher.look().exit_code
            raise self._other_way("a postmaster that never ends", f"exit {code}")
        self._compare(expected)

    def _settled(self) -> int:
        """Where the model comes to rest if all who are left do what they were told."""
        eager = Eager(self.program, self.script.version)
        everybody = frozenset(kind.name for kind in Kind) - {Kind.STARTUP.name}
        return eager.run(self.plan.last, free=everybody).after

    # Judging.

    def _judge(self) -> None:
        self.cluster.watcher.look()
        self.monitor.judge()
        if self.monitor.open_because is not None:
            raise self._other_way("a server that the monitor can follow", self.monitor.open_because)

    def _compare(self, state: int) -> None:
        """The state of the play must be among the monitor's candidates, as far as one can see."""
        try:
            program, states = self.monitor.explanations()
        except TooMany:
            raise self._other_way("a few explanations", "too many to follow") from None
        wanted, vector = self._vector(state), _vector(program)
        vectors = {vector(other) for other in states}
        if wanted not in vectors:
            near = min(vectors, key=lambda other: (_distance(wanted, other), str(other)))
            expected, explained = _unlike(wanted, near)
            raise self._other_way(expected, f"explained otherwise only: {explained}")

    # Telling.

    def _step(self, index: int, action: str) -> str:
        return f"step {index} of {len(self.script.actions)} of {self.script.name}, {action}"

    def _other_way(self, expected: str, observed: str) -> Inconclusive:
        allowed = "" if self.monitor.open_because else " (which the model of this target explains)"
        repairs = self._repairs_at_work()
        why = f"; by its repair {', '.join(repairs)}" if repairs else ""
        return Inconclusive(
            f"{self.at}: {expected}",
            f"another way: {observed}{allowed}{why}",
            self.cluster.watcher.evidence(),
        )

    def _repairs_at_work(self) -> list[str]:
        """The repairs that the target declares, and by which this turn goes otherwise."""
        turn = self.turn
        if turn is None:
            return []
        return [
            name for name in self._repairs() if self._goes_otherwise(turn, {f"repair.{name}": True})
        ]

    def _goes_otherwise(self, turn: Turn, params: dict[str, Value]) -> bool:
        eager = Eager(self.script.program_with(params), self.script.version)
        first = turn.client or (CLOCK if turn.needs_clock else None)
        return eager.run(turn.before, first=first, free=turn.free) != turn.steps

    def failure(self, told: str) -> Expectation:
        """What the model forbids, and where in the play it was."""
        return self.cluster.watcher.failure(
            f"{self.at}: something that the model of this target allows", told
        )

    def account(self) -> list[str]:
        """The play in words."""
        turns = len(self.plan.turns)
        first = (
            f"all {len(self.script.actions)} steps played in {turns} turns of the postmaster, "
            f"explained by the model at each"
        )
        loop = self.script.trace.loop
        if loop == len(self.script.trace):
            first += "; at the end nothing moves any more, as the trace says"
        elif loop is not None:
            first += f"; its round from step {loop} on was played once"
        return [first, *self.plan.notes]


class _Stillness:
    """How long nothing has moved: no line, no child, no sleeper woken."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._sight: object = None
        self._since = time.monotonic()

    def lasts(self) -> float:
        """Seconds."""
        seen = self._cluster.watcher.last
        assert seen is not None
        kids = tuple((kid.key, kid.title, kid.state) for kid in seen.kids)
        sight = (kids, len(self._cluster.watcher.log.records), seen.pid_file, seen.exit_code)
        awake = not _sleeps(self._cluster.pid) or any(
            kid.state is RunState.RUNNING and not _sleeps(kid.pid) for kid in seen.kids
        )
        now = time.monotonic()
        if sight != self._sight or awake:
            self._sight, self._since = sight, now
        return now - self._since


def _sleeps(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is None or stat.state not in "RD"


Vector = tuple[object, ...]


def _vector(program: Program) -> Callable[[int], Vector]:
    """What can be told of a state from outside."""
    variables = [program.evaluate(var) for var in _SEEN]
    there = [
        program.predicate(~none_recorded(kind))
        if kind in SINGLETONS
        else program.evaluate(number(kind))
        for kind in Kind
    ]

    def of(state: int) -> Vector:
        return tuple(f(state) for f in (*variables, *there))

    return of


def _distance(one: Vector, other: Vector) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _unlike(one: Vector, other: Vector) -> tuple[str, str]:
    """What differs, in words, on either side."""
    names = [*(var.name for var in _SEEN), *(f"number of {kind.value}s" for kind in Kind)]
    rows = [row for row in zip(names, one, other, strict=True) if row[1] != row[2]]
    left = [f"{name} {_plain(value)}" for name, value, _ in rows]
    right = [f"{name} {_plain(value)}" for name, _, value in rows]
    return ", ".join(left), ", ".join(right)


def _plain(value: object) -> str:
    return str(getattr(value, "name", value))
