"""Scenarios: pg ctl."""
