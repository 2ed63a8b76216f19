"""Reports: what is claimed of PostgreSQL, by which method it is known, and what shows it.

Begin with collect.py (what a report says), then render.py (how it looks), console.py (terminals).
"""
