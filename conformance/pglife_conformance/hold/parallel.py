"""Statements that are run by a parallel worker, however small they are.

Begin with   run_in_parallel().
Owns         the name of the setting for it.
Leaves out   what becomes of the workers (scenarios).
Source       BG-12; optimizer/plan/planner.c: standard_planner(). Its name is another since 16.
"""

from __future__ import annotations

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session


def parallel_setting(cluster: Cluster) -> str:
    """What is set to `on` for it."""
    is_old = cluster.target.version.major <= 15
    return "force_parallel_mode" if is_old else "debug_parallel_query"


def run_in_parallel(session: Session) -> Session:
    """From now on one parallel worker runs each statement that may be run by one."""
    session.query(f"set {parallel_setting(session.cluster)} = on")
    return session
