"""Scenarios: bgwriter."""
