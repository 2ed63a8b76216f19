"""The listening sockets: TCP and Unix sockets, their log lines, their removal.

Begin with open_all().
Source: libpq/pqcomm.c: ListenServerPort(), postmaster.c: PostmasterMain(); rule ST-06.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterable

from pglife_impl import ImplError
from pglife_impl.base.words import Level
from pglife_impl.data_directory.lockfile import LockFiles
from pglife_impl.log.elog import log

BACKLOG = 200
FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


class NoSockets(ImplError):
    """No TCP socket, or no Unix socket, could be opened although some were configured."""


class Sockets:
    """All listening sockets of the postmaster."""

    def __init__(self, port: int, data_directory: str, locks: LockFiles) -> None:
        self.port = port
        self.data_directory = data_directory
        self.locks = locks
        self.opened: list[socket.socket] = []
        self.unix_paths: dict[str, int] = {}
        """Each Unix socket's file and its inode."""
        self.first_address = ""
        self.first_directory = ""

    def open_all(self, addresses: str, directories: str) -> None:
        """Open the configured sockets; NoSockets if all of one kind fail (ST-06)."""
        names = _list("listen_addresses", addresses)
        for name in names:
            before = len(self.opened)
            self._open_tcp(name)
            if len(self.opened) == before:
                log(Level.WARNING, f'could not create listen socket for "{name}"')
            elif not self.first_address:
                self.first_address = name
        if names and not self.opened:
            raise NoSockets("could not create any TCP/IP sockets")
        unix = _list("unix_socket_directories", directories)
        for directory in unix:
            if not self._open_unix(directory):
                log(
                    Level.WARNING, f'could not create Unix-domain socket in directory "{directory}"'
                )
            elif not self.first_directory:
                self.first_directory = directory
        if unix and not self.unix_paths:
            raise NoSockets("could not create any Unix-domain sockets")
        if not self.opened:
            raise NoSockets("no socket created for listening")

    def _open_tcp(self, name: str) -> None:
        host = None if name == "*" else name
        try:
            found = socket.getaddrinfo(
                host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except socket.gaierror as e:
            where = f'host name "{host}", service "{self.port}"' if host else f'"{self.port}"'
            log(Level.LOG, f"could not translate {where} to address: {e.strerror}")
            return
        for family, _, _, _, address in found:
            if family in FAMILIES:
                self._open_address(family, address)

    def _open_address(self, family: socket.AddressFamily, address: tuple[object, ...]) -> None:
        shown = f'{FAMILIES[family]} address "{address[0]}"'
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
        except OSError as e:
            log(
                Level.LOG,
                f"could not create {FAMILIES[family]} socket for address"
                f' "{address[0]}": {e.strerror}',
            )
            return
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as e:
            listener.close()
            hint = ""
            if e.errno == errno.EADDRINUSE:
                hint = (
                    f"Is another postmaster already running on port {self.port}?"
                    " If not, wait a few seconds and retry."
                )
            log(Level.LOG, f"could not bind {shown}: {e.strerror}", hint=hint)
            return
        log(Level.LOG, f"listening on {shown}, port {self.port}")
        self._add(listener)

    def _open_unix(self, directory: str) -> bool:
        path = os.path.join(directory, f".s.PGSQL.{self.port}")
        if len(path.encode()) > 107:
            log(Level.LOG, f'Unix-domain socket path "{path}" is too long (maximum 107 bytes)')
            return False
        self.locks.take_socket(path, self.data_directory, self.port)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if os.path.lexists(path):
                os.unlink(path)
            listener.bind(path)
            os.chmod(path, 0o777)
            listener.listen(BACKLOG)
        except OSError as e:
            listener.close()
            log(Level.LOG, f'could not bind Unix address "{path}": {e.strerror}')
            return False
        log(Level.LOG, f'listening on Unix socket "{path}"')
        self.unix_paths[path] = os.stat(path).st_ino
        self._add(listener)
        return True

    def _add(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self.opened.append(listener)

    def close_all(self) -> None:
        """Close the sockets in a child."""
        for listener in self.opened:
            listener.close()

    def unlink_all(self) -> None:
        """Remove the sockets' files, before the lock files (SH-12), and close the sockets.

        DIFFERS: PostgreSQL removes the file of any server that has bound the same path since. The
        inode of a socket that is still open cannot be that of another file.
        """
        for path, inode in self.unix_paths.items():
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
        self.close_all()


def _list(setting: str, text: str) -> list[str]:
    """Return the names of a comma-separated list; NoSockets if a quote is unmatched."""
    if text.count('"') % 2:
        raise NoSockets(f'invalid list syntax in parameter "{setting}"')
    return [name.strip().strip('"') for name in text.split(",") if name.strip()]


def fds(sockets: Iterable[socket.socket]) -> dict[int, socket.socket]:
    """Descriptor to socket."""
    return {s.fileno(): s for s in sockets}
