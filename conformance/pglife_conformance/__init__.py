"""The conformance suite: holds any server to the lifecycles of PostgreSQL, from outside.

Begin with   plugin.py (what pytest sees), then cluster.py (the verbs of a scenario).
Owns         targets, observation, pins, verdicts, the scenarios.
Leaves out   what is allowed: that is pglife_spec's, asked by the monitor.
"""
