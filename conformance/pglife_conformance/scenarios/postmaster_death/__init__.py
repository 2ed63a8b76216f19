"""Scenarios: postmaster death."""
