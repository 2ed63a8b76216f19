"""Proofs: claims that hold for any number of children and any configuration. Begin with prove().

The only package that imports z3.
"""
