"""The command `python -m pglife_impl.commands.pg_ctl`: start, stop and query a server.

Begin with main().
Source: src/bin/pg_ctl/pg_ctl.c, without Windows services; rules CT-01..18.
"""

import errno
import getopt
import os
import signal
import sys
from enum import Enum
from typing import NoReturn

from pglife_impl import SERVER_VERSION
from pglife_impl.base.texts import atoi
from pglife_impl.commands.pg_ctl import start
from pglife_impl.commands.pg_ctl.start import PgCtlError, say, warn
from pglife_impl.data_directory.control import BrokenControl, ControlError, DbState
from pglife_impl.data_directory.control import read as read_control
from pglife_impl.data_directory.lockfile import server_lives

DEFAULT_WAIT_S = 60
RC_FAILED = 1
RC_NOT_RUNNING = 3
RC_NO_DATA_DIRECTORY = 4
ADVICE = 'Try "pg_ctl --help" for more information.'
SIGNALS = ("HUP", "INT", "QUIT", "ABRT", "KILL", "TERM", "USR1", "USR2")
SHORT = "cD:e:l:m:N:o:p:P:sS:t:U:wWV?"
LONG = [
    "help",
    "version",
    "log=",
    "mode=",
    "pgdata=",
    "options=",
    "silent",
    "timeout=",
    "core-files",
    "wait",
    "no-wait",
]
SMART_HINT = (
    'HINT: The "-m fast" option immediately disconnects sessions rather than\n'
    "waiting for session-initiated disconnection."
)
HELP = """pg_ctl is a utility to initialize, start, stop, or control a PostgreSQL server.

Usage:
  pg_ctl init[db]   [-D DATADIR] [-s] [-o OPTIONS]
  pg_ctl start      [-D DATADIR] [-l FILENAME] [-W] [-t SECS] [-s] [-o OPTIONS]
  pg_ctl stop       [-D DATADIR] [-m SHUTDOWN-MODE] [-W] [-t SECS] [-s]
  pg_ctl restart    [-D DATADIR] [-m SHUTDOWN-MODE] [-W] [-t SECS] [-s] [-o OPTIONS]
  pg_ctl reload     [-D DATADIR] [-s]
  pg_ctl status     [-D DATADIR]
  pg_ctl promote    [-D DATADIR] [-W] [-t SECS] [-s]
  pg_ctl logrotate  [-D DATADIR] [-s]
  pg_ctl kill       SIGNALNAME PID

If the -D option is omitted, the environment variable PGDATA is used.
"""


class ShutdownMode(Enum):
    """The mode of a shutdown; the value is the signal that requests it."""

    SMART = signal.SIGTERM
    FAST = signal.SIGINT
    IMMEDIATE = signal.SIGQUIT


class Call:
    """The parsed command line."""

    command: str = ""
    data_directory: str = ""
    data_option: str = ""  # as passed to postgres
    log_file: str = ""
    options: str | None = None
    mode: ShutdownMode = ShutdownMode.FAST
    wait: bool = True
    timeout_s: int = DEFAULT_WAIT_S
    program: str = ""
    kill_signal: signal.Signals = signal.SIGTERM
    kill_pid: int = 0

    @property
    def pid_file(self) -> str:
        """The path of postmaster.pid, as messages show it."""
        return os.path.join(self.data_directory, "postmaster.pid")


class BadUsage(PgCtlError):
    """The command line is invalid; a hint to --help follows the message."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text}\n{ADVICE}")


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    if arguments[:1] in (["--help"], ["-?"]):
        sys.stdout.write(HELP)
        return 0
    if arguments[:1] in (["--version"], ["-V"]):
        sys.stdout.write(f"pg_ctl (PostgreSQL) {SERVER_VERSION}\n")
        return 0
    if os.geteuid() == 0:
        warn(
            "pg_ctl: cannot be run as root\n"
            'Please log in (using, e.g., "su") as the (unprivileged) user that will\n'
            "own the server process."
        )
        return RC_FAILED
    try:
        call = parse(arguments)
        COMMANDS[call.command](call)
    except PgCtlError as e:
        warn(e.text)
        return e.code
    return 0


def parse(arguments: list[str]) -> Call:
    """Parse the command line; BadUsage if it is invalid."""
    call = Call()
    timeout = os.environ.get("PGCTLTIMEOUT", "")
    if timeout:
        call.timeout_s = atoi(timeout)
    try:
        options, words = getopt.gnu_getopt(arguments, SHORT, LONG)
    except getopt.GetoptError as e:
        raise BadUsage(getopt_words(e)) from e
    for name, value in options:
        take_option(call, name, value)
    take_words(call, words)
    find_data_directory(call)
    return call


def getopt_words(e: getopt.GetoptError) -> str:
    """Return the C library's message for a getopt error."""
    missing = "requires argument" in e.msg
    if len(e.opt) == 1:
        text = "option requires an argument" if missing else "invalid option"
        return f"pg_ctl: {text} -- '{e.opt}'"
    text = "requires an argument" if missing else "is unrecognized"
    return f"pg_ctl: option '--{e.opt}' {text}"


def take_option(call: Call, name: str, value: str) -> None:
    """Apply one option."""
    match name:
        case "-D" | "--pgdata":
            call.data_directory = value
            call.data_option = f'-D "{value}" '
        case "-l" | "--log":
            call.log_file = value
        case "-m" | "--mode":
            call.mode = shutdown_mode(value)
        case "-o" | "--options":
            call.options = value if call.options is None else f"{call.options} {value}"
        case "-p":
            call.program = value
        case "-s" | "--silent":
            start.silent = True
        case "-t" | "--timeout":
            call.timeout_s = atoi(value)
        case "-w" | "--wait":
            call.wait = True
        case "-W" | "--no-wait":
            call.wait = False
        case "-S":
            raise PgCtlError("pg_ctl: -S option not supported on this platform")
        case _:
            return  # -c, -e, -N, -P, -U are accepted without effect


def shutdown_mode(text: str) -> ShutdownMode:
    """Return the mode of smart, fast, immediate or a first letter (CT-03)."""
    for mode in ShutdownMode:
        name = mode.name.lower()
        if text in (name, name[0]):
            return mode
    raise BadUsage(f'pg_ctl: unrecognized shutdown mode "{text}"')


def take_words(call: Call, words: list[str]) -> None:
    """Apply the command and the arguments of kill (CT-01)."""
    if not words:
        raise BadUsage("pg_ctl: no operation specified")
    call.command = words.pop(0)
    if call.command not in COMMANDS:
        raise BadUsage(f'pg_ctl: unrecognized operation mode "{call.command}"')
    if call.command == "kill":
        if len(words) < 2:
            raise BadUsage("pg_ctl: missing arguments for kill mode")
        name, pid = words.pop(0), words.pop(0)
        if name not in SIGNALS:
            raise BadUsage(f'pg_ctl: unrecognized signal name "{name}"')
        call.kill_signal = signal.Signals[f"SIG{name}"]
        call.kill_pid = killed_pid(pid)
    if words:
        raise BadUsage(f'pg_ctl: too many command-line arguments (first is "{words[0]}")')


def killed_pid(text: str) -> int:
    """Return the pid for kill.

    DIFFERS: PostgreSQL takes any other word for 0, and signals its own process group.
    """
    if not text.isdecimal() or int(text) == 0:
        raise BadUsage(f'pg_ctl: invalid process ID "{text}"')
    return int(text)


def find_data_directory(call: Call) -> None:
    """Return the directory of -D, else of PGDATA."""
    if call.data_directory:
        os.environ["PGDATA"] = call.data_directory
    call.data_directory = os.environ.get("PGDATA", "")
    if not call.data_directory and call.command != "kill":
        raise BadUsage(
            "pg_ctl: no database directory specified and environment variable PGDATA unset"
        )
    call.data_directory = os.path.normpath(call.data_directory) if call.data_directory else ""


# --- the running server ---------------------------------------------------------------------------


def recorded_pid(call: Call, *, for_status: bool = False) -> int:
    """Return the pid in the pid file, 0 without a file, negative for a single-user server."""
    directory = call.data_directory
    code = RC_NO_DATA_DIRECTORY if for_status else RC_FAILED
    try:
        os.stat(directory)
    except FileNotFoundError:
        raise PgCtlError(f'pg_ctl: directory "{directory}" does not exist', code) from None
    except OSError as e:
        raise PgCtlError(
            f'pg_ctl: could not access directory "{directory}": {e.strerror}', code
        ) from e
    if not os.path.lexists(os.path.join(directory, "PG_VERSION")):
        raise PgCtlError(
            f'pg_ctl: directory "{directory}" is not a database cluster directory', code
        )
    try:
        with open(call.pid_file, encoding="utf-8", errors="surrogateescape") as file:
            content = file.read()
    except FileNotFoundError:
        return 0
    except OSError as e:
        raise PgCtlError(f'pg_ctl: could not open PID file "{call.pid_file}": {e.strerror}') from e
    if not content:
        raise PgCtlError(f'pg_ctl: the PID file "{call.pid_file}" is empty')
    try:
        return int(content.split("\n")[0])
    except ValueError:
        raise PgCtlError(f'pg_ctl: invalid data in PID file "{call.pid_file}"') from None


def alive(pid: int) -> bool:
    """Return whether a process exists and is neither this one nor its parent."""
    if pid in (os.getpid(), os.getppid()):
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def no_pid_file(call: Call) -> NoReturn:
    """Return the error without a pid file (CT-08)."""
    raise PgCtlError(f'pg_ctl: PID file "{call.pid_file}" does not exist\nIs server running?')


def server_pid(call: Call, verb: str) -> int:
    """Return the pid of the postmaster; PgCtlError without one."""
    pid = recorded_pid(call)
    if pid == 0:
        no_pid_file(call)
    if pid < 0:
        raise PgCtlError(f"pg_ctl: cannot {verb}; single-user server is running (PID: {-pid})")
    return pid


def send(pid: int, signum: int, what: str) -> None:
    """Send a signal; PgCtlError if that fails."""
    try:
        os.kill(pid, signum)
    except OSError as e:
        raise PgCtlError(f"pg_ctl: could not send {what} signal (PID: {pid}): {e.strerror}") from e


# --- the commands ---------------------------------------------------------------------------


def do_start(call: Call) -> None:
    """Run `start` (CT-05..07)."""
    if call.command != "restart" and recorded_pid(call) != 0:
        warn("pg_ctl: another server might be running; trying to start server anyway")
    start.start(
        start.Start(
            data_directory=call.data_directory,
            data_option="" if call.command == "restart" else call.data_option,
            options=call.options,
            log_file=call.log_file,
            program=call.program,
            use_old_options=call.command == "restart",
            wait=call.wait,
            timeout_s=call.timeout_s,
        )
    )


def send_stop(call: Call, pid: int) -> None:
    """Request the shutdown.

    DIFFERS: PostgreSQL signals whatever process has the pid of a server that has died.
    """
    if not server_lives(call.data_directory):
        why = os.strerror(errno.ESRCH)
        raise PgCtlError(f"pg_ctl: could not send stop signal (PID: {pid}): {why}")
    send(pid, call.mode.value, "stop")


def do_stop(call: Call) -> None:
    """Run `stop` (CT-08..10)."""
    pid = server_pid(call, "stop server")
    send_stop(call, pid)
    if not call.wait:
        say("server shutting down\n")
        return
    wait_for_stop(call, pid)


def wait_for_stop(call: Call, pid: int) -> None:
    """Wait until the pid file is removed; the end of the process alone does not count."""

    def gone() -> bool | None:
        if recorded_pid(call) == 0:
            return True
        if not alive(pid) and recorded_pid(call) != 0:
            return False
        return None

    say("waiting for server to shut down...")
    if not start.wait_until(gone, call.timeout_s):
        say(" failed\n")
        text = "pg_ctl: server does not shut down"
        raise PgCtlError(f"{text}\n{SMART_HINT}" if call.mode is ShutdownMode.SMART else text)
    say(" done\nserver stopped\n")


def do_restart(call: Call) -> None:
    """Run `restart` (CT-11)."""
    pid = recorded_pid(call)
    if pid == 0:
        warn(
            f'pg_ctl: PID file "{call.pid_file}" does not exist\n'
            "Is server running?\ntrying to start server anyway"
        )
    elif pid < 0 and alive(-pid):
        raise PgCtlError(
            f"pg_ctl: cannot restart server; single-user server is running (PID: {-pid})\n"
            "Please terminate the single-user server and try again."
        )
    elif alive(abs(pid)) and server_lives(call.data_directory):
        send(pid, call.mode.value, "stop")
        wait_for_stop(call, pid)
    else:
        warn(f"pg_ctl: old server process (PID: {abs(pid)}) seems to be gone")
        warn("starting server anyway")
    do_start(call)


def do_reload(call: Call) -> None:
    """Run `reload` (CT-12)."""
    send(server_pid(call, "reload server"), signal.SIGHUP, "reload")
    say("server signaled\n")


def do_status(call: Call) -> None:
    """Run `status` (CT-15)."""
    pid = recorded_pid(call, for_status=True)
    if pid < 0 and alive(-pid):
        sys.stdout.write(f"pg_ctl: single-user server is running (PID: {-pid})\n")
        return
    if pid > 0 and alive(pid):
        sys.stdout.write(f"pg_ctl: server is running (PID: {pid})\n")
        path = os.path.join(call.data_directory, "postmaster.opts")
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                sys.stdout.write(file.read())
        except OSError:
            return
        return
    sys.stdout.write("pg_ctl: no server running\n")
    sys.stdout.flush()
    raise PgCtlError("", RC_NOT_RUNNING)


def do_kill(call: Call) -> None:
    """Run `kill` (CT-16)."""
    try:
        os.kill(call.kill_pid, call.kill_signal)
    except OSError as e:
        raise PgCtlError(
            f"pg_ctl: could not send signal {int(call.kill_signal)}"
            f" (PID: {call.kill_pid}): {e.strerror}"
        ) from e


def write_trigger(call: Call, name: str, what: str) -> str:
    """Create an empty signal file for the postmaster."""
    path = os.path.join(call.data_directory, name)
    try:
        with open(path, "w", encoding="utf-8"):
            pass
    except OSError as e:
        raise PgCtlError(
            f'pg_ctl: could not create {what} signal file "{path}": {e.strerror}'
        ) from e
    return path


def do_promote(call: Call) -> None:
    """Run `promote`, which always fails: there is no archive recovery here (CT-13)."""
    pid = server_pid(call, "promote server")
    if control_state(call) is not DbState.IN_ARCHIVE_RECOVERY:
        raise PgCtlError("pg_ctl: cannot promote server; server is not in standby mode")
    write_trigger(call, "promote", "promote")
    send(pid, signal.SIGUSR1, "promote")
    if not call.wait:
        say("server promoting\n")
        return
    say("waiting for server to promote...")

    def promoted() -> bool | None:
        return True if control_state(call) is DbState.IN_PRODUCTION else None

    if not start.wait_until(promoted, call.timeout_s):
        say(" stopped waiting\n")
        raise PgCtlError("pg_ctl: server did not promote in time")
    say(" done\nserver promoted\n")


def control_state(call: Call) -> DbState:
    """Return the state in the control file; PgCtlError if it cannot be read."""
    try:
        return read_control(call.data_directory).state
    except BrokenControl:
        raise PgCtlError("pg_ctl: control file appears to be corrupt") from None
    except ControlError as e:
        raise PgCtlError(f"pg_ctl: {e}") from e


def do_logrotate(call: Call) -> None:
    """Run `logrotate` (CT-14)."""
    pid = server_pid(call, "rotate log file")
    path = write_trigger(call, "logrotate", "log rotation")
    try:
        send(pid, signal.SIGUSR1, "log rotation")
    except PgCtlError:
        os.unlink(path)
        raise
    say("server signaled to rotate log file\n")


def do_init(call: Call) -> None:
    """Run `init`: initdb with this -D and -o."""
    if start.run_initdb(call.data_option, call.options or "") != 0:
        raise PgCtlError("pg_ctl: database system initialization failed")


COMMANDS = {
    "init": do_init,
    "initdb": do_init,
    "start": do_start,
    "stop": do_stop,
    "restart": do_restart,
    "reload": do_reload,
    "status": do_status,
    "promote": do_promote,
    "logrotate": do_logrotate,
    "kill": do_kill,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
