"""The server log: levels, the line prefix, one write per message.

Begin with log(). Lines go to stderr; roles/logger.py copies them to files.
Source: utils/error/elog.c: send_message_to_server_log(), log_line_prefix().

Each message is one os.write(), so that lines of many processes do not mix: the kernel keeps writes
of up to 4096 bytes to a pipe whole, and appends to a file whole.
"""

import os
import time

from pglife_impl.base.words import Level
from pglife_impl.config.guc import Gucs

SHOWN = {
    Level.DEBUG5: "DEBUG",
    Level.DEBUG4: "DEBUG",
    Level.DEBUG3: "DEBUG",
    Level.DEBUG2: "DEBUG",
    Level.DEBUG1: "DEBUG",
}
STDERR = 2
LOCAL = "[local]"
UNKNOWN = "[unknown]"
# In the order of log_min_messages LOG ranks between ERROR and FATAL: it is written unless the
# setting asks for FATAL or PANIC only. client_min_messages ranks it differently.
THRESHOLDS = {level.name.lower(): level for level in Level}


class ClientIdentity:
    """The client of this process, as log_line_prefix shows it; filled in as it becomes known."""

    def __init__(self) -> None:
        self.host = ""  # LOCAL for a Unix socket
        self.port = 0
        self.user = ""
        self.database = ""
        self.application_name = ""

    @property
    def host_and_port(self) -> str:
        """The address as messages about connections show it."""
        return f"host={self.host}" + (f" port={self.port}" if self.port else "")


class _Process:
    """This process, as log_line_prefix shows it."""

    def __init__(self, backend_type: str) -> None:
        self.pid = os.getpid()
        self.start_time = time.time()
        self.backend_type = backend_type
        self.lines = 0
        self.client: ClientIdentity | None = None


class _Setup:
    prefix: str = "%m [%p] "
    threshold: Level = Level.WARNING
    zone: str = "GMT"


_process = _Process("postmaster")
_setup = _Setup()


def configure(gucs: Gucs) -> None:
    """Apply the settings of the log."""
    _setup.prefix = gucs.text("log_line_prefix")
    _setup.threshold = THRESHOLDS[gucs.text("log_min_messages")]
    zone = gucs.text("log_timezone")
    if zone != _setup.zone:
        _setup.zone = zone
        os.environ["TZ"] = zone
        time.tzset()


def become(backend_type: str) -> None:
    """Start a child's log: its own pid, start time and line counter."""
    global _process
    _process = _Process(backend_type)


def serve_client(client: ClientIdentity) -> None:
    """Show this client in the prefix from now on."""
    _process.client = client


def interesting(level: Level) -> bool:
    """Return whether a message of that level is written."""
    return level >= _setup.threshold


def log(
    level: Level,
    message: str,
    *,
    detail: str = "",
    hint: str = "",
    statement: str = "",
    sqlstate: str = "00000",
) -> None:
    """Write a message with its secondary lines, if log_min_messages includes its level."""
    if level < _setup.threshold:
        return
    lines = [f"{SHOWN.get(level, level.name)}:  {message}"]
    if detail:
        lines.append(f"DETAIL:  {detail}")
    if hint:
        lines.append(f"HINT:  {hint}")
    if statement:
        lines.append(f"STATEMENT:  {statement}")
    text = ""
    for line in lines:
        _process.lines += 1
        text += prefix(sqlstate) + line.replace("\n", "\n\t") + "\n"
    write(text)


def write(text: str) -> None:
    """Write text to stderr. An error is ignored: there is no other place to report it."""
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[os.write(STDERR, data) :]
    except OSError:
        return


def timestamp(now: float, *, milliseconds: bool) -> str:
    """Return a time like `2026-01-31 12:00:00.123 UTC`."""
    local = time.localtime(now)
    fraction = f".{int(now * 1000) % 1000:03d}" if milliseconds else ""
    return time.strftime("%Y-%m-%d %H:%M:%S", local) + fraction + " " + local.tm_zone


def prefix(sqlstate: str) -> str:
    """Return log_line_prefix with its escapes replaced."""
    template = _setup.prefix
    if template == "%m [%p] ":  # the default, on the fast path
        return f"{timestamp(time.time(), milliseconds=True)} [{_process.pid}] "
    out = []
    characters = iter(template)
    for c in characters:
        if c != "%":
            out.append(c)
            continue
        c = next(characters, "")
        width = ""
        while c and (c.isdigit() or c == "-"):
            width += c
            c = next(characters, "")
        if c == "q":
            if _process.client is None:
                break
            continue
        out.append(_padded(_escape(c, sqlstate), width))
    return "".join(out)


def _padded(text: str, width: str) -> str:
    if not width or width == "-":
        return text
    return text.ljust(-int(width)) if width.startswith("-") else text.rjust(int(width))


def _escape(c: str, sqlstate: str) -> str:
    now = time.time()
    match c:
        case "b":
            return _process.backend_type
        case "p":
            return str(_process.pid)
        case "m":
            return timestamp(now, milliseconds=True)
        case "t":
            return timestamp(now, milliseconds=False)
        case "n":
            return f"{now:.3f}"
        case "s":
            return timestamp(_process.start_time, milliseconds=False)
        case "l":
            return str(_process.lines)
        case "c":
            return f"{int(_process.start_time):x}.{_process.pid:x}"
        case "e":
            return sqlstate
        case "x":
            return "0"
        case "%":
            return "%"
    return "" if _process.client is None else _escape_client(c, _process.client)


def _escape_client(c: str, client: ClientIdentity) -> str:
    match c:
        case "a":
            return client.application_name
        case "u":
            return client.user or UNKNOWN
        case "d":
            return client.database or UNKNOWN
        case "r":
            return f"{client.host}({client.port})" if client.port else client.host
        case "h":
            return client.host
    return ""  # %P, %Q, %v, %L and %i have no value here
