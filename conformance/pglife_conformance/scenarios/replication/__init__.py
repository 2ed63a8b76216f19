"""Scenarios: replication."""
