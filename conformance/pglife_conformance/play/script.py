"""A trace file as something to play: its release, its configuration, its steps in full.

Begin with   read_script().
Owns         what makes a file unfit for playing, each reason in one line.
Leaves out   the file format (pglife_spec.traces.trace), how it is played (plan.py, player.py).
Source       ITF, as Apalache and Quint write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pglife_conformance.monitor.binding import BOUNDS
from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Config
from pglife_spec.meanings.python.program import Program, compile_machine
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.traces.trace import Trace, TraceError, read_itf, replay

VERSIONS = (15, 18)
MANY_SLOTS = 40
"""A server of the suite has more slots than a trace fills (max_connections of the template)."""


class UnfitTrace(Exception):
    """The file cannot be played on any server; the message is one line."""


@dataclass(frozen=True)
class Script:
    """A run of the model, every step with its action.

    Args:
        path: the file.
        version: the major version that it is about.
        params: the model's parameters that it was made under.
        trace: the run, replayed on the model.
        program: the model in which it is played: the trace's parameters, a server's bounds.
    """

    path: Path
    version: int
    params: Mapping[str, Value]
    trace: Trace
    program: Program

    @property
    def name(self) -> str:
        """How reports call it."""
        return self.path.name.removesuffix(".json").removesuffix(".itf")

    @property
    def actions(self) -> list[str]:
        """Its steps, from the first."""
        return [str(moment.action) for moment in self.trace.moments[1:]]

    def program_with(self, params: Mapping[str, Value]) -> Program:
        """The same with other parameters; its states are the same numbers."""
        return _play_program(self.trace.config, {**self.params, **params})

    def state(self, index: int) -> int:
        """The state after this step; 0 is the initial one."""
        return self.program.pack(self.trace.moments[index].state)


def read_script(path: Path) -> Script:
    """Read a trace and see that the model allows it.

    Raises:
        UnfitTrace: if it is no trace, of no known release, or impossible.
    """
    machine = build()
    try:
        trace = read_itf(path, machine)
    except TraceError as problem:
        raise UnfitTrace(" ".join(str(problem).split())) from None
    known = CONFIGS.get(trace.config)
    params = {**(known.params if known is not None else {}), **trace.params}
    missing = [param.name for param in machine.params if param.name not in params]
    if missing:
        raise UnfitTrace(
            f"{path}: expected the parameters of its configuration in #meta.parameters, "
            f"there is no {', '.join(missing)}"
        )
    version = params["version"]
    if not isinstance(version, int) or version not in VERSIONS:
        raise UnfitTrace(f"{path}: the model tells of {VERSIONS}, not of version {version}")
    bounds = dict.fromkeys(BOUNDS, max(1, len(trace)))
    bounds |= {"io_worker": max(int(params["io_workers"]), len(trace))}  # type: ignore[arg-type]
    said = replay(machine, Config(trace.config, params, bounds), trace)
    if not said.explained:
        raise UnfitTrace(
            f"{path}: the model does not allow state {said.failed_at}: {said.reason} "
            "(`pglife replay` shows more)"
        )
    return Script(path, version, params, said.trace, _play_program(trace.config, params))


def _play_program(name: str, params: Mapping[str, Value]) -> Program:
    """The trace's model, but with the room that a server has and whatever a player may do."""
    room: dict[str, Value] = {
        "child_slots": MANY_SLOTS,
        "fork_faults": True,
        "reloads": True,
        "stray_signals": True,
    }
    return compile_machine(build(), Config(name, {**params, **room}, BOUNDS))


def settings_of(script: Script) -> dict[str, str]:
    """The settings by which a server is like the trace's configuration."""

    def switch(name: str) -> str:
        return "on" if script.params[name] is True else "off"

    settings = {name: switch(name) for name in ("restart_after_crash", "logging_collector")}
    settings |= {"autovacuum": switch("autovacuum"), "hot_standby": switch("hot_standby")}
    launcher = script.params["logical_launcher"] is True
    settings["max_logical_replication_workers"] = "4" if launcher else "0"
    if script.version >= 18:
        workers = script.params["io_workers"]
        settings |= (
            {"io_method": "worker", "io_workers": str(workers)}
            if workers
            else {"io_method": "sync"}
        )
    return settings
