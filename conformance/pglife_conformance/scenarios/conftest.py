"""Fixtures for the scenarios."""

from pglife_conformance.fixtures import (
    cluster,
    make_cluster,
    pglife_state,
    stopped_cluster,
    target,
    template,
)

__all__ = [
    "cluster",
    "make_cluster",
    "pglife_state",
    "stopped_cluster",
    "target",
    "template",
]
