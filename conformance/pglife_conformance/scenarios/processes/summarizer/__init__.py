"""Scenarios: summarizer."""
