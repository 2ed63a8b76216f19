"""The matrix's rules expect in each cell what the model does: lines, signals, children, refusals.

Each cell is played on the model alone. The states that a standby or an archiver holds are left
out: the model has neither.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import pytest

from pglife_conformance.expect.excerpt import Line, OneOf, in_version
from pglife_conformance.matrix.cell import refusal_by_rules
from pglife_conformance.matrix.events import (
    Event,
    ExitsOn,
    Harmless,
    Kill,
    Reload,
    Request,
    UnaskedShutdownCheckpoint,
    events_in,
)
from pglife_conformance.matrix.finale import finale_of
from pglife_conformance.matrix.rules import ExpectedPostmaster, ShutdownLevel
from pglife_conformance.matrix.states import IO_WORKERS, STARTUP_CRASH, STATES, State
from pglife_conformance.monitor.binding import Binding
from pglife_conformance.observation.kinds import Kind
from pglife_spec import (
    PM,
    SINGLETONS,
    Action,
    Control,
    Evidence,
    Iteration,
    Life,
    Program,
    Schedule,
    Shutdown,
    Value,
    actions,
    among,
    case_of,
    outside,
    view_of,
)
from pglife_spec import Kind as ModelKind
from pglife_spec.postgres.state import children, postmaster, shared
from pglife_spec.postgres.words import StartupStatus

MODEL = {kind: kind.model for kind in Kind} | {
    Kind.UNAUTHENTICATED: ModelKind.BACKEND,
    Kind.DEAD_END: ModelKind.DEAD_END_BACKEND,
}
CONTINUED = (
    case_of(actions.child_exits_at_sigquit, kind=ModelKind.STARTUP),
    *actions.startup_begins_redo,
    *actions.startup_finishes_recovery,
    *actions.startup_exits,
    *actions.startup_exits_at_sigterm,
    *actions.dead_end_child_exits,
    *actions.client_disconnects,
)
"""What children do when they are continued and their clients leave, in this order."""
_MOST_ITERATIONS = 50
OLD_NAMES = {PM.PM_WAIT_XLOG_SHUTDOWN: PM.PM_SHUTDOWN, PM.PM_WAIT_XLOG_ARCHIVAL: PM.PM_SHUTDOWN_2}
"""What 15 calls states that 18 has renamed."""
LIVES = {
    "SIGTERM": Life.TERMINATING,
    "SIGQUIT": Life.QUITTING,
    "SIGINT": Life.CHECKPOINTING,
    "SIGUSR2": Life.TERMINATING,
}
IN_MODEL = [
    state for state in STATES if not state.is_standby and Kind.ARCHIVER not in state.children
]
CELLS = [
    pytest.param(version, state, event, id=f"{version}-{state}-{event}")
    for version in (15, 18)
    for state in IN_MODEL
    for event in events_in(state)
    if version >= max(state.since, event.since)
    if getattr(event, "kind", None) not in (state.gone_in_17 if version < 18 else ())
]


def pm_in(version: int, pm: PM) -> PM:
    return OLD_NAMES.get(pm, pm) if version < 18 else pm


def life_on_entry(state: State, kind: Kind, version: int) -> Life:
    sent = state.pending if version >= 18 or state.pending_17 is None else state.pending_17
    if kind not in sent:
        return Life.RUNNING
    if kind is Kind.CHECKPOINTER and version < 18:
        return Life.CHECKPOINTING
    return LIVES[sent[kind].name]


def model_state(program: Program, state: State, version: int) -> int:
    """The model's state in which a cell begins."""
    values: dict[str, Value] = dict(program.unpack(program.initial[0]))
    ruled = state.expected(version)
    pm = pm_in(version, state.pm)
    is_starting = Kind.STARTUP in state.children
    late = pm.value in ("PM_WAIT_IO_WORKERS", "PM_WAIT_CHECKPOINTER", "PM_WAIT_DEAD_END")
    written = late and not state.fatal
    values |= {
        postmaster.STATE.name: pm,
        postmaster.SHUTDOWN.name: list(Shutdown)[state.shutdown],
        postmaster.FATAL_ERROR.name: state.fatal,
        postmaster.CONNS_ALLOWED.name: not ruled.refuses_clients,
        postmaster.STARTUP_STATUS.name: StartupStatus.STARTUP_RUNNING
        if is_starting
        else StartupStatus.STARTUP_NOT_RUNNING,
        shared.CONTROL.name: Control.SHUT_DOWN if written else Control.IN_PRODUCTION,
        shared.RECOVERED.name: not is_starting,
        postmaster.ABORT_TIMER.name: state.fatal and not is_starting,
    }
    for kind, number in ruled.children.items():
        model, life = MODEL[kind], life_on_entry(state, kind, version)
        assert model is not None
        if pm is PM.PM_WAIT_IO_WORKERS and kind is Kind.CHECKPOINTER:
            life = Life.XLOG_SHUT_DOWN
        if model in SINGLETONS:
            values[children.LIFE[model].name] = life
        else:
            name = children.COUNT[model, life].name
            before = values[name]
            assert isinstance(before, int)
            values[name] = before + number
    return program.pack(values)


def exits(kind: Kind, life: Life) -> list[Action]:
    """A child exits so that the postmaster finds this status; the model has no step for each."""
    model = MODEL[kind]
    assert model is not None
    cases = actions.child_crashes if model in SINGLETONS else actions.counted_child_crashes
    found = [a for a in cases if outside.kind_of(a) is model and outside.life_of(a) in (None, life)]
    assert len(found) == 1
    return found


def stimuli(event: Event, state: State, version: int) -> list[Action]:
    """The steps of the model that the event is."""
    match event:
        case Request(shutdown):
            return [outside.shutdown_request(shutdown.mode)]
        case Reload():
            return [outside.RELOAD]
        case Harmless():
            return []
        case Kill(kind):
            return exits(kind, life_on_entry(state, kind, version))
        case UnaskedShutdownCheckpoint():
            return [
                *actions.operator_sends_sigint_to_checkpointer,
                *actions.checkpointer_begins_shutdown_checkpoint,
                *actions.checkpointer_finishes_shutdown_checkpoint,
            ]
        case ExitsOn():
            return exit_of(event, state, version)
    raise AssertionError(event)


def exit_of(event: ExitsOn, state: State, version: int) -> list[Action]:
    kind, model = event.kind, MODEL[event.kind]
    if event.code not in (0, 1):
        return exits(kind, life_on_entry(state, kind, version))
    match model:
        case ModelKind.BACKEND:
            return [*actions.client_disconnects]
        case ModelKind.DEAD_END_BACKEND:
            return [*actions.dead_end_child_exits]
        case ModelKind.IO_WORKER:
            return [
                *actions.operator_stops_io_worker,
                case_of(actions.signaled_child_exits, kind=ModelKind.IO_WORKER),
            ]
        case ModelKind.CHECKPOINTER if version >= 18:
            return [
                *actions.operator_sends_sigusr2_to_checkpointer,
                *actions.checkpointer_exits_at_sigusr2,
            ]
        case ModelKind.CHECKPOINTER:
            return [
                *actions.operator_sends_sigusr2_to_checkpointer,
                *actions.checkpointer_begins_shutdown_checkpoint,
                *actions.checkpointer_finishes_shutdown_checkpoint,
            ]
        case _:
            assert model is not None
            return [
                case_of(actions.operator_terminates_background_process, kind=model),
                case_of(actions.background_process_exits_at_sigterm, kind=model),
            ]


def model_after(
    program: Program, before: int, steps: Sequence[Action], free: Collection[ModelKind]
) -> Iteration:
    """What the postmaster does of these steps while the other children are stopped."""
    state = before
    for action in steps:
        why = program.why_not(action, state)
        assert why is None, f"{action.name}: {why}"
        state = program.step(action, state)
    return Schedule(program).run(state, free=free)


def rest_of_life(program: Program, state: int) -> tuple[list[Evidence], int]:
    """What the postmaster does when all children are continued and all clients leave."""
    schedule, view = Schedule(program), view_of(program)
    evidence: list[Evidence] = []
    for _ in range(_MOST_ITERATIONS):
        done = schedule.run(state, free=set(ModelKind) - {ModelKind.STARTUP})
        evidence += done.evidence
        state = done.after
        by_themselves = (a for a in CONTINUED if program.step(a, state) >= 0)
        action = next(by_themselves, None)
        if action is None or view.exit_code(state) is not None:
            break
        if among(action, actions.client_disconnects) and view.pm_state(state) is PM.PM_RUN:
            assert schedule.is_idle(state)
        state = program.step(action, state)
    return evidence, state


def as_evidence(text: str) -> outside.Line:
    """An expected line in the model's form."""
    before, arrow, after = text.partition(" -> ")
    if arrow:
        return ("pmstate", before, after)
    for kind in Kind:
        text = text.replace(f"({kind}) ", "(PID 1) ")
    line = outside.line_of("LOG", text)
    assert line is not None, text
    return line


def expect_lines(
    evidence: Sequence[Evidence], expected: Sequence[Line], version: int, *, is_start: bool = False
) -> None:
    """The model writes the expected lines; with `is_start`, the first of them."""
    found = outside.lines(evidence, outside.line_kinds(version))
    ways: list[list[outside.Line]] = [[]]
    for line in in_version(list(expected), version):
        texts = [line.ways] if isinstance(line, OneOf) else [((line,),)]
        ways = [[*way, *map(as_evidence, text)] for way in ways for text in texts[0]]
    if is_start:
        ways = [way[: len(found)] for way in ways]
    assert any(
        len(way) == len(found) and all(map(outside.is_same_line, found, way)) for way in ways
    ), (found, ways)


@pytest.mark.parametrize(("version", "state", "event"), CELLS)
def test_cell(version: int, state: State, event: Event) -> None:
    """The rules and the model agree on what is seen while all children are stopped."""
    settings = {"io_workers": str(IO_WORKERS)}
    program = Binding.of(version, settings).program()
    ruled = state.expected(version)
    steps = stimuli(event, state, version)
    event.apply_to(ruled)
    # The one event whose child is continued, and quits at once.
    free = {ModelKind.CHECKPOINTER} if isinstance(event, UnaskedShutdownCheckpoint) else set()
    found = model_after(program, model_state(program, state, version), steps, free)
    finale = finale_of(ruled)
    whole = [*ruled.lines, *finale.lines]
    rest, last = rest_of_life(program, found.after)
    if not has_finding(state, ruled):
        expect_lines([*found.evidence, *rest], whole, version)
        assert view_of(program).exit_code(last) == finale.exit_code
    if ruled.pm is PM.PM_NO_CHILDREN:
        # The postmaster does not stop there: it exits, or starts again.
        expect_lines(found.evidence, whole, version, is_start=True)
        return
    expect_lines(found.evidence, ruled.lines, version)
    view = view_of(program)
    assert view.pm_state(found.after) is pm_in(version, ruled.pm)
    counted: Counter[ModelKind] = Counter()
    for kind, number in ruled.children.items():
        model = MODEL[kind]
        assert model is not None
        counted[model] += number
    recorded = Counter(dict(zip(ModelKind, view.children(found.after), strict=True)))
    assert +recorded == +counted

    expect_signals(ruled, found, free)
    expect_refusal(program, ruled, found.after)


def has_finding(state: State, ruled: ExpectedPostmaster) -> bool:
    """F01: a shutdown that is requested in PM_STARTUP after a crash need not end."""
    return state is STARTUP_CRASH and ruled.is_orderly_shutdown


def expect_signals(
    ruled: ExpectedPostmaster, found: Iteration, free: Collection[ModelKind]
) -> None:
    """Each kind receives the same signals; what a kind ignores cannot be seen."""
    sent: dict[ModelKind, set[str]] = {}
    for number, kind in outside.signalled(found.evidence):
        sent.setdefault(kind, set()).add(number.name)
    expected: dict[ModelKind, set[str]] = {}
    ignored: dict[ModelKind, set[str]] = {}
    for kind, numbers in ruled.signals.items():
        model = MODEL[kind]
        assert model is not None
        expected.setdefault(model, set()).update(number.name for number in numbers)
    for kind in Kind:
        model = MODEL[kind]
        if model is not None:
            ignored.setdefault(model, set()).update(number.name for number in kind.ignores)
    new = set(found.forked) | set(free)
    for model in (set(sent) | set(expected)) - new:
        gone = ignored[model]
        assert sent.get(model, set()) - gone == expected.get(model, set()) - gone, model


def expect_refusal(program: Program, ruled: ExpectedPostmaster, after: int) -> None:
    """A new client receives the same refusal, or is admitted."""
    accepting = [a for a in actions.ADMISSIONS if program.step(a, after) >= 0]
    if ruled.pm in (PM.PM_WAIT_DEAD_END, PM.PM_NO_CHILDREN):
        assert not accepting
        return
    (action,) = accepting
    expected = refusal_by_rules(ruled)
    answer = outside.refusal(program.emissions(action, after)[1])
    if ruled.pm is PM.PM_RECOVERY and not ruled.fatal and ruled.shutdown is ShutdownLevel.NONE:
        assert expected is not None
    else:
        assert answer == expected
