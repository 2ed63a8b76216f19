"""What the model expects in a cell: one iteration of its event loop while all children are stopped,
then its life when they are continued. Begin with expectation().
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from signal import Signals

from pglife_conformance.expect.excerpt import Line
from pglife_conformance.matrix.events import Event, ExitsOn, Kill, Reload, Request, death_by
from pglife_conformance.matrix.events import UnaskedShutdownCheckpoint as Unasked
from pglife_conformance.matrix.expected import (
    BY_RECOVERY,
    PRIMARY_STARTS,
    Expected,
    Finale,
)
from pglife_conformance.matrix.states import IO_WORKERS, State
from pglife_conformance.monitor.binding import Binding
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_spec import (
    PM,
    SINGLETONS,
    Action,
    Control,
    Evidence,
    Life,
    Program,
    Schedule,
    Shutdown,
    actions,
    among,
    case_of,
    held_state,
    outside,
    view_of,
)
from pglife_spec import Kind as ModelKind

MODEL = {kind: kind.model for kind in Kind if kind.model is not None} | {
    Kind.UNAUTHENTICATED: ModelKind.BACKEND,
    Kind.DEAD_END: ModelKind.DEAD_END_BACKEND,
}
_CONTINUED = (
    case_of(actions.child_exits_at_sigquit, kind=ModelKind.STARTUP),
    *actions.startup_writes_control_file,
    *actions.startup_begins_redo,
    *actions.startup_finishes_recovery,
    *actions.startup_exits,
    *actions.startup_exits_at_sigterm,
    *actions.dead_end_child_exits,
    *actions.client_disconnects,
)
"""What children do when they are continued and their clients leave, in this order."""
_MOST_ITERATIONS = 50
_SHUT_DOWN = (Control.SHUT_DOWN, Control.SHUT_DOWN_IN_RECOVERY)
_NOT_YET = "the database system is not yet accepting connections"
_OLD_NAMES = {PM.PM_WAIT_XLOG_SHUTDOWN: PM.PM_SHUTDOWN, PM.PM_WAIT_XLOG_ARCHIVAL: PM.PM_SHUTDOWN_2}
"""What 15 calls states that 18 has renamed."""
_LIVES = {
    "SIGTERM": Life.TERMINATING,
    "SIGQUIT": Life.QUITTING,
    "SIGINT": Life.CHECKPOINTING,
    "SIGUSR2": Life.TERMINATING,
}


def expectation(state: State, event: Event, major: int, repairs: Collection[str] = ()) -> Expected:
    """What must be seen when this event happens in this state.

    Args:
        state: where it happens.
        event: what happens.
        major: the server's major version; the model of 15 stands for those before 18.
        repairs: the repairs that the target declares.
    """
    program = _program(state, major, repairs)
    view = view_of(program)
    # The one event whose child is continued, and quits at once.
    free = {ModelKind.CHECKPOINTER} if isinstance(event, Unasked) else set()
    done = Schedule(program).run(_handed(program, state, event, major), free=free)
    rest, last = _rest_of_life(program, done.after)
    is_over = ("pmstate", "PM_WAIT_DEAD_END", "PM_NO_CHILDREN") in _lines(done.evidence, 18)
    admission = next((a for a in actions.ADMISSIONS if program.step(a, done.after) >= 0), None)
    exit_code, pid_file, end = view.exit_code(last), view.pid_file(done.after), view.control(last)
    forked = Counter(kind for model in done.forked for kind in MODEL if kind.model is model)
    seen = Expected(
        pm=PM.PM_NO_CHILDREN if is_over else view.pm_state(done.after),
        children=state.children_on_entry(major) + forked,
        lines=_texts(done.evidence, event, major),
        signals=_signals(done.evidence),
        forked=forked,
        pid_file=PidFileStatus.OTHER if pid_file is None else PidFileStatus(pid_file),
        accepts=admission is not None,
        control=ControlState(end.value) if end in _SHUT_DOWN else state.control,
    )
    if admission is not None:
        seen.refusal = outside.refusal(program.emissions(admission, done.after)[1])
        if seen.refusal == _NOT_YET and state.settings.get("hot_standby") == "off":
            # CN-03: the model does not say that it will never accept any.
            seen.refusal = _NOT_YET.replace("not yet", "not")
    if (death := death_by(event)) is not None:
        seen.children[death[0]] -= 1
    if exit_code is not None or not (state.shutdown or isinstance(event, Request)):
        seen.finale = Finale(_folded(_texts(rest, event, major)), exit_code)
    return seen


def _program(state: State, major: int, repairs: Collection[str]) -> Program:
    settings = {"io_workers": str(IO_WORKERS), **state.settings}
    binding = Binding.of(18 if major >= 18 else 15, settings, repairs)
    params = {**binding.config.params, "standby": state.is_standby}
    return replace(binding, config=replace(binding.config, params=params)).program()


def _handed(program: Program, state: State, event: Event, major: int) -> int:
    """The model's state in which the postmaster has yet to handle the event."""
    at = held_state(
        program,
        _OLD_NAMES.get(state.pm, state.pm) if major < 18 else state.pm,
        list(Shutdown)[state.shutdown],
        _lives(state, major),
        fatal=state.fatal,
    )
    for action in _stimuli(event, state, major):
        why = program.why_not(action, at)
        assert why is None, f"{action.name}: {why}"
        at = program.step(action, at)
    return at


def _lives(state: State, major: int) -> dict[tuple[ModelKind, Life], int]:
    """How many children there are on entry, and what each was ordered to do."""
    found: Counter[tuple[ModelKind, Life]] = Counter()
    for kind, number in state.children_on_entry(major).items():
        life = life_on_entry(state, kind, major)
        if state.pm is PM.PM_WAIT_IO_WORKERS and kind is Kind.CHECKPOINTER:
            life = Life.XLOG_SHUT_DOWN
        found[MODEL[kind], life] += number
    return found


def life_on_entry(state: State, kind: Kind, major: int) -> Life:
    """What a child of this kind was ordered to do before the event."""
    sent = state.pending_before(major)
    if kind not in sent:
        return Life.RUNNING
    if kind is Kind.CHECKPOINTER and major < 18:
        return Life.CHECKPOINTING
    return _LIVES[sent[kind].name]


# The event.


def _stimuli(event: Event, state: State, major: int) -> list[Action]:
    """The steps of the model that the event is."""
    match event:
        case Request(shutdown):
            return [outside.shutdown_request(shutdown.mode)]
        case Reload():
            return [outside.RELOAD]
        case Kill(kind):
            return [_death(kind, life_on_entry(state, kind, major))]
        case Unasked():
            return [
                *actions.operator_sends_sigint_to_checkpointer,
                *actions.checkpointer_begins_shutdown_checkpoint,
                *actions.checkpointer_finishes_shutdown_checkpoint,
            ]
        case ExitsOn(kind, code=code) if code not in (0, 1):
            return [_death(kind, life_on_entry(state, kind, major))]
        case ExitsOn(kind):
            return _exit(MODEL[kind], major)
        case _:
            return []


def _death(kind: Kind, life: Life) -> Action:
    """A child dies so that the postmaster takes it for a crash."""
    model = MODEL[kind]
    cases = actions.child_crashes if model in SINGLETONS else actions.counted_child_crashes
    (found,) = (
        a for a in cases if outside.kind_of(a) is model and outside.life_of(a) in (None, life)
    )
    return found


def _exit(model: ModelKind, major: int) -> list[Action]:
    """A child exits with 0 or 1 at a signal of the operator's."""
    match model:
        case ModelKind.BACKEND:
            return [*actions.client_disconnects]
        case ModelKind.DEAD_END_BACKEND:
            return [*actions.dead_end_child_exits]
        case ModelKind.IO_WORKER:
            exits = case_of(actions.signaled_child_exits, kind=model)
            return [*actions.operator_stops_io_worker, exits]
        case ModelKind.CHECKPOINTER if major >= 18:
            exits = case_of(actions.checkpointer_exits_at_sigusr2)
            return [*actions.operator_sends_sigusr2_to_checkpointer, exits]
        case ModelKind.CHECKPOINTER:
            return [
                *actions.operator_sends_sigusr2_to_checkpointer,
                *actions.checkpointer_begins_shutdown_checkpoint,
                *actions.checkpointer_finishes_shutdown_checkpoint,
            ]
        case _:
            return [
                case_of(actions.operator_terminates_background_process, kind=model),
                case_of(actions.background_process_exits_at_sigterm, kind=model),
            ]


# What follows.


def _rest_of_life(program: Program, state: int) -> tuple[list[Evidence], int]:
    """What the postmaster does when all children are continued and all clients leave."""
    schedule, view = Schedule(program), view_of(program)
    evidence: list[Evidence] = []
    for _ in range(_MOST_ITERATIONS):
        done = schedule.run(state, free=set(ModelKind) - {ModelKind.STARTUP})
        evidence += done.evidence
        state = done.after
        action = next((a for a in _CONTINUED if program.step(a, state) >= 0), None)
        if action is None or view.exit_code(state) is not None:
            break
        if among(action, actions.client_disconnects) and view.pm_state(state) is PM.PM_RUN:
            assert schedule.is_idle(state)
        state = program.step(action, state)
    return evidence, state


def _lines(evidence: Iterable[Evidence], major: int) -> tuple[outside.Line, ...]:
    return outside.lines(evidence, outside.line_kinds(18 if major >= 18 else 15))


def _texts(evidence: Iterable[Evidence], event: Event, major: int) -> list[str]:
    """The lines that these steps leave, as an excerpt shows them."""
    found = []
    death = death_by(event)
    for line in _lines(evidence, major):
        match line:
            case ("pmstate", before, after):
                found.append(f"{before} -> {after}")
            case ("log", "crash", _) if death is not None:
                kind, how = death
                found.append(f"{kind.name_in_log(major)} ({kind}) {how}")
            case ("log", "bgworker exited", _):
                kind = Kind.LOGICAL_REPLICATION_LAUNCHER
                found.append(f"{kind.name_in_log(major)} ({kind}) exited with exit code 1")
            case (_, text):
                found.append(text)
    return found


def _folded(lines: Sequence[str]) -> tuple[Line, ...]:
    """The lines with both ways in which a primary may start after recovery."""
    at = len(lines) - len(BY_RECOVERY)
    return (*lines[:at], PRIMARY_STARTS) if tuple(lines[at:]) == BY_RECOVERY else tuple(lines)


def _signals(evidence: Iterable[Evidence]) -> dict[Kind, set[Signals]]:
    found: dict[Kind, set[Signals]] = {}
    for number, model in outside.signalled(evidence):
        for kind in (kind for kind in MODEL if MODEL[kind] is model):
            found.setdefault(kind, set()).add(Signals[number.name])
    return found
