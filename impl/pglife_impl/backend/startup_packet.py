"""What is done and said about a client before its first packet is read.

Begin with   delay(), then announce().
Owns         where a client comes from, and which lines about a connection are wanted.
Leaves out   the packets (backend.py), who is let in (admission.py).
Source       tcop/backend_startup.c: BackendInitialize(); rules CN-11, CN-22.
"""

from __future__ import annotations

import select
import socket

from pglife_impl.base.words import Level
from pglife_impl.config.guc import Gucs
from pglife_impl.log import elog

LOG_ALL = {"on", "true", "yes", "1", "all"}


def delay(gucs: Gucs) -> None:
    """pre_auth_delay is for debuggers: only QUIT and KILL end it, and no limit runs yet."""
    if delay_s := gucs.integer("pre_auth_delay"):
        select.select([], [], [], delay_s)


def announce(client: socket.socket, gucs: Gucs) -> None:
    """Where the client is, for title and log; `connection received` if wanted.

    Raises:
        OSError: if it has gone already.
    """
    if client.family == socket.AF_UNIX:
        elog.me.host = "[local]"
    else:
        address = client.getpeername()
        elog.me.host, elog.me.port = address[:2]
        if gucs.boolean("log_hostname"):
            elog.me.host = socket.getnameinfo(address, socket.NI_NUMERICSERV)[0]
    if logs(gucs, "receipt"):
        port = f" port={elog.me.port}" if elog.me.port else ""
        elog.log(Level.LOG, f"connection received: host={elog.me.host}{port}")


def logs(gucs: Gucs, aspect: str) -> bool:
    """Does log_connections, a list of aspects, name this one?"""
    words = {word.strip() for word in gucs.text("log_connections").lower().split(",")}
    if aspect == "setup_durations":
        return bool(words & {"all", aspect})
    return bool(words & (LOG_ALL | {aspect}))


def trace(gucs: Gucs, request: str) -> None:
    """trace_connection_negotiation: no encryption is spoken here."""
    if gucs.boolean("trace_connection_negotiation"):
        elog.log(Level.LOG, f"{request} rejected")
