"""Scenarios: archiver."""
