"""Compiled code of generated functions, kept in a directory from one process to the next.

Begin with CodeStore.get() and put(). Kept code is used for the same sources of this package,
Python, machine and configuration. Many workers run the same model under a dozen configurations; to
write a function takes a hundred times as long as to load it.
"""

import contextlib
import hashlib
import importlib.util
import marshal
import os
import tempfile
from functools import cache
from pathlib import Path
from types import CodeType

from pglife_spec.lang.machine import Config, Machine


class CodeStore:
    """A directory of code objects. What cannot be read or written is written anew each time.

    A machine is known by its name and the sources that declare it: one that was changed in memory,
    a mutant for instance, must not be given a store.

    Args:
        directory: an existing directory of our own; the code in it is trusted like a .pyc file.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, machine: Machine, config: Config, name: str) -> CodeType | None:
        """The code kept under this name, or None."""
        try:
            found = marshal.loads(self._path(machine, config, name).read_bytes())
        except (OSError, ValueError, EOFError, TypeError):
            return None
        return found if isinstance(found, CodeType) else None

    def put(self, machine: Machine, config: Config, name: str, code: CodeType) -> None:
        """Keep code for later processes; atomically, since other processes may be reading."""
        with contextlib.suppress(OSError):
            handle, temporary = tempfile.mkstemp(dir=self._directory)
            with os.fdopen(handle, "wb") as file:
                file.write(marshal.dumps(code))
            os.replace(temporary, self._path(machine, config, name))

    def _path(self, machine: Machine, config: Config, name: str) -> Path:
        what = (
            _fingerprint(),
            machine.name,
            sorted(config.params.items()),
            sorted(config.bounds.items()),
            name,
        )
        return self._directory / hashlib.sha256(repr(what).encode()).hexdigest()


@cache
def _fingerprint() -> str:
    """All that generated code depends on, except machine and configuration."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for source in sorted(package.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
