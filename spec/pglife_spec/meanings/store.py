"""Compiled code of generated functions, kept in a directory from one process to the next.

Begin with CodeStore. Python's code is used again for the same sources of this package, the same
Python, machine by name, and configuration; native code for the same LLVM IR and processor.

A test suite of many workers runs the same model under a dozen configurations; to write a function
takes a hundred times as long as to load it.
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

DIGEST = hashlib.sha256().digest_size


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
        """Keep code for later processes."""
        self._write(self._path(machine, config, name), marshal.dumps(code))

    def get_object(self, key: str) -> bytes | None:
        """The compiled object kept under the hash of all that it depends on, or None."""
        with contextlib.suppress(OSError):
            kept = (self._directory / key).read_bytes()
            if hashlib.sha256(kept[DIGEST:]).digest() == kept[:DIGEST]:
                return kept[DIGEST:]
        return None

    def put_object(self, key: str, content: bytes) -> None:
        """Keep a compiled object for later processes. Its checksum goes first: a broken one would
        end the process that runs it."""
        self._write(self._directory / key, hashlib.sha256(content).digest() + content)

    def _write(self, path: Path, content: bytes) -> None:
        """Atomically, since other processes may be reading."""
        with contextlib.suppress(OSError):
            handle, temporary = tempfile.mkstemp(dir=self._directory)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)

    def _path(self, machine: Machine, config: Config, name: str) -> Path:
        what = (
            _fingerprint(),
            machine.name,
            sorted(config.params.items()),
            sorted(config.bounds.items()),
            name,
        )
        return self._directory / hashlib.sha256(repr(what).encode()).hexdigest()


def user_store() -> CodeStore | None:
    """What this user's commands keep, among the files that may be removed at any time."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(caches) / "pglife"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return CodeStore(directory)


@cache
def _fingerprint() -> str:
    """All that generated code depends on, except machine and configuration."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for source in sorted(package.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
