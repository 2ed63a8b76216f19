"""How pg_ctl starts a server and waits for it.

Begin with start().
Source: src/bin/pg_ctl/pg_ctl.c: start_postmaster(), wait_for_postmaster_start(), read_post_opts();
rules CT-02, CT-05..07, CT-11, CT-18.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from pglife_impl import ImplError
from pglife_impl.base.record import Record
from pglife_impl.base.words import PidStatus
from pglife_impl.data_directory.control import ControlError, DbState
from pglife_impl.data_directory.control import read as read_control
from pglife_impl.data_directory.lockfile import Line
from pglife_impl.os.signals import install

WAITS_PER_S = 10
START_TIME_SLACK_S = 2
STATUS_LINES = (PidStatus.READY.value, PidStatus.STANDBY.value)

silent = False


class PgCtlError(ImplError):
    """The command fails with this message on stderr and this exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Start(Record):
    """The options of a start."""

    data_directory: str
    data_option: str
    options: str | None
    log_file: str
    program: str
    use_old_options: bool
    wait: bool
    timeout_s: int


def say(text: str) -> None:
    """Print progress, unless -s was given."""
    if not silent:
        sys.stdout.write(text)
        sys.stdout.flush()


def warn(text: str) -> None:
    """Print to stderr."""
    if text:
        sys.stdout.flush()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def wait_until(done: Callable[[], bool | None], timeout_s: int) -> bool:
    """Poll ten times a second, printing a dot each second, while the result is None (CT-02)."""
    for look in range(timeout_s * WAITS_PER_S):
        outcome = done()
        if outcome is not None:
            return outcome
        if look % WAITS_PER_S == 0:
            say(".")
        time.sleep(1 / WAITS_PER_S)
    return False


def start(how: Start) -> None:
    """Start the server and, with -w, wait until it is ready or has exited (CT-05..07)."""
    program, options = command_of(how)
    os.environ["PG_GRANDPARENT_PID"] = str(os.getppid())
    since = int(time.time())
    postmaster = launch(program, how.data_option, options, how.log_file)
    if not how.wait:
        say("server starting\n")
        return
    # CT-18: an interrupt during the wait is meant for the server.
    install({signal.SIGINT: lambda: os.kill(postmaster.pid, signal.SIGINT)})
    say("waiting for server to start...")

    def ready() -> bool | None:
        if is_ready(how.data_directory, postmaster.pid, since):
            return True
        return False if postmaster.poll() is not None else None

    if wait_until(ready, how.timeout_s):
        say(" done\nserver started\n")
    elif postmaster.poll() is None:
        say(" stopped waiting\n")
        raise PgCtlError("pg_ctl: server did not start in time")
    elif postmaster.poll() == 0 and ended_in_recovery(how.data_directory):
        say(" done\nserver shut down because of recovery target settings\n")
    else:
        say(" stopped waiting\n")
        raise PgCtlError("pg_ctl: could not start server\nExamine the log output.")


def command_of(how: Start) -> tuple[str, str]:
    """Return the program and its options; a restart reads postmaster.opts (CT-11)."""
    program = how.program or shlex.join([sys.executable, "-m", "pglife_impl.commands.postgres"])
    if how.options is not None or not how.use_old_options:
        if how.use_old_options:
            return program, f'-D "{how.data_directory}" {how.options}'
        return program, how.options or ""
    path = os.path.join(how.data_directory, "postmaster.opts")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        raise PgCtlError(f'pg_ctl: could not read file "{path}"') from None
    if len(lines) != 1:
        raise PgCtlError(f'pg_ctl: option file "{path}" must have exactly one line')
    old_program, quote, options = lines[0].partition(' "')
    return how.program or old_program, f'"{options}' if quote else ""


def launch(program: str, data_option: str, options: str, log_file: str) -> subprocess.Popen[bytes]:
    """Start the postmaster in its own session.

    As in PostgreSQL a shell runs it, so that -o may use the shell's quoting.
    """
    command = f"exec {program} {data_option}{options} < /dev/null"
    if log_file:
        check_log_file(log_file)
        command += f" >> {shlex.quote(log_file)} 2>&1"
    try:
        return subprocess.Popen(["/bin/sh", "-c", command], start_new_session=True)
    except OSError as e:
        raise PgCtlError(f"pg_ctl: could not start server: {e.strerror}") from e


def check_log_file(path: str) -> None:
    """PgCtlError if the log file cannot be written, before a server is started."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as e:
        raise PgCtlError(f'pg_ctl: could not open log file "{path}": {e.strerror}') from e


def is_ready(data_directory: str, pid: int, since: int) -> bool:
    """Return whether the pid file is of this start and says that the server is open (CT-05)."""
    path = os.path.join(data_directory, "postmaster.pid")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().split("\n")
        if len(lines) <= Line.STATUS:
            return False
        if int(lines[Line.PID - 1]) != pid:
            return False
        if int(lines[Line.START_TIME - 1]) < since - START_TIME_SLACK_S:
            return False
    except (OSError, ValueError):
        return False
    return lines[Line.STATUS - 1] in STATUS_LINES


def ended_in_recovery(data_directory: str) -> bool:
    """Return whether the server shut down at its recovery target (CT-07).

    DIFFERS: PostgreSQL asks this of a server that has failed, too. The control file then still
    has the state that the shutdown before has left.
    """
    try:
        return read_control(data_directory).state is DbState.SHUTDOWNED_IN_RECOVERY
    except ControlError:
        return False


def run_initdb(data_option: str, options: str) -> int:
    """Run initdb as a separate program; return its exit status."""
    program = shlex.join([sys.executable, "-m", "pglife_impl.commands.initdb"])
    command = f"{program} {data_option}{options}"
    if silent:
        command += " > /dev/null"
    return subprocess.run(["/bin/sh", "-c", command], check=False).returncode
