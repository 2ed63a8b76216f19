"""The conformance suite: holds any server to the lifecycles of PostgreSQL, from outside.

Begin with pytest/plugin.py, then cluster/cluster.py, the verbs of a scenario.
"""
