"""The executable specification of PostgreSQL's process lifecycles: its public face.

    from pglife_spec import CONFIGS, explore, machine
    found = explore(machine(), CONFIGS["tiny-18"])

`machine()` is PostgreSQL's postmaster and its children, declared once; `program()` is the machine
under one configuration, which runs. What to do with them:

- `explore`, `check_property`: every reachable state, claims, liveness;
- `prove_each`: claims for every size (imports z3);
- `simulate`, `replay`, `read_itf`, `write_itf`: runs as traces;
- `state_graph`, `life_graph`, `signal_graph`: states, the life of a process, and who signals whom
  as networkx graphs; `to_graphml`, `to_json` export them, `to_svg` draws a life;
- `rules`: the numbered rules that actions, claims and scenarios cite: `rules.rule("SH-04")`;
- `actions`: the declared actions; `outside`: what each step shows to a client or an operator;
  `schedule`: one iteration of the postmaster's event loop.

Nothing here opens a socket or starts a process.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from pglife_spec import rules
from pglife_spec.explore import check_property, explore
from pglife_spec.lang.expr import LanguageError, Value
from pglife_spec.lang.machine import Action, Actor, Config, Machine
from pglife_spec.meanings.python.program import Evidence, Program, compile_machine
from pglife_spec.meanings.store import CodeStore
from pglife_spec.postgres import declared as actions
from pglife_spec.postgres import outside, schedule
from pglife_spec.postgres.build import build as machine
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.postgres.declared import among, case_of
from pglife_spec.postgres.held import held_state
from pglife_spec.postgres.schedule import Iteration, Schedule
from pglife_spec.postgres.view import View, view_of
from pglife_spec.postgres.words import PM, ArchiveMode, Control, Exit, Kind, Life, PidFile, Shutdown
from pglife_spec.postgres.words.kinds import SINGLETONS
from pglife_spec.postgres.words.repairs import REPAIRS
from pglife_spec.postgres.words.workers import WorkerStart
from pglife_spec.traces.simulate import simulate
from pglife_spec.traces.trace import (
    Moment,
    Trace,
    TraceError,
    read_itf,
    replay,
    trace_of,
    write_itf,
)

if TYPE_CHECKING:
    from pglife_spec.draw.svg import to_svg
    from pglife_spec.draw.views import views as life_views
    from pglife_spec.graphs import (
        LifeView,
        covered,
        life_graph,
        signal_graph,
        state_graph,
        to_graphml,
        to_json,
    )
    from pglife_spec.prove import prove_each

_GRAPHS = "LifeView covered life_graph signal_graph state_graph to_graphml to_json"
_LATER = {
    "prove_each": "prove",
    "to_svg": "draw.svg",
    "life_views": "draw.views",
    **dict.fromkeys(_GRAPHS.split(), "graphs"),
}
"""Names that are imported when they are first used, and the modules that have them."""

REPAIR_NAMES = tuple(param.name.removeprefix("repair.") for param in REPAIRS)
"""The repairs of findings that a server, or a configuration, may declare."""


def program(config: Config, store: Path | None = None) -> Program:
    """The machine under one configuration, compiled.

    Args:
        config: a value for each parameter, and a bound for each counter.
        store: a directory that keeps generated code from one process to the next.

    Raises:
        LanguageError: if the configuration does not fit the machine.
    """
    return compile_machine(machine(), config, None if store is None else CodeStore(store))


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    later = importlib.import_module(f"{__name__}.{_LATER[name]}")
    return getattr(later, {"life_views": "views"}.get(name, name))


__all__ = [
    "CONFIGS",
    "PM",
    "REPAIR_NAMES",
    "SINGLETONS",
    "Action",
    "Actor",
    "ArchiveMode",
    "Config",
    "Control",
    "Evidence",
    "Exit",
    "Iteration",
    "Kind",
    "LanguageError",
    "Life",
    "LifeView",
    "Machine",
    "Moment",
    "PidFile",
    "Program",
    "Schedule",
    "Shutdown",
    "Trace",
    "TraceError",
    "Value",
    "View",
    "WorkerStart",
    "actions",
    "among",
    "case_of",
    "check_property",
    "covered",
    "explore",
    "held_state",
    "life_graph",
    "life_views",
    "machine",
    "outside",
    "program",
    "prove_each",
    "read_itf",
    "replay",
    "rules",
    "schedule",
    "signal_graph",
    "simulate",
    "state_graph",
    "to_graphml",
    "to_json",
    "to_svg",
    "trace_of",
    "view_of",
    "write_itf",
]
