"""Process titles, as ps shows them.

Begin with   init() in a child, then activity().
Owns         the fixed part of the title and update_process_title.
Leaves out   the words themselves (kinds.py, backend.py, session).
Source       utils/misc/ps_status.c; rules TI-30..32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, PathFinder

_fixed = ""
_shows_activity = True


COMMAND_NAME = "postgres"  # what ps -C and pstree call every process, as PostgreSQL's


def _find_setters() -> tuple[Callable[[str], None], Callable[[str], None]]:
    """setproctitle's two C functions, without the package around them: for the title, which also
    overwrites the short command name, and for that name alone.

    The package imports logging, whose hooks run at each fork and double its cost, so the extension
    module is loaded by itself. The ordinary import is the way out if its layout ever changes.
    """
    package = PathFinder.find_spec("setproctitle")
    for directory in (package.submodule_search_locations or ()) if package else ():
        for suffix in EXTENSION_SUFFIXES:
            path = f"{directory}/_setproctitle{suffix}"
            name = "setproctitle._setproctitle"
            loader = ExtensionFileLoader(name, path)
            try:
                module = loader.create_module(ModuleSpec(name, loader, origin=path))
            except ImportError:
                continue
            loader.exec_module(module)
            return module.setproctitle, module.setthreadtitle
    import setproctitle

    return setproctitle.setproctitle, setproctitle.setthreadtitle


_set_title, _set_name = _find_setters()


def _set(title: str) -> None:
    _set_title(title)
    _set_name(COMMAND_NAME)


def name_command() -> None:
    """In the postmaster, whose title stays its command line (TI-01): the short name alone."""
    _set_name(COMMAND_NAME)


def init(title: str, *, cluster_name: str, update: bool) -> None:
    """Set the fixed part; `title` ends with a space where an activity may follow."""
    global _fixed, _shows_activity
    name = f"{cluster_name}: " if cluster_name else ""
    _fixed = f"postgres: {name}{title}"
    _shows_activity = update
    _set(_fixed)


def activity(text: str) -> None:
    """Show what the process is doing, after the fixed part (TI-30, TI-31)."""
    if _shows_activity:
        _set(_fixed + text)


def configure(*, update: bool) -> None:
    """update_process_title may change at a reload."""
    global _shows_activity
    _shows_activity = update


def command_line() -> str:
    """How the postmaster itself was called."""
    return " ".join(sys.orig_argv)
