"""Shared by all other folders: kinds of process, ids, records, levels, exits, repairs."""
