"""The pictures of PostgreSQL's model: the postmaster, and the life of each kind of child.

Begin with   views.
"""

from __future__ import annotations

from dataclasses import replace

from pglife_spec.draw.graph import View
from pglife_spec.lang.expr import in_
from pglife_spec.lang.machine import Config
from pglife_spec.postgres.state import CRASHY, EXIT, LIFE, STATE
from pglife_spec.postgres.words import Kind, Life

STOP = ("operator_requests_shutdown(fastshutdown)",)
"""A normal life ends by a fast shutdown."""


def views(version: int) -> dict[str, View]:
    """The pictures by name: `postmaster`, then one for each kind of which there is one child."""
    made = {
        "postmaster": View(
            STATE,
            f"The postmaster of PostgreSQL {version}",
            passed="pmstate",
            left=EXIT,
            troubled=CRASHY,
            stimuli=STOP,
        )
    }
    for kind, var in LIFE.items():
        name = "startup process" if kind is Kind.STARTUP else kind.value
        made[kind.name.lower()] = View(
            var,
            f"The life of the {name}, PostgreSQL {version}",
            troubled=in_(var, Life.QUITTING, Life.CRASHED),
            stimuli=STOP,
        )
    return made


def drawn(config: Config, view: str) -> Config:
    """A configuration small enough to draw from: no dead-end children, and the logger if wanted.

    The pictures stay the same: their ways do not depend on how many clients were refused.
    """
    params = dict(config.params)
    needs = {
        Kind.LOGGER: "logging_collector",
        Kind.AUTOVAC_LAUNCHER: "autovacuum",
        Kind.BG_WORKER: "logical_launcher",
    }
    for kind, param in needs.items():
        params[param] = view == kind.name.lower()
    bounds = dict(config.bounds) | {"dead_end": 0, "backend": min(1, config.bounds["backend"])}
    return replace(config, name=f"{config.name}, to draw", params=params, bounds=bounds)
