"""Runs of a machine as values and as ITF JSON files, and their replay on the model.

Begin with Trace, then write_itf() and read_itf(), then replay(). ITF is the format of Apalache and
Quint.
"""

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pglife_spec.lang.errors import SpecError
from pglife_spec.lang.expr import BOOL, EnumSort, Sort, Value
from pglife_spec.lang.machine import Config, Machine
from pglife_spec.meanings.pack import label
from pglife_spec.meanings.python.program import CUT, DISABLED, Evidence, Program, compile_machine

FORMAT_DESCRIPTION = "https://apalache-mc.org/docs/adr/015adr-trace.html"
SAFE_INTEGER = 2**53
"""JSON readers that keep numbers as doubles are exact below this."""


class TraceError(SpecError):
    """A trace file cannot be read; the message says what was expected and what is there."""


@dataclass(frozen=True)
class Moment:
    """A state of a run, the action that led to it (None: initial, or not known), its evidence."""

    state: Mapping[str, Value]
    action: str | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Trace:
    """A run. With `loop`, it goes on from its last state as it did from the state of that index.

    A loop whose index is that of the last state is a server at rest for ever.
    """

    machine: str
    config: str
    params: Mapping[str, Value]
    moments: tuple[Moment, ...]
    loop: int | None = None
    description: str = ""

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions in order, where they are known."""
        return tuple(m.action for m in self.moments[1:] if m.action is not None)

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.moments) - 1

    def changes(self, index: int) -> dict[str, Value]:
        """The variables that step `index` changed, with their new values; all for the first."""
        now = self.moments[index].state
        if index == 0:
            return dict(now)
        before = self.moments[index - 1].state
        return {name: value for name, value in now.items() if before.get(name) != value}


def trace_of(
    program: Program,
    path: Sequence[tuple[int | None, int]],
    *,
    loop: int | None = None,
    description: str = "",
) -> Trace:
    """The trace of packed states, each with the index of the action that led to it."""
    moments: list[Moment] = []
    before = 0
    for action, state in path:
        if action is None:
            moments.append(Moment(program.unpack(state)))
        else:
            after, evidence = program.emissions(action, before)
            assert after == state, f"{program.actions[action].name} does not lead there"
            name = program.actions[action].name
            moments.append(Moment(program.unpack(state), name, tuple(evidence)))
        before = state
    config = program.config
    return Trace(
        program.machine.name, config.name, dict(config.params), tuple(moments), loop, description
    )


def to_itf(trace: Trace) -> dict[str, Any]:
    """The trace as ITF JSON data."""
    meta = {
        "format": "ITF",
        "format-description": FORMAT_DESCRIPTION,
        "source": "pglife",
        "machine": trace.machine,
        "configuration": trace.config,
        "parameters": {k: _to_json(v) for k, v in trace.params.items()},
        "description": trace.description,
    }
    states: list[dict[str, Any]] = []
    for index, moment in enumerate(trace.moments):
        about: dict[str, Any] = {"index": index}
        if moment.action is not None:
            about["action"] = moment.action
        if moment.evidence:
            about["evidence"] = [[_to_json(part) for part in e] for e in moment.evidence]
        states.append({"#meta": about} | {k: _to_json(v) for k, v in moment.state.items()})
    names = list(trace.moments[0].state) if trace.moments else []
    data: dict[str, Any] = {"#meta": meta, "vars": names, "states": states}
    if trace.loop is not None:
        data["loop"] = trace.loop
    return data


def write_itf(trace: Trace, path: Path) -> None:
    """Write a trace to a file, one state a line so that differences are readable."""
    data = to_itf(trace)
    states = data.pop("states")
    head = json.dumps(data, indent=1)[:-2]
    body = ",\n  ".join(json.dumps(s) for s in states)
    path.write_text(f'{head},\n "states": [\n  {body}\n ]\n}}\n')


def read_itf(path: Path, machine: Machine) -> Trace:
    """Read a trace of a machine; states may leave out variables.

    Raises:
        TraceError: the file is not a trace of this machine.
    """
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise TraceError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("states"), list):
        raise TraceError(f"{path} is not an ITF trace: no list of states")
    return _from_itf(data, machine, str(path))


def _from_itf(data: Mapping[str, Any], machine: Machine, where: str) -> Trace:
    variables: dict[str, Sort] = {v.name: v.sort for v in machine.variables}
    params: dict[str, Sort] = {p.name: p.sort for p in machine.params}
    moments: list[Moment] = []
    for index, state in enumerate(data["states"]):
        at = f"{where}, state {index}"
        if not isinstance(state, dict):
            raise TraceError(f"{at}: expected an object")
        about = state.get("#meta", {})
        values = {n: v for n, v in state.items() if not n.startswith("#")}
        evidence = tuple(tuple(_plain(p) for p in e) for e in about.get("evidence", []))
        moments.append(Moment(_typed(values, variables, at), about.get("action"), evidence))
    if not moments:
        raise TraceError(f"{where} has no states")
    meta = data.get("#meta", {})
    loop = data.get("loop")
    if loop is not None and not (isinstance(loop, int) and 0 <= loop < len(moments)):
        raise TraceError(f"{where}: loop must be the index of a state, got {loop!r}")
    return Trace(
        meta.get("machine", machine.name),
        meta.get("configuration", ""),
        _typed(meta.get("parameters", {}), params, where),
        tuple(moments),
        loop,
        meta.get("description", ""),
    )


def _typed(values: Mapping[str, Any], sorts: Mapping[str, Sort], where: str) -> dict[str, Value]:
    for name in values:
        if name not in sorts:
            raise TraceError(f"{where}: the machine has no {name!r}")
    return {name: _from_json(value, sorts[name], name, where) for name, value in values.items()}


def _to_json(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= SAFE_INTEGER:
        return {"#bigint": str(value)}
    return value


def _plain(value: object) -> object:
    if isinstance(value, dict) and set(value) == {"#bigint"}:
        return int(value["#bigint"])
    return value


def _from_json(value: object, sort: Sort, name: str, where: str) -> Value:
    plain = _plain(value)
    if isinstance(sort, EnumSort):
        for member in sort.members:
            if member.name == plain:
                return member
    elif isinstance(plain, bool) == (sort == BOOL) and isinstance(plain, int):
        return plain
    raise TraceError(f"{where}: {name} takes {sort}, got {plain!r}")


@dataclass(frozen=True)
class Replay:
    """What became of a trace on the model.

    Args:
        trace: the run as far as the model explains it, with full states and evidence.
        failed_at: index of the first state that it does not explain; None if it explains all.
        reason: what was expected and what is there instead.
    """

    trace: Trace
    failed_at: int | None = None
    reason: str = ""

    @property
    def explained(self) -> bool:
        return self.failed_at is None


@dataclass
class _Run:
    """One way through the model that fits the trace so far."""

    path: list[tuple[int | None, int]] = field(default_factory=list)


def replay(machine: Machine, config: Config, trace: Trace) -> Replay:
    """Play a trace on the model and explain the first step that the model does not allow.

    States may leave out variables and steps may leave out actions: all ways that fit are followed.
    """
    program = compile_machine(machine, config)
    first = trace.moments[0]
    runs = [_Run([(None, s)]) for s in program.initial if not _differences(program, s, first)]
    if not runs:
        near = min((_differences(program, s, first) for s in program.initial), key=len)
        return Replay(_cut(program, None, trace), 0, f"no initial state is like it: {near}")
    for index, moment in enumerate(trace.moments[1:], start=1):
        longer = _extend(program, runs, moment)
        if not longer:
            reason = _reason(program, runs[0].path[-1][1], moment)
            return Replay(_cut(program, runs[0], trace), index, reason)
        runs = longer
    played = trace_of(program, runs[0].path, loop=trace.loop, description=trace.description)
    if trace.loop is not None:
        reason = _loop_reason(program, runs[0].path, trace.loop)
        if reason:
            return Replay(played, len(trace), reason)
    return Replay(played)


def _extend(program: Program, runs: Sequence[_Run], moment: Moment) -> list[_Run]:
    """Each run taken on by every step that fits; one run for each state reached."""
    longer: dict[int, _Run] = {}
    for run in runs:
        before = run.path[-1][1]
        for action, after in _steps(program, before, moment):
            if after not in longer and not _differences(program, after, moment):
                longer[after] = _Run([*run.path, (action, after)])
    return list(longer.values())


def _steps(program: Program, state: int, moment: Moment) -> list[tuple[int, int]]:
    if moment.action is None:
        return sorted(program.successors(state))
    if moment.action not in {a.name for a in program.actions}:
        return []
    after = program.step(moment.action, state)
    return [] if after < 0 else [(program.index(moment.action), after)]


def _differences(program: Program, state: int, moment: Moment) -> str:
    values = program.unpack(state)
    return ", ".join(
        f"{name} = {label(values[name])} and not {label(value)}"
        for name, value in moment.state.items()
        if values[name] != value
    )


def _reason(program: Program, state: int, moment: Moment) -> str:
    name = moment.action
    if name is None:
        ways = [
            f"{program.actions[a].name} gives {_differences(program, t, moment)}"
            for a, t in sorted(program.successors(state))
        ]
        return "no action leads there: " + ("; ".join(ways) or "none is enabled")
    if name not in {a.name for a in program.actions}:
        return f"the machine has no action {name!r}"
    after = program.step(name, state)
    if after in (DISABLED, CUT):
        return f"{name} is impossible: {program.why_not(name, state)}"
    return f"{name} gives {_differences(program, after, moment)}"


def _loop_reason(program: Program, path: Sequence[tuple[int | None, int]], loop: int) -> str:
    """Why a run cannot go round from its last state to state `loop`; empty if it can."""
    last, back = path[-1][1], path[loop][1]
    if last == back:
        return ""
    if back in {t for _, t in program.successors(last)}:
        return ""
    return f"no action leads from the last state back to state {loop}"


def _cut(program: Program, run: _Run | None, trace: Trace) -> Trace:
    if run is None:
        params = dict(program.config.params)
        return Trace(trace.machine, program.config.name, params, ())
    return trace_of(program, run.path, description=trace.description)
