"""A client's process: from the accepted socket to its session, or to its refusal.

Begin with Backend.run().
Source: tcop/backend_startup.c: BackendMain(); utils/init/postinit.c: InitPostgres();
tcop/postgres.c: quickdie(); rules CN-10..23, SE-20..27, SG-28..30, TI-20..23.

DIFFERS: pg_hba.conf knows trust and reject only; any other method is refused when it is read.
"""

import contextlib
import os
import signal
import socket
import time
from typing import ClassVar

from pglife_impl.backend import admission
from pglife_impl.backend.connection import Connection
from pglife_impl.backend.context import BackendContext
from pglife_impl.backend.greeting import greet
from pglife_impl.backend.refusals import (
    HOT_STANDBY_DISABLED,
    NO_REPLICATION,
    NOT_CONSISTENT,
    QUIT_WARNINGS,
    REFUSALS,
    TOO_MANY_CLIENTS,
    not_authorized,
)
from pglife_impl.backend.reporting import log_report
from pglife_impl.backend.startup_packet import StartupReader, logs, refuse
from pglife_impl.base.cac import Cac
from pglife_impl.base.exits import EXIT_DONE, EXIT_FATAL, ProcExit
from pglife_impl.base.ids import ProcNumber
from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import QuitReason, SlotFlag
from pglife_impl.base.words import Level
from pglife_impl.data_directory.catalog import RoleDef
from pglife_impl.log import elog
from pglife_impl.net import hba
from pglife_impl.os import signals, titles
from pglife_impl.os.latch import Latch
from pglife_impl.process.registry import register
from pglife_impl.process.world import Birth, World
from pglife_impl.protocol import (
    Replication,
    SqlError,
    StartupPacket,
    authentication_ok,
    cancel_key_length,
    error_response,
    notice_response,
)
from pglife_impl.session.context import ClientGone, InterruptFlags
from pglife_impl.session.protocol.loop import serve
from pglife_impl.shmem.checkpoint import CheckpointFailed


@register
class Backend:
    """Serves one client.

    Started      by the postmaster for a client, while sessions are allowed.
    Exits        with 0 when the client disconnects; with 1 on SIGTERM or another FATAL.
    Aborts       with 2 on SIGQUIT, after a WARNING to the client if possible.
    Crash        any exit but 0 and 1, and any exit without releasing its PGPROC.
    """

    kind: ClassVar[Kind] = Kind.BACKEND

    def __init__(self, world: World, birth: Birth) -> None:
        assert birth.client is not None
        self.world = world
        self.birth = birth
        self.client: socket.socket = birth.client
        self.client.setblocking(True)
        self.latch = Latch()
        self.identity = elog.ClientIdentity()
        self.connection: Connection | None = None
        self.proc: ProcNumber | None = None
        self.authenticating = True
        self.admitted = False
        self.quitting = False
        self.started = time.time()
        self.authentication_s = 0.0

    def run(self) -> int:
        """Run the process from its first line; return the exit code."""
        elog.serve_client(self.identity)
        try:
            reader = StartupReader(self.world, self.client, self.latch, self.identity)
            packet = reader.read()
            self.refuse_if_closed(packet)
            return self.serve(packet, reader.unread)
        except ProcExit as end:
            return end.code
        finally:
            self.detach()

    def refuse_if_closed(self, packet: StartupPacket) -> None:
        """Refuse the client if no sessions were accepted at the fork (CN-12, INV-77)."""
        cac = self.birth.cac
        if cac is Cac.OK:
            return
        self.identity.user = packet.parameters["user"]
        self.identity.database = packet.parameters["database"]
        if cac is Cac.NOT_HOT_STANDBY:
            enabled = self.world.gucs.boolean("hot_standby")
            refuse(self.client, NOT_CONSISTENT if enabled else HOT_STANDBY_DISABLED)
        refuse(self.client, REFUSALS[cac])

    def serve(self, packet: StartupPacket, unread: bytes) -> int:
        """Claim a PGPROC, authenticate, admit, run the session (CN-14..21)."""
        self.identity.user = packet.parameters["user"]
        self.identity.database = packet.parameters["database"]
        self.identity.application_name = packet.parameters.get("application_name", "")
        self.set_title()
        if packet.replication is not Replication.NONE:
            refuse(self.client, NO_REPLICATION)
        signals.block_all_but_quit()
        proc = self.claim_proc()
        interrupts = InterruptFlags()
        connection = Connection(self.client, self.latch, self.world.death_read, interrupts, unread)
        self.connection = connection
        cancel_key = os.urandom(cancel_key_length(packet.protocol))
        self.world.shmem.set_cancel_key(proc, cancel_key)
        self.install_handlers(interrupts)
        signals.unblock_all()
        try:
            self.authenticate(connection)
            role = self.admit(proc)
            context = BackendContext(
                self.world,
                connection,
                interrupts,
                self.identity,
                packet,
                role,
                proc=proc,
                cancel_key=cancel_key,
            )
            connection.send(greet(context))
            self.admitted = True
            self._log_setup()
            return serve(context)
        except SqlError as e:
            log_report(e.report)
            with contextlib.suppress(ClientGone):
                connection.send(error_response(e.report))
                connection.flush()
            return EXIT_FATAL
        except ClientGone:
            return EXIT_DONE
        except (OSError, CheckpointFailed) as e:  # an OSError: above all, an unreadable catalog
            elog.log(Level.FATAL, str(e))
            return EXIT_FATAL

    def set_title(self) -> None:
        """Show user, database and host in the title (TI-20, CN-15)."""
        who = self.identity
        where = who.host if not who.port else f"{who.host}({who.port})"
        titles.init(
            f"{who.user} {who.database} {where} ",
            cluster_name=self.world.gucs.text("cluster_name"),
            update=self.world.gucs.boolean("update_process_title"),
        )
        titles.activity("initializing")

    def claim_proc(self) -> ProcNumber:
        """Claim a PGPROC, or refuse the client if none is free (CN-14, CN-31)."""
        shmem = self.world.shmem
        shmem.set_slot_flag(self.birth.slot, SlotFlag.ACTIVE)
        self.proc = shmem.claim(Kind.BACKEND, os.getpid())
        if self.proc is None:
            shmem.set_slot_flag(self.birth.slot, SlotFlag.ASSIGNED)
            refuse(self.client, TOO_MANY_CLIENTS)
        shmem.write_row(
            self.proc,
            state="starting",
            state_change=time.time(),
            client="" if self.identity.host == elog.LOCAL else self.identity.host,
            client_port=self.identity.port or -1,
        )
        return self.proc

    def install_handlers(self, interrupts: InterruptFlags) -> None:
        """Install a session's signal handlers (SG-28): each sets a flag and the latch, but QUIT."""

        def die() -> None:
            interrupts.die = True
            self.latch.set()

        def cancel() -> None:
            interrupts.cancel = True
            self.latch.set()

        def reload() -> None:
            interrupts.reload = True
            self.latch.set()

        signals.install(
            {
                signal.SIGTERM: die,
                signal.SIGINT: cancel,
                signal.SIGHUP: reload,
                signal.SIGQUIT: self.quit,
                signal.SIGUSR1: self.latch.set,
                signal.SIGURG: self.latch.set,
                signal.SIGALRM: None,
                signal.SIGUSR2: None,
                signal.SIGPIPE: None,
            }
        )

    def authenticate(self, connection: Connection) -> None:
        """Authenticate by pg_hba.conf, which can only trust or reject (CN-16, CN-21)."""
        who, gucs = self.identity, self.world.gucs
        titles.activity("authentication")
        began = time.time()
        line = self.hba_line()
        if logs(gucs, "authentication"):
            # trust authenticates no identity, so PostgreSQL prints the role here.
            elog.log(
                Level.LOG,
                f'connection authenticated: user="{who.user}" method={line.method.value}'
                f" ({gucs.text('hba_file')}:{line.number})",
            )
        self.authentication_s = time.time() - began
        connection.send(authentication_ok())
        self.authenticating = False
        if logs(gucs, "authorization"):
            name = who.application_name
            shown = f" application_name={name}" if name else ""
            elog.log(
                Level.LOG, f"connection authorized: user={who.user} database={who.database}{shown}"
            )
        titles.activity("startup")

    def hba_line(self) -> hba.HbaLine:
        """Return the line of pg_hba.conf that matches this client (CN-17).

        Raises:
            SqlError: no line matches, or the first that does says reject.
        """
        who = self.identity
        where = f'host "{who.host}", user "{who.user}", database "{who.database}", no encryption'
        address = who.host if not who.port else self.client.getpeername()[0]
        line = hba.first_match(self.world.hba, address, who.user, who.database)
        if line is None:
            raise SqlError(not_authorized(f"no pg_hba.conf entry for {where}"))
        if line.method is not hba.Method.TRUST:
            raise SqlError(not_authorized(f"pg_hba.conf rejects connection for {where}"))
        return line

    def admit(self, proc: ProcNumber) -> RoleDef:
        """Check limits and rights (CN-19, CN-33..53), then show the role in pg_stat_activity.

        Raises:
            SqlError: the FATAL of the first check that fails.
        """
        who, shmem, gucs, catalog = (
            self.identity,
            self.world.shmem,
            self.world.gucs,
            self.world.catalog,
        )
        catalog.refresh()
        backends = [a for a in shmem.activities() if a.kind is Kind.BACKEND]
        facts = admission.Facts(
            free_slots=shmem.free_backend_slots(),
            superuser_reserved=gucs.integer("superuser_reserved_connections"),
            reserved=gucs.integer("reserved_connections"),
            sessions_of_role=1 + sum(a.user == who.user for a in backends),
            sessions_of_database=1 + sum(a.database == who.database for a in backends),
            catalog=catalog,
        )
        refusal = admission.admit(admission.Newcomer(who.user, who.database), facts)
        if refusal is not None:
            raise SqlError(refusal)
        role = catalog.roles[who.user]
        shmem.write_row(proc, user=who.user, database=who.database, superuser=role.superuser)
        return role

    def _log_setup(self) -> None:
        """Log how long the connection took to set up, in milliseconds (CN-22)."""
        if not logs(self.world.gucs, "setup_durations"):
            return
        total, fork, authentication = (
            1000 * seconds
            for seconds in (
                time.time() - self.birth.created,
                self.started - self.birth.created,
                self.authentication_s,
            )
        )
        elog.log(
            Level.LOG,
            f"connection ready: setup total={total:.3f} ms, fork={fork:.3f} ms,"
            f" authentication={authentication:.3f} ms",
        )

    def quit(self) -> None:
        """Handler of SIGQUIT: warn the client unless a write is under way, then exit 2 (SE-23..25).

        It may do all this inside the handler because the process ends here. Deferring it to a safe
        point is wrong: the process may never reach one.
        """
        if self.quitting:
            return  # the postmaster signals the pid and its group, so two may arrive
        connection = self.connection
        if connection is not None and connection.sending and not connection.blocked:
            connection.quit_pending = self.quit  # the write does not block, and then calls it
            return
        self.quitting = True
        if connection is not None and not self.authenticating and not connection.sending:
            reason = self.world.shmem.quit_reason
            warning = QUIT_WARNINGS[reason]
            if reason is QuitReason.NOT_SENT:
                log_report(warning)
            try:
                flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
                self.client.send(notice_response(warning), flags)
            except OSError:
                signals.abort()
        signals.abort()

    def detach(self) -> None:
        """Release the PGPROC, then mark the child slot as clean (SE-49)."""
        signals.block_all_but_quit()
        if self.proc is None:
            return
        self.world.shmem.release(self.proc)
        self.world.shmem.set_slot_flag(self.birth.slot, SlotFlag.ASSIGNED)
        if self.admitted and self.world.gucs.boolean("log_disconnections"):
            self._log_disconnection()

    def _log_disconnection(self) -> None:
        seconds = time.time() - self.started
        minutes, rest = divmod(seconds, 60)
        hours, minutes = divmod(int(minutes), 60)
        who = self.identity
        elog.log(
            Level.LOG,
            f"disconnection: session time: {hours}:{minutes:02d}:{rest:06.3f}"
            f" user={who.user} database={who.database} {who.host_and_port}",
        )


@register
class DeadEndBackend(Backend):
    """Refuses one client. It does not attach to shared memory, but serves cancel requests (CN-13).

    Started      by the postmaster for a client, while sessions are not allowed or slots are full.
    Exits        with 0 when the client disconnects; with 1 after the refusal, on SIGTERM, or after
                 authentication_timeout.
    Aborts       with 2 on SIGQUIT, at once.
    Crash        any exit but 0 and 1, although it has touched nothing (CR-47).
    """

    kind: ClassVar[Kind] = Kind.DEAD_END_BACKEND
