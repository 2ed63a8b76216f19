"""Scenarios: signals."""
