"""How a server can be brought to follow a trace. Begin with make_plan().

The player stops the postmaster with SIGSTOP. It brings about steps of the environment and of
children (forced steps); then it continues the postmaster, which handles everything that is pending
and launches each missing child (one iteration of its event loop), and stops it again. So some steps
of a trace happen a little earlier or later than they are written, and a real postmaster takes steps
which the trace leaves out. Several orders are tried on the model; each must take every step of the
trace.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pglife_conformance.play.script import Script
from pglife_spec import (
    Action,
    Actor,
    Iteration,
    Kind,
    Life,
    Program,
    Schedule,
    actions,
    among,
    case_of,
    schedule,
    view_of,
)

_REQUESTS = (*actions.operator_requests_shutdown, *actions.operator_requests_reload)
_LOGGER_CRASHES = case_of(actions.child_crashes, kind=Kind.LOGGER)
"""Of all children the logger alone exits after the postmaster, by itself (LG-03)."""


@dataclass(frozen=True)
class ForcedStep:
    """A step that the player brings about while the postmaster is stopped.

    Args:
        index: the step's place in the trace, counted from 1.
        action: the step.
    """

    index: int
    action: Action


@dataclass(frozen=True)
class PlannedIteration:
    """One iteration of the postmaster's event loop, and what comes before it.

    Args:
        index: the place in the trace of the step that it is for.
        action: that step.
        forced: steps that are brought about before.
        before: the state when the postmaster is continued.
        steps: what it does, in the model.
        client: the action of a client that connects meanwhile.
        needs_timer: whether it waits for the five seconds of SL-05.
        stopped: kinds of children that must be stopped before.
        free: kinds of children that are never stopped and obey every order.
    """

    index: int
    action: Action
    forced: tuple[ForcedStep, ...]
    before: int
    steps: Iteration
    client: Action | None = None
    needs_timer: bool = False
    stopped: frozenset[Kind] = frozenset()
    free: frozenset[Kind] = frozenset()


@dataclass(frozen=True)
class Obstacle:
    """Why a trace cannot be played beyond this step."""

    index: int
    action: Action
    reason: str
    place: int
    """How many steps were taken before."""

    def __str__(self) -> str:
        return f"step {self.index}, {self.action.name}: {self.reason}"


@dataclass
class Plan:
    """One way to play a trace.

    Args:
        initial: the model's state before the start.
        iterations: in order; the first begins with the start.
        last_forced: steps that are brought about after the last iteration.
        last: the state at the end.
        notes: how this way differs from the trace, in words.
        obstacle: why it ends early; None if every step of the trace is taken.
    """

    initial: int
    iterations: list[PlannedIteration] = field(default_factory=list)
    last_forced: tuple[ForcedStep, ...] = ()
    last: int = 0
    notes: list[str] = field(default_factory=list)
    obstacle: Obstacle | None = None
    extra_steps: list[str] = field(default_factory=list)
    """Steps that the server takes and the trace does not."""
    other_end: list[str] = field(default_factory=list)
    """How the postmaster's last state differs from the trace's."""


@dataclass(frozen=True)
class TraceStep:
    """A step of the trace: its place, its action, and the action that is played for it."""

    index: int
    written: Action
    played: Action


class _Stuck(Exception):
    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(str(obstacle))
        self.obstacle = obstacle


def make_plan(script: Script) -> Plan:
    """The way that takes most steps of the trace, then ends most like it, then adds fewest."""
    written = script.state(0)
    initials = [written, *(s for s in script.program.initial if s != written)]
    plans: list[Plan] = []
    for initial in initials:
        for steps, notes in _ways(script):
            plan = _Planner(script, initial, steps).plan()
            if initial != written:
                was_clean = view_of(script.program).was_shut_down(initial)
                plan.notes.append(f"begun after {'a clean' if was_clean else 'an unclean'} end")
            plan.notes += notes
            plans.append(plan)
    return min(plans, key=_badness)


def _badness(plan: Plan) -> tuple[float, int, int]:
    missed = -plan.obstacle.place if plan.obstacle is not None else -float("inf")
    return missed, len(plan.other_end), len(plan.extra_steps)


def end_differs(script: Script, last: int) -> list[str]:
    """How this state of the postmaster differs from the trace's last one."""
    return view_of(script.program).differences(script.state(len(script.actions)), last)


def _ways(script: Script) -> Iterator[tuple[list[TraceStep], list[str]]]:
    """As written; with requests as late as possible; with all forced steps as late as possible."""
    played, notes = _without_failures(script)
    pairs = zip(script.actions, played, strict=True)
    steps = [TraceStep(index, *pair) for index, pair in enumerate(pairs, 1)]
    yield steps, notes
    for moved in (_REQUESTS, None):
        later = _moved_later(script, steps, moved)
        if later != steps:
            yield later, notes


def _without_failures(script: Script) -> tuple[list[Action], list[str]]:
    """A startup process cannot be made to exit with code 1, but it can be killed."""
    played, notes = list(script.actions), []
    exits_1 = case_of(actions.reap_startup, life=Life.EXITED_1)
    for place, action in enumerate(script.actions):
        if not among(action, actions.startup_fails):
            continue
        changed = list(played)
        changed[place] = case_of(actions.child_crashes, kind=Kind.STARTUP)
        for later in range(place + 1, len(played)):
            if played[later].name == exits_1.name:
                changed[later] = case_of(actions.reap_startup, life=Life.CRASHED)
                break
        if _ends_alike(script, played, changed):
            played = changed
            notes.append(f"step {place + 1}, {action.name}, played by killing it: the same to all")
    return played, notes


def _ends_alike(script: Script, one: Sequence[Action], other: Sequence[Action]) -> bool:
    first, second = (_walk(script.program, script.state(0), way) for way in (one, other))
    if first is None or second is None:
        return False
    return view_of(script.program).has_same_future(first, second)


def _walk(program: Program, state: int, way: Sequence[Action]) -> int | None:
    for action in way:
        state = program.step(action, state)
        if state < 0:
            return None
    return state


def _moved_later(
    script: Script, steps: Sequence[TraceStep], moved: Sequence[Action] | None
) -> list[TraceStep]:
    """Forced steps moved behind all steps of the postmaster that are the same without them."""
    now = list(steps)
    for place in reversed(range(len(now))):
        action = now[place].played
        if action.actor is Actor.POSTMASTER or (moved and not among(action, moved)):
            continue
        at = place
        while at + 1 < len(now):
            swapped = [*now[:at], now[at + 1], now[at], *now[at + 2 :]]
            front = [step.played for step in now[: at + 2]]
            back = [step.played for step in swapped[: at + 2]]
            if not _ends_alike(script, front, back):
                break
            now, at = swapped, at + 1
    return now


class _Planner:
    """Plays the steps on the model, with a postmaster that does everything at once."""

    def __init__(self, script: Script, initial: int, steps: Sequence[TraceStep]) -> None:
        self.script = script
        self.program = script.program
        self.view = view_of(script.program)
        self.schedule = Schedule(script.program)
        self.steps = steps
        self.made = Plan(initial)
        self.state = initial
        self.place = 0
        self.forced: list[ForcedStep] = []
        self.done: Counter[str] = Counter()
        """Steps taken, by name, that the trace has not come to yet."""

    def plan(self) -> Plan:
        """The plan for these steps, with its obstacle if there is one."""
        try:
            for place, step in enumerate(self.steps):
                self.place = place
                self._take(step)
        except _Stuck as stuck:
            self.made.obstacle = stuck.obstacle
        if self.made.obstacle is None:
            if end_differs(self.script, self.state) and not self._is_idle():
                self._iterate(self.steps[-1])
            self.made.extra_steps = list(self.done.elements())
            self.made.other_end = end_differs(self.script, self.state)
            if self.made.extra_steps:
                names = ", ".join(self.made.extra_steps)
                self.made.notes.append(f"the server also takes {names}")
        self.made.last_forced = tuple(self.forced)
        self.made.last = self.state
        return self.made

    def _is_idle(self) -> bool:
        return not self.forced and self.schedule.is_idle(self.state)

    def _take(self, step: TraceStep) -> None:
        action = step.played
        if self.done[action.name] > 0:
            self.done[action.name] -= 1
        elif action.name == schedule.TIMER.name:
            self._wait_for_timer(step)
        elif action.actor is Actor.POSTMASTER:
            self._postmaster(step)
        elif among(action, actions.ADMISSIONS):
            self._client(step)
        elif among(action, actions.accept_client_in_wait_dead_end):
            raise self._stuck(step, "it was not noticed before PM_WAIT_DEAD_END was entered")
        else:
            self._force(step)

    def _postmaster(self, step: TraceStep) -> None:
        self._iterate(step)
        if self.done[step.played.name] == 0:
            why = self.program.why_not(step.played, self.state)
            raise self._stuck(step, f"a postmaster that is continued does not do it: {why}")
        self.done[step.played.name] -= 1

    def _wait_for_timer(self, step: TraceStep) -> None:
        if not self.schedule.is_idle(self.state):
            self._iterate(step)
        why = self.program.why_not(step.played, self.state)
        if why is not None:
            raise self._stuck(step, f"the timer does not run here: {why}")
        self._iterate(step, first=step.played)
        self.done[step.played.name] -= 1

    def _client(self, step: TraceStep) -> None:
        if not self._is_idle():
            self._iterate(step)
        why = self.program.why_not(step.played, self.state)
        if why is not None:
            raise self._stuck(step, f"a client that connects here gets another answer: {why}")
        self._iterate(step, first=step.played)
        self.done[step.played.name] -= 1

    def _iterate(self, step: TraceStep, first: Action | None = None) -> None:
        free = self._free()
        steps = self.schedule.run(self.state, first=first, free=free)
        is_timer = first is not None and first.name == schedule.TIMER.name
        self.made.iterations.append(
            PlannedIteration(
                step.index,
                step.written,
                tuple(self.forced),
                self.state,
                steps,
                client=None if is_timer else first,
                needs_timer=is_timer,
                stopped=steps.to_stop - free,
                free=free,
            )
        )
        self.done.update(action.name for action in steps.actions)
        self.forced.clear()
        self.state = steps.after

    def _free(self) -> frozenset[Kind]:
        """Kinds that were launched without the trace, and that the rest of it does not name.

        They are not stopped, and obey every order.
        """
        launched = {
            str(action.choices["kind"])
            for action in (*actions.launch_background_process, *actions.launch_background_process)
            if self.done[action.name] > 0
        }
        named = {step.played.choices.get("kind") for step in self.steps[self.place :]}
        return frozenset(Kind[kind.upper()] for kind in launched - named)

    def _force(self, step: TraceStep) -> None:
        if not self.view.is_running(self.state) and step.played.name != _LOGGER_CRASHES.name:
            raise self._stuck(step, "the postmaster has exited")
        way = self._way(step)
        after = _walk(self.program, self.state, way)
        if after is None and not self._is_idle():
            self._iterate(step)
            way = self._way(step)
            after = _walk(self.program, self.state, way)
        if after is None:
            stopped = next(a for a in way if self.program.step(a, self.state) < 0)
            why = self.program.why_not(stopped, self.state)
            raise self._stuck(step, f"it has become impossible: {why}")
        self.state = after
        self.forced.append(ForcedStep(step.index, step.played))
        self.done.update(action.name for action in way)
        self.done[step.played.name] -= 1

    def _way(self, step: TraceStep) -> list[Action]:
        """What happens in the model if the player brings this step about."""
        action = step.played
        if among(action, actions.startup_fails):
            raise self._stuck(step, "a startup process cannot be made to exit with code 1")
        if among(action, actions.startup_fork_begins_to_fail):
            raise self._stuck(step, "no limit lets all forks but one succeed")
        if among(action, actions.fork_begins_to_fail, actions.fork_works_again):
            if not self.made.iterations:
                raise self._stuck(step, "the limit is set on a postmaster that is running")
        elif among(action, actions.startup_writes_control_file):
            return [action, *actions.startup_begins_redo]
        elif among(action, actions.startup_begins_redo):
            return [*self._write_of_recovery(), action]
        elif among(action, actions.startup_finishes_recovery):
            if self.view.startup_is_quitting(self.state):
                raise self._stuck(step, "one that was sent SIGQUIT quits when it is continued")
            # It cannot be stopped between its last entry in the control file and its exit.
            return [action, *actions.startup_exits]
        elif among(action, actions.startup_exits_at_sigterm):
            return self._startup_is_terminated(step)
        elif among(action, actions.checkpointer_begins_shutdown_checkpoint):
            return [action, *actions.checkpointer_finishes_shutdown_checkpoint]
        elif among(action, actions.checkpointer_finishes_shutdown_checkpoint):
            begins = actions.checkpointer_begins_shutdown_checkpoint
            is_first = self.program.step(case_of(begins), self.state) >= 0
            return [*begins, action] if is_first else [action]
        return [action]

    def _startup_is_terminated(self, step: TraceStep) -> list[Action]:
        """A startup process looks at SIGTERM in redo only."""
        if self.view.in_redo(self.state) or self.view.is_recovered(self.state):
            raise self._stuck(step, "after redo it waits for a checkpoint and ignores SIGTERM")
        if self.view.was_shut_down(self.state):
            raise self._stuck(step, "without redo it exits with 0 before it looks at SIGTERM")
        return [*self._write_of_recovery(), *actions.startup_begins_redo, step.played]

    def _write_of_recovery(self) -> list[Action]:
        """The startup process's entry in the control file, if it has not written it."""
        writes = actions.startup_writes_control_file
        return writes if self.program.step(case_of(writes), self.state) >= 0 else []

    def _stuck(self, step: TraceStep, reason: str) -> _Stuck:
        return _Stuck(Obstacle(step.index, step.written, reason, self.place))
