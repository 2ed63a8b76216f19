"""Scenarios: walwriter."""
