"""Plays one trace on one cluster, iteration by iteration. Begin with play().

Its verdicts: Expectation (the model forbids what the server did), Inconclusive (the server took
another way that the model allows, or could not be brought to follow), or the account of a trace
that was followed to its end.
"""

import contextlib
import time

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation, Inconclusive
from pglife_conformance.base.ids import Pid
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome, ServerError
from pglife_conformance.events import IMMEDIATE
from pglife_conformance.expect.excerpt import Excerpt
from pglife_conformance.expect.lines import SIGKILL_ROUND
from pglife_conformance.monitor.judge import Impossible, Monitor
from pglife_conformance.monitor.steps import TooManyCandidates
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.processes import RunState, read_stat
from pglife_conformance.play.evidence import Expected
from pglife_conformance.play.force import force
from pglife_conformance.play.held import HeldServer
from pglife_conformance.play.plan import ForcedStep, Plan, PlannedIteration, make_plan
from pglife_conformance.play.script import Script
from pglife_spec import REPAIR_NAMES, Action, Kind, Schedule, Value, actions, among, view_of
from pglife_spec import schedule as schedule_of_postmaster

IDLE_S = 2.0
"""How long nothing may move until a server that is not as expected has taken another way."""


def play(script: Script, cluster: Cluster) -> list[str]:
    """Play a trace on a cluster that was never started; returns the account.

    Raises:
        Expectation: if the server does what the model forbids.
        Inconclusive: if the server deviates in an allowed way, or a step cannot be forced.
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
        self.server = HeldServer(cluster)
        self.monitor = Monitor(self._repairs)
        self.at = "the start"
        self.current: PlannedIteration | None = None

    def _repairs(self) -> list[str]:
        return [name for name in REPAIR_NAMES if self.cluster.target.has_repair(name)]

    # The course of the trace.

    def prepare(self) -> None:
        """Make the data directory as in the trace's first state."""
        if not view_of(self.program).was_shut_down(self.plan.initial):
            self.cluster.start()
            with self.cluster.session() as session, contextlib.suppress(ServerError):
                # Something to redo: only in redo does a startup process look at SIGTERM.
                session.query("create table pglife_something_to_redo ()")
            self.cluster.request_shutdown(IMMEDIATE)
            self.cluster.expect_exit(code=0)
        self.cluster.record(self.monitor)

    def perform(self) -> None:
        """All iterations, then the forced steps after the last."""
        for planned in self.plan.iterations:
            self._force(planned.forced)
            self._iterate(planned)
        self._force(self.plan.last_forced)
        obstacle = self.plan.obstacle
        if obstacle is not None:
            raise Inconclusive(
                self._step(obstacle.index, obstacle.action),
                f"played and explained up to there; then it cannot be done: {obstacle.reason}",
            )
        if self.plan.other_end:
            raise Inconclusive(
                f"the last state of {self.script.name}",
                f"a postmaster that is continued ends otherwise: {'; '.join(self.plan.other_end)}",
            )
        loop = self.script.trace.loop
        if loop is not None and loop == len(self.script.trace):
            self._expect_idle_for_ever()

    def _force(self, forced: tuple[ForcedStep, ...]) -> None:
        for step in forced:
            self.at = self._step(step.index, step.action)
            try:
                force(self.server, step.action)
            except Inconclusive as problem:
                raise self._other_way(problem.expected, problem.observed) from None
            except Expectation as problem:
                self._judge()
                raise self._other_way(problem.expected, problem.observed) from None

    def _iterate(self, planned: PlannedIteration) -> None:
        self.at, self.current = self._step(planned.index, planned.action), planned
        server, then = self.server, self.cluster.since()
        server.stop_kinds(planned.stopped)
        forks_startup = Kind.STARTUP in planned.steps.forked
        if forks_startup:
            server.block_startup()
        if planned is self.plan.iterations[0]:
            self.cluster.start(wait=False)
        server.continue_postmaster()
        if planned.client is not None:
            self._connect(planned.client)
        expected = Expected.of(self.program, planned)
        self._wait(expected, then, needs_timer=planned.needs_timer)
        if forks_startup and not server.has_exited():
            server.wait_for_blocked_startup(then)
        server.note_refused()
        self._wait_until_idle()
        server.stop_postmaster()
        self._judge()
        self._compare(planned.steps.after)

    def _connect(self, client: Action) -> None:
        is_admitted = among(client, actions.admit_client)
        session = self.server.connect(is_admitted=is_admitted)
        if is_admitted and session.outcome is not Outcome.ADMITTED:
            answer = session.refusal if session.refusal is not None else session.outcome.value
            self._judge()
            raise self._other_way("a client is admitted", str(answer))

    # Waiting.

    def _wait(self, expected: Expected, then: Excerpt, *, needs_timer: bool) -> None:
        """Until everything expected is seen, or something else and nothing moves any more."""
        limit = deadlines.START_LIMIT + (deadlines.SIGKILL_LATEST if needs_timer else 0)
        still = _Stillness(self.cluster)
        patience = deadlines.SIGKILL_LATEST if needs_timer else IDLE_S

        def over() -> bool:
            if not expected.differences(self.cluster, then):
                return True
            return still.seconds() >= patience * self.cluster.scale

        with contextlib.suppress(Expectation):
            self.cluster.wait_for("the end of an iteration", over, limit)
        different = expected.differences(self.cluster, then)
        if different:
            self._judge()
            late = not needs_timer and then.find_log(f"^{SIGKILL_ROUND}$")
            raise self._other_way(
                "; ".join(wanted for wanted, _ in different),
                "; ".join(found for _, found in different)
                + (" (its five seconds were over before the trace was)" if late else ""),
            )

    def _wait_until_idle(self) -> None:
        """The postmaster must not be stopped in the middle of something."""
        if self.server.has_exited():
            return
        probe = IdleProbe(self.cluster.pid)
        self.cluster.wait_for("the postmaster to be idle", probe.is_idle)

    def _expect_idle_for_ever(self) -> None:
        """The trace says that nothing moves any more, although no process is stopped."""
        self.at = "idle for ever"
        self.server.continue_all()
        self.server.unblock_startup()
        self.server.continue_postmaster()
        expected = self._settled()
        still = _Stillness(self.cluster)

        def over() -> bool:
            return self.server.has_exited() or still.seconds() >= IDLE_S * self.cluster.scale

        self.cluster.wait_for("an idle server", over, deadlines.SHUTDOWN_LIMIT)
        self._judge()
        if self.server.has_exited():
            code = self.cluster.watcher.look().exit_code
            raise self._other_way("a postmaster that never exits", f"exit {code}")
        self._compare(expected)

    def _settled(self) -> int:
        """The model's state when all remaining children have obeyed their orders."""
        return Schedule(self.program).run(self.plan.last, free=set(Kind) - {Kind.STARTUP}).after

    # Judging.

    def _judge(self) -> None:
        self.cluster.watcher.look()
        self.monitor.judge()
        if self.monitor.open_because is not None:
            raise self._other_way("a server that the monitor can follow", self.monitor.open_because)

    def _compare(self, state: int) -> None:
        """The planned state must look like one of the monitor's candidates."""
        try:
            program, states = self.monitor.explanations()
        except TooManyCandidates:
            raise self._other_way("a few explanations", "too many to follow") from None
        wanted, view = view_of(self.program).outline(state), view_of(program)
        outlines = {view.outline(other) for other in states}
        if wanted not in outlines:
            near = min(outlines, key=lambda other: (_distance(wanted, other), str(other)))
            names = view.outline_names()
            rows = [row for row in zip(names, wanted, near, strict=True) if row[1] != row[2]]
            raise self._other_way(
                ", ".join(f"{name} {_plain(value)}" for name, value, _ in rows),
                "explained otherwise only: "
                + ", ".join(f"{name} {_plain(value)}" for name, _, value in rows),
            )

    # Texts.

    def _step(self, index: int, action: Action) -> str:
        return f"step {index} of {len(self.script.actions)} of {self.script.name}, {action.name}"

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
        """The repairs that the target declares and that change this iteration."""
        planned = self.current
        if planned is None:
            return []
        return [
            name for name in self._repairs() if self._changes(planned, {f"repair.{name}": True})
        ]

    def _changes(self, planned: PlannedIteration, params: dict[str, Value]) -> bool:
        schedule = Schedule(self.script.program_with(params))
        timer = schedule_of_postmaster.TIMER if planned.needs_timer else None
        first = planned.client or timer
        return schedule.run(planned.before, first=first, free=planned.free) != planned.steps

    def failure(self, observed: str) -> Expectation:
        """What the model forbids, and where in the trace it happened."""
        return self.cluster.watcher.failure(
            f"{self.at}: something that the model of this target allows", observed
        )

    def account(self) -> list[str]:
        """How the trace was followed, in words."""
        iterations = len(self.plan.iterations)
        first = (
            f"all {len(self.script.actions)} steps played in {iterations} iterations of the "
            "postmaster's loop, explained by the model at each"
        )
        loop = self.script.trace.loop
        if loop == len(self.script.trace):
            first += "; at the end nothing moves any more, as the trace says"
        elif loop is not None:
            first += f"; its round from step {loop} on was played once"
        return [first, *self.plan.notes]


class _Stillness:
    """How long nothing has moved: no line, no child, no process awake."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._last: object = None
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Seconds since something moved."""
        seen = self._cluster.watcher.last
        assert seen is not None
        kids = tuple((kid.key, kid.title, kid.state) for kid in seen.kids)
        now_seen = (kids, len(self._cluster.watcher.log.records), seen.pid_file, seen.exit_code)
        is_awake = not _sleeps(self._cluster.pid) or any(
            kid.state is RunState.RUNNING and not _sleeps(kid.pid) for kid in seen.kids
        )
        now = time.monotonic()
        if now_seen != self._last or is_awake:
            self._last, self._since = now_seen, now
        return now - self._since


def _sleeps(pid: Pid) -> bool:
    stat = read_stat(pid)
    return stat is None or stat.state not in "RD"


def _distance(one: tuple[Value, ...], other: tuple[Value, ...]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _plain(value: object) -> str:
    return str(getattr(value, "name", value))
