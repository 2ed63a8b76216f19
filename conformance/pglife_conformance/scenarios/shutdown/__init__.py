"""Scenarios: shutdown."""
