"""Shared memory: one anonymous mapping that every child inherits."""
