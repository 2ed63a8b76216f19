"""Formulas for Z3."""
