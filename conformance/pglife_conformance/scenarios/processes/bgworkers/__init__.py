"""Scenarios: bgworkers."""
