"""Scenarios: log."""
