"""The bundled server: PostgreSQL 18's process architecture as a small server of real processes.

Begin with commands/postgres.py (the program), postmaster/loop.py (the server loop) and
postmaster/decide.py (its decisions). impl/README.md is the map.
"""

SERVER_VERSION = "18.6 (pglife)"
SERVER_VERSION_NUM = 180006
MAJOR_VERSION = "18"


class ImplError(Exception):
    """Base of every exception this package raises."""
