"""A client's session: statements, transactions, interrupts, from admission to its end.

Begin with protocol/loop.py: serve(); then context.py, what a session needs of its process.
Source: tcop/postgres.c.
"""
