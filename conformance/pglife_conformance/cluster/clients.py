"""The clients of a cluster: sessions, attempts, silent connections.

Begin with Clients.session(). What a client does then is in session.py, the protocol in client.py.
"""

from collections.abc import Mapping
from pathlib import Path

from pglife_conformance.base import deadlines
from pglife_conformance.base.ids import ClientNumber
from pglife_conformance.base.refusals import CANNOT_CONNECT_NOW
from pglife_conformance.cluster.client import PROTOCOL_3_0, Client, ServerMessage
from pglife_conformance.cluster.session import Outcome, Session
from pglife_conformance.events import Connect, Startup
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.watching.server import WatchedServer
from pglife_conformance.watching.watcher import Watcher


class Clients(WatchedServer):
    """A server that one can connect to.

    Args:
        directory: as for WatchedServer.
        watcher: as for WatchedServer.
        socket_directory: where the server's Unix socket is.
        scale: factor for all deadlines.
    """

    def __init__(
        self, directory: Path, watcher: Watcher, socket_directory: Path, scale: float
    ) -> None:
        super().__init__(directory, watcher)
        self.socket_directory = socket_directory
        self.scale = scale
        self._sessions: list[Session] = []

    def session(
        self,
        *,
        user: str = "postgres",
        database: str = "postgres",
        protocol: int = PROTOCOL_3_0,
        tcp: bool = False,
        parameters: Mapping[str, str] | None = None,
    ) -> Session:
        """Connect a client that must be admitted.

        Args:
            user: the role.
            database: the database.
            protocol: the protocol version as the startup packet carries it.
            tcp: whether to connect by TCP to 127.0.0.1 in place of the Unix socket.
            parameters: more parameters of the startup packet.

        Returns:
            The session, a context manager that closes it.

        Raises:
            Expectation: the client was not admitted.
        """
        session = self.attempt(
            user=user, database=database, protocol=protocol, tcp=tcp, parameters=parameters
        )
        if session.outcome is not Outcome.ADMITTED:
            answer = session.refusal if session.refusal is not None else session.outcome.value
            raise self.watcher.failure("a new client is admitted", str(answer))
        return session

    def attempt(
        self,
        *,
        user: str = "postgres",
        database: str = "postgres",
        protocol: int = PROTOCOL_3_0,
        tcp: bool = False,
        within: float = deadlines.ANSWER_LIMIT,
        parameters: Mapping[str, str] | None = None,
    ) -> Session:
        """Connect a client, and wait `within` seconds; its `outcome` says what became of it."""
        session = self._new_session(Startup.PACKET, tcp)
        packet = {"user": user, "database": database, **(parameters or {})}
        session.send_startup_packet(packet, protocol, within * self.scale)
        return session

    def refusal_of_new_client(
        self, *, user: str = "postgres", database: str = "postgres", tcp: bool = False
    ) -> ServerMessage:
        """Connect a client that must be refused, and return the error it receives."""
        session = self.attempt(user=user, database=database, tcp=tcp)
        if session.refusal is None:
            raise self.watcher.failure("a new client is refused", session.outcome.value)
        return session.refusal

    def expect_refusal(self, message: str) -> None:
        """A new client is refused with FATAL 57P03 and this message (CN-01 to CN-05)."""
        refusal = self.refusal_of_new_client()
        found = (refusal.severity, refusal.sqlstate, refusal.message)
        if found != ("FATAL", CANNOT_CONNECT_NOW, message):
            raise self.watcher.failure(f"a new client receives {message!r}", str(refusal))

    def expect_service(self) -> None:
        """A new client is admitted, and its query is answered."""
        with self.session() as session:
            if session.query("select 1") != [("1",)]:
                raise self.watcher.failure("an answer to a new session's query", "another one")

    def silent_client(self, *, tcp: bool = False, wait_for_child: bool = True) -> Session:
        """Connect a client that sends nothing. Its `child` is the child forked for it."""
        before = {kid.key for kid in self.watcher.look().kids}
        session = self._new_session(Startup.NOTHING, tcp)
        if wait_for_child:

            def born() -> Child | None:
                kids = reversed(self.watcher.kids)
                return next(
                    (k for k in kids if k.key not in before and k.kind is Kind.UNKNOWN), None
                )

            session.child_before_packet = self.wait_for(
                "a child for a silent client", born, deadlines.REACTION_LIMIT
            )
        return session

    def raw_client(self, *, tcp: bool = False) -> Client:
        """A connection and nothing more; recorders do not see what is sent on it."""
        settings = self.watcher.settings
        if tcp:
            address: Path | tuple[str, int] = ("127.0.0.1", int(settings["port"]))
        else:
            address = self.socket_directory / f".s.PGSQL.{settings.get('port', '5432')}"
        return Client(address, deadlines.ANSWER_LIMIT * self.scale)

    def _new_session(self, startup: Startup, tcp: bool) -> Session:
        number = ClientNumber(len(self._sessions))
        self.watcher.stimulus(Connect(number, startup, tcp))
        session = Session(self, self.raw_client, self.raw_client(tcp=tcp), number)
        self._sessions.append(session)
        return session

    def _disconnect_all(self) -> None:
        for session in self._sessions:
            session.disconnect()
