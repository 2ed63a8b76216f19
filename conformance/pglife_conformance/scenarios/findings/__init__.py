"""Scenarios: findings."""
