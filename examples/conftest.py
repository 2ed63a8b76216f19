"""What scenarios outside the suite need: its fixtures, and the monitor's verdict after each."""

from pglife_conformance.scenarios.conftest import (
    cluster,
    counted_cluster,
    make_cluster,
    monitored,
    pglife_state,
    stopped_cluster,
    target,
    template,
)

__all__ = [
    "cluster",
    "counted_cluster",
    "make_cluster",
    "monitored",
    "pglife_state",
    "stopped_cluster",
    "target",
    "template",
]
