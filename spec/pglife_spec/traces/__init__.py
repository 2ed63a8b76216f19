"""Traces: runs of a machine as values and as ITF files, their replay, and random runs."""
