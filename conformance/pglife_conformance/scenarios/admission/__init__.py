"""Scenarios: admission."""
