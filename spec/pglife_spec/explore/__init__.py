"""Exploration: every state of a machine under one configuration, and what can be seen there.

Begin with   search.explore for safety, liveness.check for liveness.
Owns         the search itself, shortest traces, coverage, fair lassos.
Leaves out   proofs for every size (prove/) and pictures (draw/).
"""

from pglife_spec.explore.liveness import Verdict, check_property
from pglife_spec.explore.search import Exploration, Progress, explore

__all__ = ["Exploration", "Progress", "Verdict", "check_property", "explore"]
