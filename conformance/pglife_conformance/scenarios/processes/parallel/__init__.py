"""Scenarios: parallel."""
