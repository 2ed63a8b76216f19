"""Scenarios: matrix."""
