"""Expectations that many scenarios share: crashes, log lines, reloads."""
