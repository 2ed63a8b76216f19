"""Reservations against other runs on this machine: ports, uids without a name.

Begin with reserve() and free_port(). A reservation is a name among the abstract Unix sockets,
which one process at a time can bind and which the kernel frees when that process ends.

A port that was only found free may be taken when the server asks for it, by another worker or by
the kernel for a connection. So free_port() chooses none of those that the kernel assigns, and
reserves its choice until this process ends.

Source: unix(7). Abstract sockets belong to a network namespace, as ports do.
"""

import os
import socket

_PORTS = range(12000, 32000)
"""Below the ports that Linux assigns, 32768 and up, and above those of well-known servers."""

_held: dict[str, socket.socket] = {}


def reserve(what: str) -> bool:
    """Reserve this name until the process ends; False if another process has it."""
    if what in _held:
        return True
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0pglife-{what}")
    except OSError:
        mark.close()
        return False
    _held[what] = mark
    return True


def free_port() -> int:
    """A TCP port on which no process listens, reserved for this run.

    Raises:
        OSError: all ports are taken.
    """
    begin = os.getpid() * len(_PORTS) // 7 % len(_PORTS)
    in_turn: list[int] = [*_PORTS[begin:], *_PORTS[:begin]]
    for port in in_turn:
        name = f"port-{port}"
        if name not in _held and _is_free(port) and reserve(name):
            return port
    raise OSError("no port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
