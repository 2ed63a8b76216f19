"""A session's connection to its client: buffered sending, and waits that signals can end.

Implements session.context.Client.
Source: libpq/be-secure.c: secure_read(), secure_write(); libpq/pqcomm.c; rules SE-40, SE-41, CR-41.
"""

import select
import socket
from collections.abc import Callable

from pglife_impl.os.latch import Latch, WaitSet
from pglife_impl.session.context import ClientGone, InterruptFlags, Wake

RECEIVE_SIZE = 8192
FLUSH_AT = 8192


class Connection:
    """The socket, the output buffer, and the latch that signal handlers set."""

    def __init__(
        self,
        client: socket.socket,
        latch: Latch,
        death_read: int,
        interrupts: InterruptFlags,
        unread: bytes,
    ) -> None:
        self._client = client
        self._latch = latch
        self._death_read = death_read
        self._interrupts = interrupts
        self._unread = unread  # arrived together with the startup packet
        self._unsent = bytearray()
        self._for_client = WaitSet(latch, [death_read, client.fileno()])
        self._without_client: WaitSet | None = None
        # For the handler of SIGQUIT, whose last message must not land inside another one.
        self.sending = False
        self.blocked = False  # the client does not read; the handler need not wait for it
        self.quit_pending: Callable[[], None] | None = None

    def wait(self, timeout_s: float | None, *, readable: bool) -> Wake:
        """Sleep as session.context.Client.wait() says."""
        if readable and self._unread:
            return Wake.READABLE
        if readable:
            waits = self._for_client
        else:
            if self._without_client is None:
                self._without_client = WaitSet(self._latch, [self._death_read])
            waits = self._without_client
        ready = waits.wait(timeout_s)
        self._latch.reset()
        if not ready:
            return Wake.TIMEOUT
        wake = Wake(0)
        if self._latch.fd in ready:
            wake |= Wake.LATCH
        if self._client.fileno() in ready:
            wake |= Wake.READABLE
        if self._death_read in ready:
            wake |= Wake.POSTMASTER_DEATH
        return wake

    def receive(self) -> bytes | None:
        """Return the data that has arrived: b"" at end of file, None if no data has arrived."""
        if self._unread:
            early, self._unread = self._unread, b""
            return early
        try:
            return self._client.recv(RECEIVE_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""  # a reset by the client counts as end of file

    def has_gone(self) -> bool:
        """Return whether the kernel knows that the client has hung up (SE-45)."""
        poll = select.poll()
        poll.register(self._client.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def send(self, data: bytes) -> None:
        """Append to the output buffer, and flush it when it is full."""
        self._unsent += data
        if len(self._unsent) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write the output buffer, waiting for a slow client but not after SIGTERM (SE-41)."""
        self.sending = bool(self._unsent)
        try:
            while self._unsent:
                try:
                    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
                    sent = self._client.send(self._unsent, flags)
                except BlockingIOError:
                    self._wait_until_writable()
                    continue
                except OSError as e:
                    self._unsent.clear()
                    raise ClientGone(f"could not send data to client: {e.strerror}") from e
                del self._unsent[:sent]
        finally:
            self.sending = False
            self._serve_quit()

    def _serve_quit(self) -> None:
        """Run the handler of a SIGQUIT that arrived during a write."""
        if self.quit_pending is not None:
            self.quit_pending()

    def _wait_until_writable(self) -> None:
        self.blocked = True
        self._serve_quit()
        poll = select.poll()
        poll.register(self._client.fileno(), select.POLLOUT)
        for fd in (self._latch.fd, self._latch.signal_fd, self._death_read):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        self.blocked = False
        self._latch.reset()
        must_end = self._interrupts.die or self._death_read in ready
        if must_end and self._client.fileno() not in ready:
            self._unsent.clear()
            raise ClientGone("could not send data to client: the session ends and it does not read")
