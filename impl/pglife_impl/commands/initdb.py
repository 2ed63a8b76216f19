"""The command `python -m pglife_impl.commands.initdb`: create a data directory.

Locales, encodings and authentication methods other than trust are not supported; PostgreSQL's
options for them are accepted and have no effect.
Source: src/bin/initdb/initdb.c: main(), initialize_data_directory().
"""

import argparse
import os
import pwd
import sys
import time

from pglife_impl import MAJOR_VERSION, SERVER_VERSION, ImplError
from pglife_impl.data_directory.catalog import Catalog
from pglife_impl.data_directory.control import Control, DbState

FIRST_CHECKPOINT = 0x16EF458  # as early in the first segment as PostgreSQL's
DIRECTORIES = (
    "global",
    "base",
    "pg_wal",
    "pg_wal/archive_status",
    "pg_stat",
    "pg_stat_tmp",
    "pg_tblspc",
    "pg_xact",
    "pg_notify",
    "pg_logical",
    "pg_replslot",
    "pg_twophase",
)
CONFIGURATION = """# Settings of this cluster; name = value, as for PostgreSQL 18.
# Settings not listed have PostgreSQL's defaults.

max_connections = 100
shared_buffers = 128MB
dynamic_shared_memory_type = posix
max_wal_size = 1GB
min_wal_size = 80MB
log_timezone = '{zone}'
datestyle = 'iso, mdy'
timezone = '{zone}'
client_encoding = 'UTF8'

# The SQL parser, read once by the postmaster and not by each session at its first statement. With
# it sessions are cheap from the first statement on, and start and forks are dearer.
#shared_preload_libraries = 'pglife_sql'
"""
HBA = """# TYPE  DATABASE        USER            ADDRESS                 METHOD
local   all             all                                     trust
host    all             all             127.0.0.1/32            trust
host    all             all             ::1/128                 trust
"""
# Accepted without effect; the value says whether the option takes an argument.
IGNORED = {
    "--auth-host": True,
    "--auth-local": True,
    "--encoding": True,
    "--locale": True,
    "--locale-provider": True,
    "--builtin-locale": True,
    "--icu-locale": True,
    "--lc-collate": True,
    "--lc-ctype": True,
    "--lc-messages": True,
    "--lc-monetary": True,
    "--lc-numeric": True,
    "--lc-time": True,
    "--text-search-config": True,
    "--waldir": True,
    "--wal-segsize": True,
    "--pwfile": True,
    "--allow-group-access": False,
    "--no-locale": False,
    "--data-checksums": False,
    "--no-data-checksums": False,
    "--no-clean": False,
    "--no-instructions": False,
    "--sync-only": False,
    "--no-sync-data-files": False,
    "--debug": False,
    "--show": False,
}
SHORT_IGNORED = {"-E": True, "-T": True, "-X": True, "-g": False, "-k": False, "-n": False}


class InitdbError(ImplError):
    """The cluster cannot be created; the message goes to stderr."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="initdb", description="initdb initializes a PostgreSQL database cluster."
    )
    made.add_argument("-D", "--pgdata", default=None)
    made.add_argument("directory", nargs="?")
    made.add_argument("-U", "--username", default=None)
    made.add_argument("-A", "--auth", default="trust")
    made.add_argument("-N", "--no-sync", action="store_true")
    made.add_argument("-S", action="store_true", dest="sync_only")
    made.add_argument("-c", "--set", action="append", default=[], dest="settings")
    made.add_argument(
        "-V", "--version", action="version", version=f"initdb (PostgreSQL) {SERVER_VERSION}"
    )
    for names in (IGNORED, SHORT_IGNORED):
        for name, has_value in names.items():
            action = "store" if has_value else "store_true"
            made.add_argument(name, action=action, help=argparse.SUPPRESS, dest="ignored")
    return made


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    given = parser().parse_args(arguments)
    directory = given.pgdata or given.directory or os.environ.get("PGDATA")
    try:
        if os.geteuid() == 0:
            raise InitdbError(
                'cannot be run as root\ninitdb: hint: Please log in (using, e.g., "su") as the'
                " (unprivileged) user that will own the server process."
            )
        if not directory:
            raise InitdbError(
                "no data directory specified\ninitdb: hint: You must identify the directory where"
                " the data for this database system will reside.  Do this with either the"
                " invocation option -D or the environment variable PGDATA."
            )
        user = given.username or user_name()
        if user.startswith("pg_"):
            raise InitdbError(
                f'superuser name "{user}" is disallowed; role names cannot begin with "pg_"'
            )
        if given.auth != "trust":
            sys.stderr.write(
                f'initdb: warning: authentication method "{given.auth}" is not supported,'
                " trust is used\n"
            )
        make_cluster(os.path.abspath(directory), user, given.settings)
    except InitdbError as e:
        sys.stderr.write(f"initdb: error: {e}\n")
        return 1
    except OSError as e:
        sys.stderr.write(f'initdb: error: could not write to "{e.filename}": {e.strerror}\n')
        return 1
    program = f"{sys.executable} -m pglife_impl.commands.pg_ctl"
    sys.stdout.write(
        "\nSuccess. You can now start the database server using:\n\n"
        f"    {program} -D {directory} -l logfile start\n\n"
    )
    return 0


def user_name() -> str:
    """Return the name of the operating-system user."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as e:
        raise InitdbError(f"could not look up effective user ID {os.geteuid()}") from e


def make_cluster(directory: str, superuser: str, settings: list[str]) -> None:
    """Create the cluster; InitdbError unless the directory is missing or empty."""
    say = sys.stdout.write
    say(
        f'The files belonging to this database system will be owned by user "{user_name()}".\n'
        "This user must also own the server process.\n\n"
    )
    extra = [setting_line(text) for text in settings]
    if os.path.isdir(directory):
        if os.listdir(directory):
            raise InitdbError(
                f'directory "{directory}" exists but is not empty\n'
                "initdb: hint: If you want to create a new database system, either remove or empty"
                f' the directory "{directory}" or run initdb with an argument other than'
                f' "{directory}".'
            )
        say(f"fixing permissions on existing directory {directory} ... ")
        os.chmod(directory, 0o700)
    else:
        say(f"creating directory {directory} ... ")
        os.makedirs(directory, mode=0o700)
    say("ok\ncreating subdirectories ... ")
    for name in DIRECTORIES:
        os.mkdir(os.path.join(directory, name), 0o700)
    say("ok\ncreating configuration files ... ")
    put(directory, "PG_VERSION", f"{MAJOR_VERSION}\n")
    put(directory, "postgresql.conf", CONFIGURATION.format(zone=zone_name()) + "".join(extra))
    put(directory, "postgresql.auto.conf", "# ALTER SYSTEM would write here.\n")
    put(directory, "pg_hba.conf", HBA)
    put(directory, "pg_ident.conf", "# MAPNAME       SYSTEM-USERNAME         PG-USERNAME\n")
    say("ok\nwriting control file and catalog ... ")
    now = time.time()
    # As in PostgreSQL the identifier is made of the time and the pid, so that it is unique.
    identifier = (int(now) << 32) | (int(now * 1e6) % 1000000 << 12) | (os.getpid() & 0xFFF)
    Control(identifier, DbState.SHUTDOWNED, now, now, FIRST_CHECKPOINT, FIRST_CHECKPOINT).write(
        directory, sync=False
    )
    Catalog(directory).bootstrap(superuser)
    say("ok\n")


def setting_line(text: str) -> str:
    """Return `-c name=value` as a line of postgresql.conf."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InitdbError(f"-c {text} requires a value")
    escaped = value.replace("'", "''")
    return f"{name} = '{escaped}'\n"


def zone_name() -> str:
    """Return the time zone for the log and for sessions."""
    return os.environ.get("TZ", "").lstrip(":") or "Etc/UTC"


def put(directory: str, name: str, text: str) -> None:
    """Write a file that only its owner may access."""
    path = os.path.join(directory, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
