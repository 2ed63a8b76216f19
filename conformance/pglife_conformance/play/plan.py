"""How a server can be brought to play a trace: turns of the postmaster, deeds of the player.

Begin with   make_plan().
Owns         the order in which a trace is played, and what cannot be brought about from outside.
Leaves out   doing it (player.py, deeds.py), how the postmaster behaves in a turn (eager.py).
Source       issue 2, item 7; DESIGN section 4 (Pins).

The player holds the postmaster with SIGSTOP. It makes the steps of the environment and lets
children make theirs (deeds); then it lets the postmaster go, which handles all that is pending
and launches whoever is missing (a turn), and holds it again. So of a trace's steps some come a
little earlier or later than they are written, and a real postmaster takes steps which the trace
leaves out. Several ways of playing are tried on the model; each must take every step of the trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pglife_conformance.play.eager import CLOCK, Eager, Steps, held_kinds
from pglife_conformance.play.script import Script
from pglife_spec.lang.machine import Action, Actor
from pglife_spec.meanings.pack import label
from pglife_spec.meanings.python.program import Program
from pglife_spec.postgres.state import (
    CONNS_ALLOWED,
    CONTROL,
    EXIT,
    FATAL_ERROR,
    LIFE,
    PID_FILE,
    RECOVERED,
    REDO,
    SHUTDOWN,
    STATE,
)
from pglife_spec.postgres.words import Control, Exit, Kind, Life

ADMISSIONS = frozenset({"admit_client", "refuse_client", "client_meets_fork_failure"})
LAST_CLIENT = "serve_last_client"
_LOGGER_ENDS = "child_crashes(logger)"
"""Of all children it alone ends after the postmaster, by itself (LG-03)."""
_POSTMASTER = (STATE, SHUTDOWN, FATAL_ERROR, CONNS_ALLOWED, EXIT, PID_FILE)
_REQUESTS = frozenset({"operator_requests_shutdown", "operator_requests_reload"})


@dataclass(frozen=True)
class Deed:
    """Something that the player does while the postmaster is held.

    Args:
        index: the step of the trace, counted from 1.
        action: its name.
        does: the steps of the model that it amounts to.
    """

    index: int
    action: str
    does: tuple[str, ...]


@dataclass(frozen=True)
class Turn:
    """One time that the postmaster is let go.

    Args:
        index: the step of the trace that it is for.
        action: that step's name.
        deeds: done before.
        before: the state when it is let go.
        steps: what it does, in the model.
        client: a client's action that comes with it.
        needs_clock: whether it waits for the five seconds.
        hold: kinds of children that must be held before.
        free: kinds of children that nobody holds, whatever they are told.
    """

    index: int
    action: str
    deeds: tuple[Deed, ...]
    before: int
    steps: Steps
    client: str | None = None
    needs_clock: bool = False
    hold: frozenset[str] = frozenset()
    free: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Obstacle:
    """Why a trace cannot be played further than to this step."""

    index: int
    action: str
    reason: str
    place: int
    """How many steps were taken before."""

    def __str__(self) -> str:
        return f"step {self.index}, {self.action}: {self.reason}"


@dataclass
class Plan:
    """One way to play a trace.

    Args:
        initial: the model's state before the start.
        turns: in order; the first begins with the start.
        last_deeds: done after the last turn.
        last: the state at the end.
        notes: how this way differs from what is written, in words.
        obstacle: why it ends early; None if every step of the trace is taken.
    """

    initial: int
    turns: list[Turn] = field(default_factory=list)
    last_deeds: tuple[Deed, ...] = ()
    last: int = 0
    notes: list[str] = field(default_factory=list)
    obstacle: Obstacle | None = None
    unasked: list[str] = field(default_factory=list)
    """Steps that the server takes and the trace does not."""
    other_end: list[str] = field(default_factory=list)
    """In what the postmaster ends otherwise than in the trace."""


@dataclass(frozen=True)
class Line:
    """A step as it is to be played: its place in the trace, its name, the name it is played by."""

    index: int
    action: str
    played: str


class _Stuck(Exception):
    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(str(obstacle))
        self.obstacle = obstacle


def make_plan(script: Script) -> Plan:
    """The way that takes most steps of the trace, then ends most like it, then adds least."""
    written = script.state(0)
    initials = [written, *(s for s in script.program.initial if s != written)]
    plans: list[Plan] = []
    for initial in initials:
        for lines, notes in _ways(script):
            plan = _Planner(script, initial, lines).plan()
            if initial != written:
                clean = script.program.predicate(CONTROL == Control.SHUT_DOWN)(initial)
                plan.notes.append(f"begun after {'a clean' if clean else 'an unclean'} end")
            plan.notes += notes
            plans.append(plan)
    return min(plans, key=_badness)


def _badness(plan: Plan) -> tuple[float, int, int]:
    missed = -plan.obstacle.place if plan.obstacle is not None else -float("inf")
    return missed, len(plan.other_end), len(plan.unasked)


def end_differs(script: Script, last: int) -> list[str]:
    """In what the postmaster ends otherwise than in the trace's last state."""
    program = script.program
    there, here = program.unpack(script.state(len(script.actions))), program.unpack(last)
    return [
        f"{var.name} is {label(here[var.name])} and not {label(there[var.name])}"
        for var in _POSTMASTER
        if there[var.name] != here[var.name]
    ]


def _ways(script: Script) -> Iterator[tuple[list[Line], list[str]]]:
    """As written; with requests as late as may be; with every step of others as late as may be."""
    names, notes = _without_failures(script)
    lines = [Line(i, a, p) for i, (a, p) in enumerate(zip(script.actions, names, strict=True), 1)]
    yield lines, notes
    for families in (_REQUESTS, None):
        later = _moved_later(script, lines, families)
        if later != lines:
            yield later, notes


def _without_failures(script: Script) -> tuple[list[str], list[str]]:
    """A startup process cannot be made to give up with exit code 1, but it can be killed."""
    names, notes = list(script.actions), []
    for place, name in enumerate(script.actions):
        if name != "startup_fails":
            continue
        changed = list(names)
        changed[place] = "child_crashes(startup)"
        for later in range(place + 1, len(names)):
            if names[later] == "reap_startup(exited_1)":
                changed[later] = "reap_startup(crashed)"
                break
        if _ends_alike(script, names, changed):
            names = changed
            notes.append(f"step {place + 1}, startup_fails, played by killing it: the same to all")
    return names, notes


def _ends_alike(script: Script, names: Sequence[str], others: Sequence[str]) -> bool:
    ends = [_walk(script.program, script.state(0), way) for way in (names, others)]
    return ends[0] == ends[1] and ends[0] is not None


def _walk(program: Program, state: int, names: Sequence[str]) -> int | None:
    for name in names:
        state = program.step(name, state)
        if state < 0:
            return None
    return state


def _moved_later(
    script: Script, lines: Sequence[Line], families: frozenset[str] | None
) -> list[Line]:
    """Steps of others behind all steps of the postmaster that are the same without them."""
    program, now = script.program, list(lines)
    machine = program.machine
    for place in reversed(range(len(now))):
        action = machine.action(now[place].played)
        if action.actor is Actor.POSTMASTER or (families and action.family not in families):
            continue
        at = place
        while at + 1 < len(now):
            swapped = [*now[:at], now[at + 1], now[at], *now[at + 2 :]]
            front = [line.played for line in now[: at + 2]]
            back = [line.played for line in swapped[: at + 2]]
            if not _ends_alike(script, front, back):
                break
            now, at = swapped, at + 1
    return now


class _Planner:
    """Plays the lines on the model, with a postmaster that does everything at once."""

    def __init__(self, script: Script, initial: int, lines: Sequence[Line]) -> None:
        self.script = script
        self.program = script.program
        self.eager = Eager(script.program, script.version)
        self.lines = lines
        self.made = Plan(initial)
        self.state = initial
        self.place = 0
        self.deeds: list[Deed] = []
        self.done: Counter[str] = Counter()
        """Steps taken that the trace has not come to yet."""
        self._redo = self.program.predicate(REDO)
        self._is_alive = self.program.predicate(EXIT == Exit.ALIVE)
        self._quitting = self.program.predicate(LIFE[Kind.STARTUP] == Life.QUITTING)
        self._recovered = self.program.predicate(RECOVERED)
        self._clean = self.program.predicate(CONTROL == Control.SHUT_DOWN)

    def plan(self) -> Plan:
        """The plan for these lines, with its obstacle if there is one."""
        try:
            for place, line in enumerate(self.lines):
                self.place = place
                self._take(line)
        except _Stuck as stuck:
            self.made.obstacle = stuck.obstacle
        if self.made.obstacle is None:
            if end_differs(self.script, self.state) and not self._is_at_rest():
                self._turn(self.lines[-1])
            self.made.unasked = list(self.done.elements())
            self.made.other_end = end_differs(self.script, self.state)
            if self.made.unasked:
                self.made.notes.append(f"besides, as servers do: {', '.join(self.made.unasked)}")
        self.made.last_deeds = tuple(self.deeds)
        self.made.last = self.state
        return self.made

    def _is_at_rest(self) -> bool:
        return not self.deeds and self.eager.is_idle(self.state)

    def _take(self, line: Line) -> None:
        name = line.played
        action = self.program.machine.action(name)
        if self.done[name] > 0:
            self.done[name] -= 1
        elif action.actor is Actor.POSTMASTER:
            self._postmaster(line)
        elif action.family in ADMISSIONS:
            self._client(line)
        elif action.family == LAST_CLIENT:
            raise self._stuck(line, "it was not noticed before PM_WAIT_DEAD_END was entered")
        else:
            self._deed(line, action)

    def _postmaster(self, line: Line) -> None:
        if line.played == CLOCK:
            self._clock(line)
            return
        self._turn(line)
        if self.done[line.played] == 0:
            why = self.program.why_not(line.played, self.state)
            raise self._stuck(line, f"a postmaster that is let go does not do it: {why}")
        self.done[line.played] -= 1

    def _clock(self, line: Line) -> None:
        if not self.eager.is_idle(self.state):
            self._turn(line)
        why = self.program.why_not(CLOCK, self.state)
        if why is not None:
            raise self._stuck(line, f"the clock does not run here: {why}")
        self._turn(line, first=CLOCK)
        self.done[CLOCK] -= 1

    def _client(self, line: Line) -> None:
        if not self._is_at_rest():
            self._turn(line)
        why = self.program.why_not(line.played, self.state)
        if why is not None:
            raise self._stuck(line, f"a client that comes here does not meet with it: {why}")
        self._turn(line, first=line.played)
        self.done[line.played] -= 1

    def _turn(self, line: Line, first: str | None = None) -> None:
        extras = self._extras()
        steps = self.eager.run(self.state, first=first, free=extras)
        client = first if first is not None and first != CLOCK else None
        turn = Turn(
            line.index,
            line.action,
            tuple(self.deeds),
            self.state,
            steps,
            client,
            first == CLOCK,
            held_kinds(steps) - extras,
            extras,
        )
        self.made.turns.append(turn)
        self.done.update(steps.actions)
        self.deeds.clear()
        self.state = steps.after

    def _extras(self) -> frozenset[str]:
        """Kinds that were launched unasked and that the rest of the trace does not know: nobody
        holds them, and they do what they are told."""
        launched = {
            str(self.program.machine.action(name).choices.get("kind", ""))
            for name, number in self.done.items()
            if number > 0 and name.startswith("launch")
        }
        rest = [line.played for line in self.lines[self.place :]]
        return frozenset(
            kind.upper() for kind in launched if kind and not any(f"({kind}" in n for n in rest)
        )

    def _deed(self, line: Line, action: Action) -> None:
        if not self._is_alive(self.state) and line.played != _LOGGER_ENDS:
            raise self._stuck(line, "the postmaster has ended")
        does = self._realised(line, action)
        after = _walk(self.program, self.state, does)
        if after is None and not self._is_at_rest():
            self._turn(line)
            does = self._realised(line, action)
            after = _walk(self.program, self.state, does)
        if after is None:
            stopped = next(n for n in does if self.program.step(n, self.state) < 0)
            why = self.program.why_not(stopped, self.state)
            raise self._stuck(line, f"it has become impossible: {why}")
        self.state = after
        self.deeds.append(Deed(line.index, line.played, tuple(does)))
        self.done.update(does)
        self.done[line.played] -= 1

    def _realised(self, line: Line, action: Action) -> list[str]:
        """What happens in the model if the player brings this about."""
        state = self.state
        match action.family:
            case "startup_fails":
                raise self._stuck(line, "nobody outside can make it give up with exit code 1")
            case "processes_become_scarce":
                raise self._stuck(line, "no limit lets all forks but one succeed")
            case "fork_begins_to_fail" | "fork_works_again" if not self.made.turns:
                raise self._stuck(line, "the limit is set on a postmaster that is there")
            case "recovery_ends":
                if self._quitting(state):
                    raise self._stuck(line, "one that was sent SIGQUIT quits when it is let go")
                # Nothing holds it between its last entry in the control file and its end.
                return [action.name, "startup_finishes"]
            case "startup_ends_when_told":
                return self._startup_told(line, action)
            case "shutdown_checkpoint_begins":
                return [action.name, "shutdown_checkpoint_ends"]
            case "shutdown_checkpoint_ends":
                begins = "shutdown_checkpoint_begins"
                first = [begins] if self.program.step(begins, state) >= 0 else []
                return [*first, action.name]
            case _:
                return [action.name]

    def _startup_told(self, line: Line, action: Action) -> list[str]:
        """It looks at SIGTERM in redo only."""
        if self._redo(self.state) or self._recovered(self.state):
            raise self._stuck(line, "after redo it waits for a checkpoint and heeds no SIGTERM")
        if self._clean(self.state):
            raise self._stuck(line, "without redo it ends with 0 before it looks at SIGTERM")
        return ["startup_begins_redo", action.name]

    def _stuck(self, line: Line, reason: str) -> _Stuck:
        return _Stuck(Obstacle(line.index, line.action, reason, self.place))
