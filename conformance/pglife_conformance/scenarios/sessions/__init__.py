"""Scenarios: sessions."""
