"""Exploration: every state of a machine under one configuration, and what can be seen there.

Begin with search.explore() for safety, liveness.check_property() for liveness.
"""

from pglife_spec.explore.liveness import Verdict, check_properties, check_property
from pglife_spec.explore.search import Exploration, Progress, explore

__all__ = ["Exploration", "Progress", "Verdict", "check_properties", "check_property", "explore"]
