"""pg_hba.conf: which connections are allowed, by address, database and user.

Begin with first_match(). The methods are trust and reject. There is no encryption, so hostssl and
hostgssenc lines never match.
Source: libpq/hba.c: check_hba(), load_hba(); rules CN-16, CN-17, SG-02.
"""

import shlex
import socket
from enum import Enum

from pglife_impl import ImplError
from pglife_impl.base.record import Record


class Method(Enum):
    """The authentication methods of this server."""

    TRUST = "trust"
    REJECT = "reject"


class ConnectionType(Enum):
    """The first word of a line."""

    LOCAL = "local"
    HOST = "host"
    HOSTSSL = "hostssl"
    HOSTNOSSL = "hostnossl"
    HOSTGSSENC = "hostgssenc"
    HOSTNOGSSENC = "hostnogssenc"


WITHOUT_ENCRYPTION = (ConnectionType.HOST, ConnectionType.HOSTNOSSL, ConnectionType.HOSTNOGSSENC)


class HbaError(ImplError):
    """The file is invalid; the lines loaded before stay in force."""


class HbaLine(Record):
    """One line of the file."""

    number: int
    type: ConnectionType
    databases: tuple[str, ...]
    users: tuple[str, ...]
    address: str
    mask: str
    method: Method


def load(path: str) -> list[HbaLine]:
    """Read the file; HbaError if it is unreadable, empty or invalid."""
    lines = []
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for number, text in enumerate(file, 1):
                line = _parse(number, text, path)
                if line is not None:
                    lines.append(line)
    except OSError as e:
        raise HbaError(f'could not open file "{path}": {e.strerror}') from e
    if not lines:
        raise HbaError(f'configuration file "{path}" contains no entries')
    return lines


def _parse(number: int, text: str, path: str) -> HbaLine | None:
    where = f'line {number} of configuration file "{path}"'
    try:
        words = shlex.split(text, comments=True)
    except ValueError as e:
        raise HbaError(f"invalid quoting in {where}") from e
    if not words:
        return None
    word = words.pop(0)
    try:
        kind = ConnectionType(word)
    except ValueError:
        raise HbaError(f'invalid connection type "{word}" in {where}') from None
    address = mask = ""
    if len(words) < (3 if kind is ConnectionType.LOCAL else 4):
        raise HbaError(f"end-of-line before authentication method in {where}")
    databases, users = words.pop(0).split(","), words.pop(0).split(",")
    if kind is not ConnectionType.LOCAL:
        address = words.pop(0)
        if "/" not in address and len(words) > 1:
            mask = words.pop(0)
    word = words.pop(0)
    try:
        method = Method(word)
    except ValueError:
        text = f'authentication method "{word}" is not supported by this server: {where}'
        raise HbaError(text) from None
    return HbaLine(number, kind, tuple(databases), tuple(users), address, mask, method)


def first_match(lines: list[HbaLine], host: str, user: str, database: str) -> HbaLine | None:
    """Return the first line that matches, or None; `host` is an address or [local]."""
    for line in lines:
        if _from(line, host) and _named(line.databases, database, user) and _is(line.users, user):
            return line
    return None


def _named(names: tuple[str, ...], database: str, user: str) -> bool:
    return "all" in names or database in names or ("sameuser" in names and database == user)


def _is(names: tuple[str, ...], user: str) -> bool:
    return "all" in names or user in names


def _from(line: HbaLine, host: str) -> bool:
    if host == "[local]":
        return line.type is ConnectionType.LOCAL
    if line.type not in WITHOUT_ENCRYPTION:
        return False
    if line.address == "all":
        return True
    if line.address in ("samehost", "samenet"):
        return host in ("127.0.0.1", "::1")
    network, _, bits = line.address.partition("/")
    try:
        return _in_network(host, network, bits, line.mask)
    except (OSError, ValueError):
        return False  # a host name: reverse lookup is not supported


def _in_network(host: str, network: str, bits: str, mask: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ours = int.from_bytes(socket.inet_pton(family, host.partition("%")[0]), "big")
    theirs = int.from_bytes(socket.inet_pton(family, network), "big")
    width = 128 if family == socket.AF_INET6 else 32
    if mask:
        keep = int.from_bytes(socket.inet_pton(family, mask), "big")
    else:
        length = int(bits) if bits else width
        keep = ((1 << length) - 1) << (width - length)
    return ours & keep == theirs & keep
