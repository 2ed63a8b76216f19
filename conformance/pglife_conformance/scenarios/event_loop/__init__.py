"""Scenarios: event loop."""
