"""A client's process: from the accepted socket to the session, or to its refusal.

Begin with   Backend.live(); DeadEndBackend ends where the refusal is told.
Owns         the startup packet's reading, trust authentication, the PGPROC, QUIT's parting words.
Leaves out   the wire format (protocol/), rights and limits (admission.py), statements (session/).
Source       tcop/backend_startup.c: BackendMain(), BackendInitialize(); utils/init/postinit.c:
             InitPostgres(); tcop/postgres.c: quickdie(); rules CN-10..23, CN-40..48, SE-20..27,
             SG-28..30, TI-20..23.

DIFFERS: pg_hba.conf knows trust and reject only; any other method is refused when it is read.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import ClassVar, NoReturn

from pglife_impl import session
from pglife_impl.backend import admission, startup_packet
from pglife_impl.backend.refusals import (
    HOT_STANDBY_DISABLED,
    NO_REPLICATION,
    NOT_CONSISTENT,
    PARTING_WORDS,
    REFUSALS,
    TOO_MANY_CLIENTS,
    not_authorized,
)
from pglife_impl.base.cac import Cac
from pglife_impl.base.exits import EXIT_DONE, EXIT_FATAL, ProcExit
from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import QuitReason, SlotFlag
from pglife_impl.base.words import Level
from pglife_impl.log import elog
from pglife_impl.net import hba
from pglife_impl.os import signals, titles
from pglife_impl.os.latch import Latch, WaitSet
from pglife_impl.process.registry import register
from pglife_impl.process.world import Birth, World
from pglife_impl.protocol import (
    Replication,
    Report,
    Severity,
    SqlError,
    StartupKind,
    StartupPacket,
    authentication_ok,
    cancel_key_length,
    error_response,
    incomplete_startup,
    negotiate_protocol_version,
    notice_response,
    parse_startup,
    startup_refusal,
)
from pglife_impl.session.context import ClientGone, SessionContext
from pglife_impl.shmem.checkpoint import CheckpointFailed
from pglife_impl.shmem.segment import CancelMatch


@register
class Backend:
    """Serve one client.

    Started      by the postmaster for a client, while sessions are allowed.
    Ends         when the client leaves (0), or on SIGTERM or another FATAL (1).
    Aborts       on SIGQUIT, with a word to the client if possible, with exit code 2.
    If it dies   by anything but exit 0 or 1, or without giving its PGPROC back, that is a crash.
    """

    kind: ClassVar[Kind] = Kind.BACKEND

    def __init__(self, world: World, birth: Birth) -> None:
        assert birth.client is not None
        self.world = world
        self.birth = birth
        self.client: socket.socket = birth.client
        self.client.setblocking(True)
        self.latch = Latch()
        self.context: SessionContext | None = None
        self.authenticating = True
        self.admitted = False
        self.unread = b""
        self.began = self.authenticated = 0.0

    def live(self) -> int:
        """The whole life; the exit code."""
        elog.me.is_client = True
        try:
            packet = self.read_startup_packet()
            self.refuse_if_closed(packet)
            return self.serve(packet)
        except ProcExit as end:
            return end.code
        finally:
            self.detach()

    # --- before the startup packet is complete ----------------------------------------------

    def read_startup_packet(self) -> StartupPacket:
        """CN-11..13: nobody knows this client yet. TERM and the timer end it without a word."""
        startup_packet.delay(self.world.gucs)
        signals.install(
            {
                signal.SIGTERM: _exit_silently,
                signal.SIGALRM: _exit_silently,
                signal.SIGPIPE: None,
            }
        )
        signals.unblock(signal.SIGTERM, signal.SIGALRM)
        try:
            startup_packet.announce(self.client, self.world.gucs)
        except OSError:
            raise ProcExit(EXIT_DONE) from None
        signals.alarm(self.world.gucs.integer("authentication_timeout"))
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
                    ssl_done = ssl_done or packet.kind is StartupKind.SSL_REQUEST
                    gss_done = gss_done or packet.kind is StartupKind.GSSENC_REQUEST
                    buffer = buffer[packet.consumed :]
                    is_ssl = packet.kind is StartupKind.SSL_REQUEST
                    startup_packet.trace(
                        self.world.gucs, "SSLRequest" if is_ssl else "GSSENCRequest"
                    )
                    self._tell(b"N")
                case StartupKind.CANCEL:
                    self.cancel(packet)
                case StartupKind.DIRECT_TLS:
                    startup_packet.trace(self.world.gucs, "direct SSL connection")
                    raise ProcExit(EXIT_DONE)
                case StartupKind.BAD:
                    self.refuse_packet(packet)
                case StartupKind.STARTUP:
                    signals.alarm(0)
                    if packet.needs_negotiation:
                        self._tell(
                            negotiate_protocol_version(packet.protocol, packet.unknown_options)
                        )
                    self.unread = buffer[packet.consumed :]
                    return packet

    def _receive(self) -> bytes:
        """Wait on the latch and not in recv(), where a signal that comes just before the call
        would wait for the client. The postmaster's death ends this wait too (CR-41)."""
        waits = WaitSet(self.latch, [self.client.fileno(), self.world.death_read])
        try:
            while True:
                ready = waits.wait(None)
                if self.world.death_read in ready:
                    raise ProcExit(EXIT_FATAL)
                if self.client.fileno() in ready:
                    return self.client.recv(8192, socket.MSG_DONTWAIT)
                self.latch.reset()
        except OSError:
            return b""
        finally:
            waits.close()

    def _tell(self, data: bytes) -> None:
        try:
            self.client.sendall(data, socket.MSG_NOSIGNAL)
        except OSError:
            raise ProcExit(EXIT_DONE) from None

    def _hung_up(self, buffer: bytes, *, ssl_done: bool, gss_done: bool) -> NoReturn:
        report = incomplete_startup(buffer, ssl_done=ssl_done, gss_done=gss_done)
        if report is not None:
            elog.log(Level.LOG, report.message, sqlstate=report.sqlstate)
        raise ProcExit(EXIT_DONE)

    def cancel(self, packet: StartupPacket) -> NoReturn:
        """CN-44: signal the right process once, by its group, and never answer."""
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

    def refuse_packet(self, packet: StartupPacket) -> NoReturn:
        """A packet that makes no sense: told, or only logged (CN-40, CN-46, CN-47)."""
        report = packet.error
        assert report is not None
        if report.severity is Severity.LOG:
            elog.log(Level.LOG, report.message, sqlstate=report.sqlstate)
            raise ProcExit(EXIT_DONE)
        self._log_report(report)
        self._tell(startup_refusal(packet))
        raise ProcExit(EXIT_FATAL)

    def refuse_if_closed(self, packet: StartupPacket) -> None:
        """CN-12: what the postmaster saw at the fork decides (INV-77)."""
        cac = self.birth.cac
        if cac is Cac.OK:
            return
        elog.me.user = packet.parameters["user"]
        elog.me.database = packet.parameters["database"]
        if cac is Cac.NOT_HOT_STANDBY:
            enabled = self.world.gucs.boolean("hot_standby")
            self.fatal(NOT_CONSISTENT if enabled else HOT_STANDBY_DISABLED)
        self.fatal(REFUSALS[cac])

    def fatal(self, report: Report) -> NoReturn:
        """Log it, tell the client, end with 1."""
        self._log_report(report)
        self._tell(error_response(report))
        raise ProcExit(EXIT_FATAL)

    def _log_report(self, report: Report) -> None:
        elog.log(
            Level.FATAL,
            report.message,
            detail=report.detail,
            hint=report.hint,
            sqlstate=report.sqlstate,
        )

    # --- a session --------------------------------------------------------------------------

    def serve(self, packet: StartupPacket) -> int:
        """CN-14..21: PGPROC, authentication, admission, session."""
        user, database = packet.parameters["user"], packet.parameters["database"]
        elog.me.user, elog.me.database = user, database
        elog.me.application_name = packet.parameters.get("application_name", "")
        self.set_title(user, database)
        if packet.replication is not Replication.NONE:
            self.fatal(NO_REPLICATION)
        context = self.attach(packet)
        try:
            self.authenticate(context)
            self.admit(context)
            context.send(session.greet(context))
            self.admitted = True
            if startup_packet.logs(self.world.gucs, "setup_durations"):
                self._log_setup()
            return session.serve(context)
        except SqlError as e:
            self._log_report(e.report)
            context.send(error_response(e.report))
            context.flush()
            return EXIT_FATAL
        except ClientGone:
            return EXIT_DONE
        except OSError as e:
            elog.log(Level.FATAL, str(e))  # the catalog cannot be read, above all
            return EXIT_FATAL
        except CheckpointFailed as e:
            elog.log(Level.FATAL, str(e))
            return EXIT_FATAL

    def set_title(self, user: str, database: str) -> None:
        """TI-20, CN-15."""
        where = elog.me.host if not elog.me.port else f"{elog.me.host}({elog.me.port})"
        titles.init(
            f"{user} {database} {where} ",
            cluster_name=self.world.gucs.text("cluster_name"),
            update=self.world.gucs.boolean("update_process_title"),
        )
        titles.activity("initializing")

    def attach(self, packet: StartupPacket) -> SessionContext:
        """CN-14: take a PGPROC, or be one too many (CN-31). From here on signals mean what they
        mean to a session."""
        signals.block_all_but_quit()
        shmem = self.world.shmem
        shmem.set_slot_flag(self.birth.slot, SlotFlag.ACTIVE)
        slot = shmem.claim(Kind.BACKEND, os.getpid())
        if slot is None:
            shmem.set_slot_flag(self.birth.slot, SlotFlag.ASSIGNED)
            self.fatal(TOO_MANY_CLIENTS)
        context = SessionContext(self.world, self.client, self.latch)
        context.slot = slot
        context.unread = self.unread
        context.protocol = packet.protocol
        context.parameters = dict(packet.parameters)
        context.user = packet.parameters["user"]
        context.database = packet.parameters["database"]
        self.context = context
        shmem.write_row(
            slot,
            state="starting",
            state_change=time.time(),
            client="" if elog.me.host == "[local]" else elog.me.host,
            client_port=elog.me.port or -1,
        )
        context.cancel_key = os.urandom(cancel_key_length(packet.protocol))
        shmem.set_cancel_key(slot, context.cancel_key)
        self.install_handlers(context)
        signals.unblock_all()
        return context

    def install_handlers(self, context: SessionContext) -> None:
        """SG-28: each sets a flag and wakes the latch; QUIT says its word and leaves."""

        def die() -> None:
            context.interrupts.die = True
            context.latch.set()

        def cancel() -> None:
            context.interrupts.cancel = True
            context.latch.set()

        def reload() -> None:
            context.interrupts.reload = True
            context.latch.set()

        signals.install(
            {
                signal.SIGTERM: die,
                signal.SIGINT: cancel,
                signal.SIGHUP: reload,
                signal.SIGQUIT: self.quit,
                signal.SIGUSR1: context.latch.set,
                signal.SIGURG: context.latch.set,
                signal.SIGALRM: None,
                signal.SIGUSR2: None,
                signal.SIGPIPE: None,
            }
        )

    def authenticate(self, context: SessionContext) -> None:
        """CN-16, CN-21: everybody is trusted; the client learns it before anything is checked."""
        titles.activity("authentication")
        self.began = time.time()
        line = self.hba_line(context)
        if startup_packet.logs(self.world.gucs, "authentication"):
            # trust names no identity, so PostgreSQL prints the role and says that it was trusted
            elog.log(
                Level.LOG,
                f'connection authenticated: user="{context.user}" method={line.method}'
                f" ({context.gucs.text('hba_file')}:{line.number})",
            )
        self.authenticated = time.time()
        context.send(authentication_ok())
        self.authenticating = False
        if startup_packet.logs(self.world.gucs, "authorization"):
            name = context.parameters.get("application_name", "")
            shown = f" application_name={name}" if name else ""
            elog.log(
                Level.LOG,
                f"connection authorized: user={context.user} database={context.database}{shown}",
            )
        titles.activity("startup")

    def hba_line(self, context: SessionContext) -> hba.HbaLine:
        """CN-17: the line that lets this client in, or the refusal."""
        where = (
            f'host "{elog.me.host}", user "{context.user}", database "{context.database}",'
            " no encryption"
        )
        address = elog.me.host if not elog.me.port else self.client.getpeername()[0]
        line = hba.first_match(self.world.hba, address, context.user, context.database)
        if line is None:
            raise SqlError(not_authorized(f"no pg_hba.conf entry for {where}"))
        if line.method != hba.TRUST:
            raise SqlError(not_authorized(f"pg_hba.conf rejects connection for {where}"))
        return line

    def admit(self, context: SessionContext) -> None:
        """CN-19, CN-33..53, then the row of pg_stat_activity shows who it is."""
        context.catalog.refresh()
        mine = [a for a in context.shmem.activities() if a.kind is Kind.BACKEND]
        gucs = context.gucs
        facts = admission.Facts(
            free_slots=context.shmem.free_backend_slots(),
            superuser_reserved=gucs.integer("superuser_reserved_connections"),
            reserved=gucs.integer("reserved_connections"),
            sessions_of_role=1 + sum(a.user == context.user for a in mine),
            sessions_of_database=1 + sum(a.database == context.database for a in mine),
            catalog=context.catalog,
        )
        newcomer = admission.Newcomer(context.user, context.database, context.slot)
        refusal = admission.admit(newcomer, facts)
        if refusal is not None:
            raise SqlError(refusal)
        role = context.catalog.roles[context.user]
        context.authenticated_superuser = role.superuser
        context.shmem.write_row(
            context.slot,
            user=context.user,
            database=context.database,
            superuser=role.superuser,
        )

    def _log_setup(self) -> None:
        """CN-22: how long it took, in milliseconds."""
        total, fork, authentication = (
            1000 * seconds
            for seconds in (
                time.time() - self.birth.created,
                elog.me.start_time - self.birth.created,
                self.authenticated - self.began,
            )
        )
        elog.log(
            Level.LOG,
            f"connection ready: setup total={total:.3f} ms, fork={fork:.3f} ms,"
            f" authentication={authentication:.3f} ms",
        )

    def quit(self) -> None:
        """SE-23..25: a last word if nothing else is being sent, then out, without clean-up.

        Runs in the signal handler, and may: it leaves the process. Waiting for a quieter moment
        is what must not be done here, for there may be none.
        """
        context = self.context
        if context is not None and context.sending and not context.blocked:
            context.quit_pending = self.quit  # the write does not block, and then asks for us
            return
        if context is not None and not self.authenticating and not context.sending:
            reason = self.world.shmem.quit_reason
            words = PARTING_WORDS[reason]
            if reason is QuitReason.NOT_SENT:
                elog.log(Level.WARNING, words.message, sqlstate=words.sqlstate)
            try:
                self.client.send(notice_response(words), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                signals.abort()
        signals.abort()

    def detach(self) -> None:
        """SE-49: the row vanishes before the process does; then the slot is clean."""
        signals.block_all_but_quit()
        context = self.context
        if context is None:
            return
        context.shmem.release(context.slot)
        context.shmem.set_slot_flag(self.birth.slot, SlotFlag.ASSIGNED)
        if self.admitted and self.world.gucs.boolean("log_disconnections"):
            self._log_disconnection(context)

    def _log_disconnection(self, context: SessionContext) -> None:
        seconds = time.time() - elog.me.start_time
        minutes, rest = divmod(seconds, 60)
        hours, minutes = divmod(int(minutes), 60)
        port = f" port={elog.me.port}" if elog.me.port else ""
        elog.log(
            Level.LOG,
            f"disconnection: session time: {hours}:{minutes:02d}:{rest:06.3f}"
            f" user={context.user} database={context.database} host={elog.me.host}{port}",
        )


@register
class DeadEndBackend(Backend):
    """Tell one client why it may not come in.

    Started      by the postmaster for a client, while sessions are not allowed or slots are out.
    Ends         when it has said so (1), when the client leaves (0), on SIGTERM or when
                 authentication_timeout is over (1). It never uses shared memory, but cancel
                 requests work here too (CN-13).
    If it dies   by anything but exit 0 or 1, that is a crash, absurd as it is (CR-47).
    """

    kind: ClassVar[Kind] = Kind.DEAD_END_BACKEND


def _exit_silently() -> None:
    """TERM or the timer before the startup packet: nothing said, nothing logged (CN-11)."""
    os._exit(EXIT_FATAL)
