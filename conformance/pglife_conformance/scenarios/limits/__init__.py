"""Scenarios: limits."""
