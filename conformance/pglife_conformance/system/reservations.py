"""What several runs on one machine would take from each other: ports, users without a name.

Begin with   reserve(), free_port().
Owns         who has what: a name among the abstract Unix sockets, which one process can have, and
             which the kernel takes back when that process ends, however it does.
Leaves out   what they are for (cluster.py, privilege.py).
Source       unix(7). Abstract sockets belong to a network namespace, as ports do.

A port that is only looked for is somebody else's by the time that a server asks for it: another
worker's, or that of a connection which the kernel gave it to. So it is none of those that the
kernel gives, and it stays reserved until this process ends.
"""

from __future__ import annotations

import os
import socket

_PORTS = range(12000, 32000)
"""Below what Linux gives to connections of itself, 32768 and up, and above well-known servers."""

_held: dict[str, socket.socket] = {}


def reserve(what: str) -> bool:
    """Whether this is ours from now on, or has been already."""
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
    """A port that nobody listens on, and that no other run takes."""
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
