"""Scenarios: autovacuum."""
