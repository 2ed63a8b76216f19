"""Scenarios: crash."""
