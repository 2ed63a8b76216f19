"""Scenarios: checkpointer."""
