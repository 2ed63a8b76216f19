"""From the accepted socket to the startup packet: encryption requests, cancel requests, refusals.

Begin with StartupReader.read().
Source: tcop/backend_startup.c: BackendInitialize(), ProcessStartupPacket(); rules CN-11..13, CN-22,
CN-40..48.
"""

import contextlib
import os
import select
import signal
import socket
from typing import NoReturn

from pglife_impl.backend.reporting import log_report
from pglife_impl.base.exits import EXIT_DONE, EXIT_FATAL, ProcExit
from pglife_impl.base.words import Level
from pglife_impl.config.guc import Gucs
from pglife_impl.log import elog
from pglife_impl.os import signals
from pglife_impl.os.latch import Latch, WaitSet
from pglife_impl.process.world import World
from pglife_impl.protocol import (
    Report,
    Severity,
    StartupKind,
    StartupPacket,
    error_response,
    incomplete_startup,
    negotiate_protocol_version,
    parse_startup,
    startup_refusal,
)
from pglife_impl.shmem.segment import CancelMatch

LOG_ALL = {"on", "true", "yes", "1", "all"}
RECEIVE_SIZE = 8192


def logs(gucs: Gucs, aspect: str) -> bool:
    """Return whether log_connections, a list of aspects, names this one."""
    words = {word.strip() for word in gucs.text("log_connections").lower().split(",")}
    if aspect == "setup_durations":
        return bool(words & {"all", aspect})
    return bool(words & (LOG_ALL | {aspect}))


def send_now(client: socket.socket, data: bytes) -> None:
    """Send all of it, blocking; a client that has hung up ends the process with 0."""
    try:
        client.sendall(data, socket.MSG_NOSIGNAL)
    except OSError:
        raise ProcExit(EXIT_DONE) from None


def refuse(client: socket.socket, report: Report) -> NoReturn:
    """Log a FATAL, send it, and end the process with 1."""
    log_report(report)
    send_now(client, error_response(report))
    raise ProcExit(EXIT_FATAL)


class StartupReader:
    """Reads what a client sends before its session."""

    def __init__(
        self, world: World, client: socket.socket, latch: Latch, identity: elog.ClientIdentity
    ) -> None:
        self.world = world
        self.client = client
        self.latch = latch
        self.identity = identity
        self.unread = b""

    def read(self) -> StartupPacket:
        """Return the startup packet; what arrived behind it is in `unread`.

        Until then SIGTERM and authentication_timeout end the process silently (CN-11).

        Raises:
            ProcExit: there is no session to start: a cancel request, an invalid packet, or a
                client that hung up.
        """
        gucs = self.world.gucs
        self._pre_auth_delay()
        signals.install(
            {signal.SIGTERM: _exit_silently, signal.SIGALRM: _exit_silently, signal.SIGPIPE: None}
        )
        signals.unblock(signal.SIGTERM, signal.SIGALRM)
        try:
            self._identify()
        except OSError:
            raise ProcExit(EXIT_DONE) from None
        signals.alarm(gucs.integer("authentication_timeout"))
        buffer = b""
        ssl_done = gss_done = False
        while True:
            packet = parse_startup(buffer, ssl_done=ssl_done, gss_done=gss_done)
            match packet.kind:
                case StartupKind.NEED_MORE:
                    more = self._receive()
                    if not more:
                        self._hung_up(buffer, ssl_done=ssl_done, gss_done=gss_done)
                    buffer += more
                case StartupKind.SSL_REQUEST | StartupKind.GSSENC_REQUEST:
                    is_ssl = packet.kind is StartupKind.SSL_REQUEST
                    ssl_done = ssl_done or is_ssl
                    gss_done = gss_done or not is_ssl
                    buffer = buffer[packet.consumed :]
                    self._trace("SSLRequest" if is_ssl else "GSSENCRequest")
                    send_now(self.client, b"N")
                case StartupKind.CANCEL:
                    self._cancel(packet)
                case StartupKind.DIRECT_TLS:
                    self._trace("direct SSL connection")
                    raise ProcExit(EXIT_DONE)
                case StartupKind.BAD:
                    self._refuse_packet(packet)
                case StartupKind.STARTUP:
                    signals.alarm(0)
                    if packet.needs_negotiation:
                        answer = negotiate_protocol_version(packet.protocol, packet.unknown_options)
                        send_now(self.client, answer)
                    self.unread = buffer[packet.consumed :]
                    return packet

    def _pre_auth_delay(self) -> None:
        """Sleep for pre_auth_delay seconds, before any timeout runs: time to attach a debugger."""
        if delay_s := self.world.gucs.integer("pre_auth_delay"):
            select.select([], [], [], delay_s)

    def _identify(self) -> None:
        """Note the client's address for title and log; OSError if it has hung up already."""
        identity, gucs = self.identity, self.world.gucs
        if self.client.family == socket.AF_UNIX:
            identity.host = elog.LOCAL
        else:
            address = self.client.getpeername()
            identity.host, identity.port = address[:2]
            if gucs.boolean("log_hostname"):
                identity.host = socket.getnameinfo(address, socket.NI_NUMERICSERV)[0]
        if logs(gucs, "receipt"):
            elog.log(Level.LOG, f"connection received: {identity.host_and_port}")

    def _receive(self) -> bytes:
        """Wait for data and return it; b"" if the client hung up.

        Waits on the latch, not in recv(): a signal that arrives just before the call would not be
        served until the client sends something. The postmaster's death ends the wait (CR-41).
        """
        waits = WaitSet(self.latch, [self.client.fileno(), self.world.death_read])
        try:
            while True:
                ready = waits.wait(None)
                if self.world.death_read in ready:
                    raise ProcExit(EXIT_FATAL)
                if self.client.fileno() in ready:
                    return self.client.recv(RECEIVE_SIZE, socket.MSG_DONTWAIT)
                self.latch.reset()
        except OSError:
            return b""
        finally:
            waits.close()

    def _hung_up(self, buffer: bytes, *, ssl_done: bool, gss_done: bool) -> NoReturn:
        report = incomplete_startup(buffer, ssl_done=ssl_done, gss_done=gss_done)
        if report is not None:
            log_report(report)
        raise ProcExit(EXIT_DONE)

    def _cancel(self, packet: StartupPacket) -> NoReturn:
        """Send SIGINT to the process group whose key was sent, and never answer (CN-44)."""
        pid = packet.cancel_pid
        match self.world.shmem.cancel_key_matches(pid, packet.cancel_key):
            case CancelMatch.MATCH:
                with contextlib.suppress(OSError):
                    os.kill(-pid, signal.SIGINT)
            case CancelMatch.WRONG_KEY:
                elog.log(Level.LOG, f"wrong key in cancel request for process {pid}")
            case CancelMatch.NO_SUCH_PID if pid == 0:
                elog.log(Level.LOG, "invalid cancel request with PID 0")
            case CancelMatch.NO_SUCH_PID:
                elog.log(Level.LOG, f"PID {pid} in cancel request did not match any process")
        raise ProcExit(EXIT_DONE)

    def _refuse_packet(self, packet: StartupPacket) -> NoReturn:
        """Report an invalid packet to client and log, or to the log only (CN-40, CN-46, CN-47)."""
        report = packet.error
        assert report is not None
        log_report(report)
        if report.severity is Severity.LOG:
            raise ProcExit(EXIT_DONE)
        send_now(self.client, startup_refusal(packet))
        raise ProcExit(EXIT_FATAL)

    def _trace(self, request: str) -> None:
        """Log for trace_connection_negotiation; every request for encryption is rejected."""
        if self.world.gucs.boolean("trace_connection_negotiation"):
            elog.log(Level.LOG, f"{request} rejected")


def _exit_silently() -> None:
    """Handler of SIGTERM and SIGALRM before the startup packet: no message, no log line."""
    os._exit(EXIT_FATAL)
