"""Holding a server, or one of its processes, in a state."""
