"""Scenarios: startup."""
