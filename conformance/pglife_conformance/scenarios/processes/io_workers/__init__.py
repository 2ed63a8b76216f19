"""Scenarios: io workers."""
