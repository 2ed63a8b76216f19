"""Scenarios: standby."""
