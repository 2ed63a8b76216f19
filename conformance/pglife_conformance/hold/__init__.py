"""Holding a server in one state from outside: stopped children, barriers, limits, a debugger."""
