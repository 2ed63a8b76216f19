"""A server under test as a configuration of the model, and its processes as the model's kinds.

Begin with Binding.of(), which also decides whether a server is in the model's scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pglife_conformance.base.failures import SuiteError
from pglife_conformance.observation.kinds import Kind
from pglife_spec import (
    CONFIGS,
    REPAIR_NAMES,
    ArchiveMode,
    Config,
    Program,
    Value,
    WorkerStart,
    program,
)
from pglife_spec import Kind as ModelKind

#: The most children of each kind that the monitor follows, running or zombies.
BOUNDS = {
    "backend": 31,
    "dead_end": 31,
    "io_worker": 31,
    "walsender": 7,
    "autovac_worker": 0,
    "autovac_entries": 0,
    "io_workers.in_file": 31,
    "io_workers.wanted": 31,
}

_ENOUGH_SLOTS = BOUNDS["backend"] + 2
"""One more than clients and, on 15, the one background worker can take."""

MODEL_KIND = {kind: kind.model for kind in Kind if kind.model is not None}

SHOWN_KIND: dict[ModelKind, Kind] = {model: kind for kind, model in MODEL_KIND.items()} | {
    ModelKind.DEAD_END_BACKEND: Kind.UNKNOWN,
    ModelKind.AUTOVAC_WORKER: Kind.AUTOVACUUM_WORKER,
    ModelKind.STATIC_WORKER: Kind.AUTOPREWARM_LEADER,
}
"""How each kind of the model appears in a process list; a dead-end child sets no title."""

#: Processes that the monitor does not follow and that change nothing in the model while they run.
BYSTANDERS = frozenset({Kind.AUTOVACUUM_WORKER, Kind.PARALLEL_WORKER})

_OUT_OF_SCOPE = {
    "shared_preload_libraries": ("", "''"),
    "wal_level": ("replica", "logical", ""),
    "send_abort_for_crash": ("off", ""),
    "log_min_messages": ("debug1", "debug2", "debug3", "debug4", "debug5", ""),
}
_ON = frozenset({"on", "true", "yes", "1"})


class OutOfScope(SuiteError):
    """The model does not describe such a server; the message says why."""


@dataclass(frozen=True)
class Binding:
    """What the monitor needs to know of one start of a server.

    Args:
        version: the server's major version.
        config: the model's configuration that stands for it.
    """

    version: int
    config: Config

    @classmethod
    def of(cls, version: int, settings: Mapping[str, str], repairs: Iterable[str] = ()) -> Binding:
        """The binding for a server's version, settings and declared repairs.

        Raises:
            OutOfScope: if the model does not describe such a server.
        """
        if version not in (15, 18):
            raise OutOfScope(f"the model describes versions 15 and 18, not {version}")
        for name, allowed in _OUT_OF_SCOPE.items():
            if settings.get(name, "").strip("'").lower() not in allowed:
                raise OutOfScope(f"the model does not describe {name} = {settings[name]}")
        return cls(version, _config(version, settings, frozenset(repairs)))

    def program(self, store: Path | None = None) -> Program:
        """The model compiled for this configuration, once for each process.

        Args:
            store: a directory that keeps generated code from one process to the next.
        """
        key = tuple(sorted((k, v) for k, v in self.config.params.items()))
        return _program(self.config.name, key, store)


@cache
def _program(name: str, params: tuple[tuple[str, Value], ...], store: Path | None) -> Program:
    return program(Config(name, dict(params), BOUNDS), store)


def _number(settings: Mapping[str, str], name: str, default: int) -> int:
    return int(settings.get(name, str(default)).strip("'") or default)


def _switch(settings: Mapping[str, str], name: str, default: str) -> bool:
    return settings.get(name, default).strip("'").lower() in _ON


def _config(version: int, settings: Mapping[str, str], repairs: frozenset[str]) -> Config:
    connections = _number(settings, "max_connections", 100)
    senders = _number(settings, "max_wal_senders", 10)
    slots = 2 * (connections + senders)
    if version < 18:
        slots += 2 * (
            1
            + _number(settings, "autovacuum_max_workers", 3)
            + _number(settings, "max_worker_processes", 8)
        )
    has_workers = version >= 18 and settings.get("io_method", "worker").strip("'") == "worker"
    # What is not named here is as in the model's small configurations: off.
    params: dict[str, Value] = {
        **CONFIGS[f"small-{version}"].params,
        "restart_after_crash": _switch(settings, "restart_after_crash", "on"),
        "logging_collector": _switch(settings, "logging_collector", "off"),
        "autovacuum": _switch(settings, "autovacuum", "on")
        and _switch(settings, "track_counts", "on"),
        "logical_launcher": _number(settings, "max_logical_replication_workers", 4) > 0,
        "hot_standby": _switch(settings, "hot_standby", "on"),
        "archive_mode": ArchiveMode(
            settings.get("archive_mode", "off").strip("'").lower() or "off"
        ),
        "wal_senders": senders > 0,
        "summarize_wal": version >= 18 and _switch(settings, "summarize_wal", "off"),
        "autovac_workers": 0,  # bystanders
        "pool_changes": False,
        "wraparound": False,
        "worker_start": WorkerStart.NEVER,
        "worker_restarts": True,
        "io_workers": _number(settings, "io_workers", 3) if has_workers else 0,
        # A number above the monitor's bound makes no difference, and this one shares programs.
        "child_slots": min(slots, _ENOUGH_SLOTS),
        "fork_faults": True,
        "reloads": True,
        "stray_signals": True,
    }
    params |= {f"repair.{name}": name in repairs for name in REPAIR_NAMES}
    return Config(f"server-{version}", params, BOUNDS)
