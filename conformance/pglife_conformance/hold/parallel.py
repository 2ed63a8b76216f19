"""Statements that a parallel worker runs, however small they are.

Source: BG-12; optimizer/plan/planner.c: standard_planner().
"""

from pglife_conformance.cluster.session import Session
from pglife_conformance.watching.server import WatchedServer


def parallel_setting(server: WatchedServer) -> str:
    """The setting; its name changed in 16."""
    return "force_parallel_mode" if server.major <= 15 else "debug_parallel_query"


def run_in_parallel(session: Session) -> Session:
    """Let one parallel worker run each following statement that is parallel safe."""
    session.query(f"set {parallel_setting(session.server)} = on")
    return session
