"""What the fixture `pglife` gives."""

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
"""A run of the command line: exit status, output, complaints."""
