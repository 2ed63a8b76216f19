"""The server log."""
