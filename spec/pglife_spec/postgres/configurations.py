"""Named configurations: what explorers fix that proofs leave open.

Begin with   CONFIGS.
"""

from __future__ import annotations

from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Config
from pglife_spec.postgres.state import REPAIRS

REAL = {param.name: False for param in REPAIRS}
REPAIRED = {param.name: True for param in REPAIRS}


def config(
    name: str,
    version: int,
    *,
    repaired: bool = False,
    bounds: dict[str, int] | None = None,
    **params: Value,
) -> Config:
    """A configuration: small unless told otherwise.

    Args:
        name: how reports call it.
        version: 15 or 18.
        repaired: whether all repairs are on.
        bounds: the most backends, dead-end children and io workers.
        params: parameters that differ from the small default.
    """
    values: dict[str, Value] = {
        "version": version,
        "restart_after_crash": True,
        "logging_collector": False,
        "autovacuum": False,
        "logical_launcher": False,
        "hot_standby": True,
        "io_workers": 1 if version >= 18 else 0,
        "child_slots": 1,
        "fork_faults": False,
        "reloads": False,
        "stray_signals": False,
    }
    values.update(REPAIRED if repaired else REAL)
    values.update(params)
    workers = values["io_workers"]
    assert isinstance(workers, int)
    limits = {"backend": 1, "dead_end": 1, "io_worker": workers}
    limits.update(bounds or {})
    return Config(name, values, limits)


_ALL = [
    made
    for version in (15, 18)
    for made in (
        config(f"tiny-{version}", version, io_workers=0, bounds={"dead_end": 0}),
        config(
            f"tiny-{version}-repaired",
            version,
            repaired=True,
            io_workers=0,
            bounds={"dead_end": 0},
        ),
        config(f"doors-{version}", version, io_workers=0, bounds={"backend": 0}),
        config(f"small-{version}", version),
        config(f"small-{version}-repaired", version, repaired=True),
        config(f"no-restart-{version}", version, restart_after_crash=False),
        config(
            f"forks-fail-{version}",
            version,
            fork_faults=True,
            io_workers=0,
            bounds={"backend": 0, "dead_end": 0},
        ),
        config(
            f"full-{version}",
            version,
            logging_collector=True,
            autovacuum=True,
            logical_launcher=True,
            child_slots=2,
            bounds={"backend": 2, "dead_end": 1},
        ),
    )
]

CONFIGS: dict[str, Config] = {made.name: made for made in _ALL}
