"""Scenarios: logger."""
