"""A trace file as something to play: its release, its configuration, its steps in full.

Begin with read_script(), which refuses an unfit file with a reason of one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pglife_conformance.base.failures import SuiteError
from pglife_conformance.monitor.binding import BOUNDS
from pglife_spec import (
    CONFIGS,
    Action,
    Config,
    Program,
    Trace,
    TraceError,
    Value,
    machine,
    program,
    read_itf,
    replay,
)

VERSIONS = (15, 18)
MANY_SLOTS = 40
"""A server of the suite has more slots than a trace fills (max_connections of the template)."""


class UnfitTrace(SuiteError):
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
        """The file's name without its suffixes."""
        return self.path.name.removesuffix(".json").removesuffix(".itf")

    @property
    def actions(self) -> list[Action]:
        """Its steps, from the first."""
        return [self.program.action(str(moment.action)) for moment in self.trace.moments[1:]]

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
    try:
        trace = read_itf(path, machine())
    except TraceError as problem:
        raise UnfitTrace(" ".join(str(problem).split())) from None
    known = CONFIGS.get(trace.config)
    params = {**(known.params if known is not None else {}), **trace.params}
    missing = [param.name for param in machine().params if param.name not in params]
    if missing:
        raise UnfitTrace(
            f"{path}: expected the parameters of its configuration in #meta.parameters, "
            f"there is no {', '.join(missing)}"
        )
    version = params["version"]
    if not isinstance(version, int) or version not in VERSIONS:
        raise UnfitTrace(f"{path}: the model describes {VERSIONS}, not version {version}")
    bounds = dict.fromkeys(BOUNDS, max(1, len(trace)))
    bounds |= {"io_worker": max(int(params["io_workers"]), len(trace))}  # type: ignore[arg-type]
    replayed = replay(machine(), Config(trace.config, params, bounds), trace)
    if not replayed.explained:
        raise UnfitTrace(
            f"{path}: the model does not allow state {replayed.failed_at}: {replayed.reason} "
            "(`pglife replay` shows more)"
        )
    return Script(path, version, params, replayed.trace, _play_program(trace.config, params))


def _play_program(name: str, params: Mapping[str, Value]) -> Program:
    """The trace's model, but with the slots of a server and with every fault that can be forced."""
    room: dict[str, Value] = {
        "child_slots": MANY_SLOTS,
        "fork_faults": True,
        "reloads": True,
        "stray_signals": True,
    }
    return program(Config(name, {**params, **room}, BOUNDS))


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
