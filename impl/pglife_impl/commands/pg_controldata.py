"""The command `python -m pglife_impl.commands.pg_controldata`: print the control file.

Lines about features that this server does not have are missing; the alignment is PostgreSQL's,
because scripts rely on it.
Source: src/bin/pg_controldata/pg_controldata.c; rule CT-20.
"""

import getopt
import os
import sys
import time

from pglife_impl import SERVER_VERSION
from pglife_impl.data_directory.control import (
    CATALOG_VERSION,
    STATE_NAMES,
    VERSION,
    Control,
    ControlError,
    read,
    show_lsn,
)

ADVICE = 'pg_controldata: hint: Try "pg_controldata --help" for more information.\n'
WIDTH = 38
HELP = """pg_controldata displays control information of a PostgreSQL database cluster.

Usage:
  pg_controldata [OPTION] [DATADIR]

Options:
 [-D, --pgdata=]DATADIR  data directory
  -V, --version          output version information, then exit
  -?, --help             show this help, then exit
"""


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    try:
        options, words = getopt.gnu_getopt(arguments, "D:V?", ["pgdata=", "version", "help"])
    except getopt.GetoptError as e:
        sys.stderr.write(f"pg_controldata: {e.msg}\n{ADVICE}")
        return 1
    directory = ""
    for name, value in options:
        if name in ("-V", "--version"):
            sys.stdout.write(f"pg_controldata (PostgreSQL) {SERVER_VERSION}\n")
            return 0
        if name in ("-?", "--help"):
            sys.stdout.write(HELP)
            return 0
        directory = value
    if not directory and words:
        directory = words.pop(0)
    if words:
        sys.stderr.write(
            "pg_controldata: error: too many command-line arguments"
            f' (first is "{words[0]}")\n{ADVICE}'
        )
        return 1
    directory = directory or os.environ.get("PGDATA", "")
    if not directory:
        sys.stderr.write(f"pg_controldata: error: no data directory specified\n{ADVICE}")
        return 1
    try:
        control = read(directory)
    except ControlError as e:
        sys.stderr.write(f"pg_controldata: error: {e}\n")
        return 1
    for name, shown in rows(control):
        sys.stdout.write(f"{name + ':':<{WIDTH}}{shown}\n")
    return 0


def rows(control: Control) -> list[tuple[str, str]]:
    """Return the labels and values in PostgreSQL's order."""
    return [
        ("pg_control version number", str(VERSION)),
        ("Catalog version number", str(CATALOG_VERSION)),
        ("Database system identifier", str(control.system_identifier)),
        ("Database cluster state", STATE_NAMES[control.state]),
        ("pg_control last modified", when(control.time)),
        ("Latest checkpoint location", show_lsn(control.checkpoint)),
        ("Latest checkpoint's REDO location", show_lsn(control.redo)),
        ("Latest checkpoint's TimeLineID", "1"),
        ("Time of latest checkpoint", when(control.checkpoint_time)),
        ("wal_level setting", ("minimal", "replica", "logical")[control.wal_level]),
        ("max_connections setting", str(control.max_connections)),
        ("max_worker_processes setting", str(control.max_worker_processes)),
        ("max_wal_senders setting", str(control.max_wal_senders)),
        ("max_prepared_xacts setting", str(control.max_prepared_transactions)),
    ]


def when(moment: float) -> str:
    """Return a time as C's %c prints it in the C locale."""
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(moment))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
