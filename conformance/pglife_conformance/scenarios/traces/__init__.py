"""Scenarios: traces."""
