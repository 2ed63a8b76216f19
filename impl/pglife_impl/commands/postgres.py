"""The command `python -m pglife_impl.commands.postgres`: options, settings, then the postmaster.

Begin with main(). The checks here precede postmaster.pid.
Source: main/main.c, postmaster.c: PostmasterMain(); utils/misc/guc.c: SelectConfigFiles();
utils/init/miscinit.c: checkDataDir(), ValidatePgVersion(); rules ST-01, ST-02.
"""

import gc
import os
import stat
import sys

from pglife_impl import MAJOR_VERSION, SERVER_VERSION, ImplError
from pglife_impl.base.capabilities import CAPABILITIES
from pglife_impl.base.repairs import REPAIRS
from pglife_impl.base.words import Level
from pglife_impl.config.guc import Gucs, check_reserved, check_wal
from pglife_impl.config.value import GucError
from pglife_impl.data_directory import control
from pglife_impl.data_directory.control import ControlError
from pglife_impl.log import elog

EXIT_BAD = 1
EXIT_UNREADABLE = 2  # an error in the configuration or control file (ST-02)

ROOT = """"root" execution of the PostgreSQL server is not permitted.
The server must be started under an unprivileged user ID to prevent
possible system security compromise.  See the documentation for
more information on how to properly start the server.
"""
USAGE = """postgres is pglife's small PostgreSQL server.

Usage:
  postgres [OPTION]...

Options:
  -B NBUFFERS        number of shared buffers
  -c NAME=VALUE      set run-time parameter
  -C NAME            print value of run-time parameter, then exit
  -d 1-5             debugging level
  -D DATADIR         database directory
  -F                 turn fsync off
  -h HOSTNAME        host name or IP address to listen on
  -i                 enable TCP/IP connections
  -k DIRECTORY       Unix-domain socket location
  -N MAX-CONNECT     maximum number of allowed connections
  -p PORT            port number to listen on
  --NAME=VALUE       set run-time parameter
  --capabilities     print what the conformance suite may ask of this server, then exit
  --repairs          print the repaired defects of PostgreSQL by name, then exit
  -V, --version      output version information, then exit
  -?, --help         show this help, then exit
"""
# Options that set a setting.
SETTINGS = {
    "B": "shared_buffers",
    "h": "listen_addresses",
    "k": "unix_socket_directories",
    "l": "ssl",
    "N": "max_connections",
    "p": "port",
    "S": "work_mem",
}
WITH_VALUE = frozenset("BcCdDhkNpS")
FLAGS = {"F": ("fsync", "off"), "i": ("listen_addresses", "*"), "l": ("ssl", "on")}


class Refused(ImplError):
    """The server cannot start. `text` is printed to stderr, or logged if `fatal`."""

    def __init__(
        self,
        text: str,
        code: int = EXIT_BAD,
        *,
        fatal: bool = False,
        detail: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.fatal = fatal
        self.detail = detail
        self.hint = hint


class Options:
    """The parsed command line."""

    def __init__(self) -> None:
        self.data_directory = os.environ.get("PGDATA", "")
        self.settings: list[tuple[str, str]] = []
        self.print_name = ""


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    if arguments[:1] in (["--help"], ["-?"]):
        sys.stdout.write(USAGE)
        return 0
    if arguments[:1] in (["--version"], ["-V"]):
        sys.stdout.write(f"postgres (PostgreSQL) {SERVER_VERSION}\n")
        return 0
    if arguments[:1] == ["--capabilities"]:
        sys.stdout.write("".join(f"{name}\n" for name in CAPABILITIES))
        return 0
    if arguments[:1] == ["--repairs"]:
        sys.stdout.write("".join(f"{name}\n" for name in REPAIRS))
        return 0
    try:
        # As in PostgreSQL root may print a setting, which is harmless.
        if os.geteuid() == 0 and "-C" not in arguments:
            raise Refused(ROOT)
        gucs = Gucs()
        options = parse(arguments)
        data_directory = configure(gucs, options)
        if options.print_name:
            return print_setting(gucs, options.print_name)
        check(gucs, data_directory)
    except Refused as refused:
        if refused.fatal:
            elog.log(Level.FATAL, refused.text, detail=refused.detail, hint=refused.hint)
        else:
            elog.write(refused.text)
        return refused.code
    # Imported modules are never freed, so the collector need not scan them. The postmaster runs
    # without it; each child turns it on.
    gc.disable()
    from pglife_impl.postmaster.loop import run  # the server's modules, which only this path needs

    return run(gucs, data_directory, arguments)


def parse(arguments: list[str]) -> Options:
    """Parse the command line as getopt does: -p1 and -p 1, joined flags."""
    options = Options()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            add_long(options, word[2:])
        elif word.startswith("-") and word != "-":
            add_short(options, word[1:], rest)
        else:
            raise Refused(
                f'postgres: invalid argument: "{word}"\n'
                'Try "postgres --help" for more information.\n'
            )
    return options


def add_long(options: Options, text: str) -> None:
    """Parse `--name=value`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise Refused(f"--{text} requires a value", fatal=True)
    options.settings.append((name.replace("-", "_"), value))


def add_short(options: Options, letters: str, rest: list[str]) -> None:
    """Parse one word of short options."""
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in FLAGS:
            options.settings.append(FLAGS[letter])
            continue
        if letter not in WITH_VALUE:
            raise Refused(
                f"postgres: invalid option -- '{letter}'\n"
                'Try "postgres --help" for more information.\n'
            )
        if not letters and not rest:
            raise Refused(
                f"postgres: option requires an argument -- '{letter}'\n"
                'Try "postgres --help" for more information.\n'
            )
        value = letters or rest.pop(0)
        add_with_value(options, letter, value)
        return


def add_with_value(options: Options, letter: str, value: str) -> None:
    """Apply a short option that takes a value."""
    match letter:
        case "D":
            options.data_directory = value
        case "C":
            options.print_name = value
        case "c":
            name, equals, text = value.partition("=")
            if not equals:
                raise Refused(f"-c {value} requires a value", fatal=True)
            options.settings.append((name.replace("-", "_"), text))
        case "d":
            level = f"debug{value}" if value != "0" else "notice"
            options.settings.append(("log_min_messages", level))
        case _:
            options.settings.append((SETTINGS[letter], value))


def configure(gucs: Gucs, options: Options) -> str:
    """Apply the command line, then the files that it may name; return the data directory."""
    try:
        for name, value in options.settings:
            gucs.put_from_command_line(name, value)
    except GucError as e:
        raise Refused(e.message, fatal=True, detail=e.detail, hint=e.hint) from e
    directory = find_configuration(gucs, options.data_directory)
    loaded = gucs.load(starting=True)
    for line in loaded.lines:
        elog.log(Level.LOG, line)
    if loaded.verdict:
        raise Refused(loaded.verdict, fatal=True)
    gucs.put_internal("data_directory", directory)
    elog.configure(gucs)
    return directory


def find_configuration(gucs: Gucs, data_directory: str) -> str:
    """Find the configuration file; Refused if it is missing (SelectConfigFiles(), ST-02)."""
    file = gucs.text("config_file")
    if not data_directory and not file:
        raise Refused(
            "postgres does not know where to find the server configuration file.\n"
            "You must specify the --config-file or -D invocation option or set the PGDATA"
            " environment variable.\n",
            EXIT_UNREADABLE,
        )
    directory = os.path.abspath(data_directory or os.path.dirname(file))
    try:
        os.stat(directory)
    except OSError as e:
        more = ""
        if isinstance(e, FileNotFoundError):
            more = "Run initdb or pg_basebackup to initialize a PostgreSQL data directory.\n"
        raise Refused(
            f'postgres: could not access directory "{directory}": {e.strerror}\n{more}',
            EXIT_UNREADABLE,
        ) from e
    file = os.path.abspath(file) if file else os.path.join(directory, "postgresql.conf")
    try:
        os.stat(file)
    except OSError as e:
        raise Refused(
            f'postgres: could not access the server configuration file "{file}": {e.strerror}\n',
            EXIT_UNREADABLE,
        ) from e
    gucs.config_file = file
    gucs.put_internal("config_file", file)
    for name, base in (("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")):
        if not gucs.text(name):
            gucs.put_internal(name, os.path.join(directory, base))
    return directory


def print_setting(gucs: Gucs, name: str) -> int:
    """Print the value of a setting as GetConfigOption() returns it (-C)."""
    try:
        definition = gucs.definition(name)
    except GucError as e:
        raise Refused(e.message, fatal=True) from e
    value = gucs.get(definition.name)
    shown = definition.show(value) if isinstance(value, bool) else str(value)
    sys.stdout.write(shown + "\n")
    return 0


def check(gucs: Gucs, directory: str) -> None:
    """Check data directory, version, control file and settings (ST-01, ST-02)."""
    check_directory(directory)
    path = os.path.join(directory, control.PATH)
    try:
        with open(path, "rb"):
            pass
    except OSError as e:
        raise Refused(
            "postgres: could not find the database system\n"
            f'Expected to find it in the directory "{directory}",\n'
            f'but could not open file "{path}": {e.strerror}\n',
            EXIT_UNREADABLE,
        ) from e
    reserved = check_reserved(gucs)
    if reserved:
        raise Refused(f"postgres: {reserved}\n")
    wal = check_wal(gucs)
    if wal:
        raise Refused(wal, fatal=True)
    try:
        control.read(directory)
    except ControlError as e:
        raise Refused(str(e), fatal=True) from e


def check_directory(directory: str) -> None:
    """Refused unless the directory is this user's, private, and of this version."""
    status = os.stat(directory)
    if not stat.S_ISDIR(status.st_mode):
        raise Refused(f'specified data directory "{directory}" is not a directory', fatal=True)
    if status.st_uid != os.geteuid():
        raise Refused(
            f'data directory "{directory}" has wrong ownership',
            fatal=True,
            hint="The server must be started by the user that owns the data directory.",
        )
    if stat.S_IMODE(status.st_mode) & 0o027:
        raise Refused(
            f'data directory "{directory}" has invalid permissions',
            fatal=True,
            detail="Permissions should be u=rwx (0700) or u=rwx,g=rx (0750).",
        )
    path = os.path.join(directory, "PG_VERSION")
    try:
        with open(path, encoding="utf-8") as file:
            version = file.read().strip()
    except FileNotFoundError:
        raise Refused(
            f'"{directory}" is not a valid data directory',
            fatal=True,
            detail=f'File "{path}" is missing.',
        ) from None
    except OSError as e:
        raise Refused(f'could not open file "{path}": {e.strerror}', fatal=True) from e
    if version != MAJOR_VERSION:
        raise Refused(
            "database files are incompatible with server",
            fatal=True,
            detail=f"The data directory was initialized by PostgreSQL version {version},"
            f" which is not compatible with this version {SERVER_VERSION}.",
        )


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
