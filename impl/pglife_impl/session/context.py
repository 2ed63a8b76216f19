"""What a session has of its process: the client's socket, interrupts, settings, its own row.

Begin with   SessionContext.
Owns         reading, writing and waiting on behalf of a session.
Leaves out   what a session does (session/), how it came to be (backend.py).
Source       libpq/be-secure.c, pqcomm.c; storage/ipc/latch.c; rules SE-40, SE-41, CR-41.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable
from enum import Flag, auto

from pglife_impl import ImplError
from pglife_impl.base.words import Level
from pglife_impl.config.guc import Gucs
from pglife_impl.data_directory.catalog import Catalog
from pglife_impl.log import elog
from pglife_impl.os import titles
from pglife_impl.os.latch import Latch, WaitSet
from pglife_impl.process.world import World
from pglife_impl.shmem import checkpoint
from pglife_impl.shmem.checkpoint import CheckpointFailed
from pglife_impl.shmem.segment import Shmem

__all__ = ["CheckpointFailed", "ClientGone", "Interrupts", "SessionContext", "Wake"]

RECEIVE_SIZE = 8192
FLUSH_AT = 8192


class ClientGone(ImplError):
    """The client does not take what we send, or has hung up."""


class Wake(Flag):
    """Why a wait ended."""

    READABLE = auto()
    LATCH = auto()
    TIMEOUT = auto()
    POSTMASTER_DEATH = auto()


class Interrupts:
    """Flags that signal handlers set, and whoever serves them clears."""

    def __init__(self) -> None:
        self.die = False
        self.cancel = False
        self.reload = False


class SessionContext:
    """The process side of one session."""

    def __init__(self, world: World, client: socket.socket, latch: Latch) -> None:
        self.world = world
        self.client = client
        self.latch = latch
        self.pid = os.getpid()
        self.user = ""
        self.database = ""
        self.protocol = (3, 0)
        self.parameters: dict[str, str] = {}
        self.cancel_key = b""
        self.interrupts = Interrupts()
        self.gucs: Gucs = world.gucs
        self.shmem: Shmem = world.shmem
        self.slot = -1
        self.catalog: Catalog = world.catalog
        self.authenticated_superuser = False
        self.start_time = world.start_time
        self.on_reload: Callable[[], None] = lambda: None
        # For QUIT's handler, which may have a last word to send: not in the middle of a message.
        self.sending = False
        self.blocked = False  # the client does not read, so there is no use in waiting for it
        self.quit_pending: Callable[[], None] | None = None
        self.unread = b""  # what came in one piece with the startup packet
        self._unsent = bytearray()
        self._for_client = WaitSet(latch, [world.death_read, client.fileno()])
        self._without_client: WaitSet | None = None

    # --- waiting and the socket -------------------------------------------------------------

    def wait(self, timeout_s: float | None, *, readable: bool) -> Wake:
        """Sleep until something happens; the latch is reset. Look at interrupts afterwards."""
        if readable and self.unread:
            return Wake.READABLE
        if readable:
            waits = self._for_client
        else:
            if self._without_client is None:
                self._without_client = WaitSet(self.latch, [self.world.death_read])
            waits = self._without_client
        ready = waits.wait(timeout_s)
        self.latch.reset()
        if not ready:
            return Wake.TIMEOUT
        wake = Wake(0)
        if self.latch.fd in ready:
            wake |= Wake.LATCH
        if self.client.fileno() in ready:
            wake |= Wake.READABLE
        if self.world.death_read in ready:
            wake |= Wake.POSTMASTER_DEATH
        return wake

    def receive(self) -> bytes | None:
        """What the client has sent: b"" at end of file, None if there is nothing now."""
        if self.unread:
            early, self.unread = self.unread, b""
            return early
        try:
            return self.client.recv(RECEIVE_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""  # reset by the client: as good as end of file

    def client_has_gone(self) -> bool:
        """Has the client hung up, as far as the kernel knows (SE-45)?"""
        poll = select.poll()
        poll.register(self.client.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def send(self, data: bytes) -> None:
        """Put data into the buffer; a full buffer is written."""
        self._unsent += data
        if len(self._unsent) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write the buffer, waiting for a slow client but not beyond SIGTERM (SE-41)."""
        self.sending = bool(self._unsent)
        try:
            while self._unsent:
                try:
                    sent = self.client.send(self._unsent, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    self._wait_until_writable()
                    continue
                except OSError as e:
                    self._unsent.clear()
                    raise ClientGone(f"could not send data to client: {e.strerror}") from e
                del self._unsent[:sent]
        finally:
            self.sending = False
            self._quit_now_if_asked()

    def _quit_now_if_asked(self) -> None:
        """QUIT came while a write was under way."""
        if self.quit_pending is not None:
            self.quit_pending()

    def _wait_until_writable(self) -> None:
        self.blocked = True
        self._quit_now_if_asked()
        poll = select.poll()
        poll.register(self.client.fileno(), select.POLLOUT)
        poll.register(self.latch.fd, select.POLLIN)
        poll.register(self.latch.signal_fd, select.POLLIN)
        poll.register(self.world.death_read, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        self.blocked = False
        self.latch.reset()
        gone = self.world.death_read in ready
        if (self.interrupts.die or gone) and self.client.fileno() not in ready:
            self._unsent.clear()
            raise ClientGone("the client does not read, and we are told to go")

    # --- what others see of us --------------------------------------------------------------

    def set_activity(self, text: str) -> None:
        """The part of the title after the host."""
        titles.activity(text)

    def report(self, **columns: str | float | int | bool) -> None:
        """Change our row of pg_stat_activity; names are those of shmem.Activity.

        A new state sets state_change by itself.
        """
        if "state" in columns and "state_change" not in columns:
            columns["state_change"] = time.time()
        if "application_name" in columns:
            elog.me.application_name = str(columns["application_name"])
        self.shmem.write_row(self.slot, **columns)

    def log(
        self,
        level: str,
        message: str,
        *,
        sqlstate: str = "00000",
        detail: str = "",
        hint: str = "",
        statement: str = "",
    ) -> None:
        """Write to the server log. NOTICE and DEBUG are levels of their own; DEBUG is DEBUG1."""
        name = "DEBUG1" if level == "DEBUG" else level
        elog.log(
            Level[name],
            message,
            sqlstate=sqlstate,
            detail=detail,
            hint=hint,
            statement=statement,
        )

    # --- what we ask of others --------------------------------------------------------------

    def signal_backend(self, pid: int, signum: int) -> bool:
        """Signal a process by its group, which it leads from its first steps on (PR-26); False if
        there is none. Not the process besides: a second INT, that comes when the first has been
        served, would cancel the next statement."""
        try:
            os.kill(-pid, signum)
        except OSError:
            return False
        return True

    def request_reload(self) -> bool:
        """SIGHUP to the postmaster."""
        try:
            os.kill(self.world.postmaster_pid, signal.SIGHUP)
        except OSError:
            return False
        return True

    def reload(self) -> list[str]:
        """Serve interrupts.reload: read the files again; the names that changed."""
        self.interrupts.reload = False
        changed = self.gucs.load(starting=False).changed
        elog.configure(self.gucs)
        titles.configure(update=self.gucs.boolean("update_process_title"))
        return changed

    def request_checkpoint(self) -> None:
        """CHECKPOINT; CheckpointFailed if it could not be made."""
        flags = checkpoint.Flag.IMMEDIATE | checkpoint.Flag.FORCE | checkpoint.Flag.WAIT
        checkpoint.request(self.shmem, flags, self._nap)

    def _nap(self, delay: float) -> None:
        woken = self.wait(delay, readable=False)
        if Wake.POSTMASTER_DEATH in woken or self.interrupts.die:
            raise CheckpointFailed("checkpoint request was interrupted")

    def now(self) -> float:
        """The wall clock."""
        return time.time()
