"""Scenarios: lock file."""
