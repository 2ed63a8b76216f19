"""The executable specification of PostgreSQL's process lifecycles.

Begin with   model/ for what PostgreSQL does, lang/ for the language it is told in.
Owns         the model, its claims, and every reading of them: run, explore, prove, draw, report.
Leaves out   any server: nothing here opens a socket or starts a process.
"""
