"""The background processes, one module each; begin with startup.py and checkpointer.py."""
