"""The command `pglife`: one module for each subject; `main.py` puts them together."""
