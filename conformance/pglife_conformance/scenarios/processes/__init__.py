"""Scenarios: processes."""
