"""Process titles, as ps shows them.

Begin with init() in a child, then activity().

Source: utils/misc/ps_status.c; rules TI-30..32.
"""

from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, PathFinder

_fixed = ""
_shows_activity = True
COMMAND_NAME = "postgres"  # the short name of every process, for ps -C and pstree


def _find_setters() -> tuple[Callable[[str], None], Callable[[str], None]]:
    """Return setproctitle's two C functions: one sets the title and overwrites the short name,
    the other sets the short name only.

    The package imports logging, whose hooks run at each fork and double its cost, so only the
    extension module is loaded. If its layout changes, the ordinary import still works.
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
    """Set the short name only: the postmaster's title stays its command line (TI-01)."""
    _set_name(COMMAND_NAME)


def init(title: str, *, cluster_name: str, update: bool) -> None:
    """Set the fixed part of the title.

    Args:
        title: ends with a space if an activity may follow.
        update: the setting update_process_title.
    """
    global _fixed, _shows_activity
    name = f"{cluster_name}: " if cluster_name else ""
    _fixed = f"postgres: {name}{title}"
    _shows_activity = update
    _set(_fixed)


def activity(text: str) -> None:
    """Show an activity after the fixed part, unless update_process_title is off (TI-30, TI-31)."""
    if _shows_activity:
        _set(_fixed + text)


def configure(*, update: bool) -> None:
    """Apply update_process_title after a reload."""
    global _shows_activity
    _shows_activity = update
