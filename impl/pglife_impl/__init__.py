"""The bundled server: PostgreSQL 18's process architecture, small, real and forked.

Begin with   postgres.py (the command), then postmaster.py (the loop) and pm_*.py (the decisions).
Owns         the version it reports and the base of the package's exceptions.
Leaves out   what a database does beyond living and dying; see README.md.
Source       PostgreSQL 18.6, as retold in docs by numbered rules.
"""

SERVER_VERSION = "18.6 (pglife)"
SERVER_VERSION_NUM = 180006
MAJOR_VERSION = "18"


class ImplError(Exception):
    """Base of every exception this package raises."""
