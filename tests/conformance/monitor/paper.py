"""A server on paper: stimuli and observations made by hand, and a monitor that judges them."""

import itertools
import signal
from collections.abc import Iterable

from pglife_conformance.events import Answer, AnswerKind, Connect, Observation, Start, Startup
from pglife_conformance.events import Stimulus as AnyStimulus
from pglife_conformance.monitor.judge import Monitor
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child, RunState

POSTMASTER = 1000
SMALL = {"autovacuum": "off", "max_logical_replication_workers": "0", "io_method": "sync"}
"""Settings of a server with few children."""

READY = "database system is ready to accept connections"
SHUT_DOWN = "database system is shut down"
CRASHED = "terminating any other active server processes"
RUNNING = (Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.WALWRITER)
"""The children of an idle server with these settings."""


def to(*states: str) -> list[str]:
    """The lines of 18 at DEBUG1 for a way through these values of pmState."""
    pairs = itertools.pairwise(states)
    return [f"updating PMState from PM_{before} to PM_{after}" for before, after in pairs]


def died(name: str, how: str = "was terminated by signal 9: Killed") -> str:
    """The line that reports a child's death."""
    return f"{name} (PID 2000) {how}"


class PaperServer:
    """Records what a server of this version with these settings is said to do.

    Args:
        version: its major version.
        repairs: the repairs that it declares.
        settings: settings that differ from SMALL.
    """

    def __init__(self, version: int = 18, repairs: Iterable[str] = (), **settings: str) -> None:
        self.monitor = Monitor(lambda: repairs)
        self.version = version
        self.settings = SMALL | settings
        self.kids: dict[int, Child] = {}
        self._next_pid = POSTMASTER

    def do(self, stimulus: AnyStimulus) -> None:
        """Record a stimulus."""
        self.monitor.stimulus(stimulus)

    def start(self) -> None:
        """Record a start."""
        self.do(Start(self.version, self.settings))

    def connect(self, client: int) -> None:
        """Record a connection with a startup packet."""
        self.do(Connect(client, Startup.PACKET, tcp=False))

    def has(self, *kinds: Kind) -> list[Child]:
        """From now on exactly these children exist."""
        self.kids = {}
        for kind in kinds:
            self._next_pid += 1
            title = "postgres" if kind is Kind.UNKNOWN else f"postgres: {kind}"
            child = Child(self._next_pid, 1, kind, RunState.RUNNING, title)
            self.kids[child.pid] = child
        return list(self.kids.values())

    def look(
        self,
        *messages: str,
        exit_code: int | None = None,
        answer: Answer | None = None,
        pid_file: PidFileStatus | None = None,
    ) -> None:
        """Record a look: these messages of the postmaster, and the children of the moment."""
        records = [
            LogRecord(index, POSTMASTER, "DEBUG" if _is_state(text) else "LOG", text)
            for index, text in enumerate(messages)
        ]
        kids = tuple(self.kids.values()) if exit_code is None else ()
        self.monitor.look(
            Observation(0.0, kids, (), (), tuple(records), pid_file, exit_code, answer)
        )

    def run(self) -> None:
        """Record a start and a recovery, up to an idle server that accepts connections."""
        self.start()
        self.has(*RUNNING)
        states = to("INIT", "STARTUP", "RUN") if self.version >= 18 else []
        self.look(*states, READY)

    def judge(self) -> str | None:
        """Let the monitor judge; returns why its verdict is open, if it is."""
        self.monitor.judge()
        return self.monitor.open_because


def _is_state(text: str) -> bool:
    return text.startswith("updating PMState")


def admitted(client: int) -> Answer:
    """The client received ReadyForQuery."""
    return Answer(client, AnswerKind.READY)


def refused(client: int, message: str, sqlstate: str = "57P03") -> Answer:
    """The client received a FATAL error."""
    return Answer(client, AnswerKind.ERROR, "FATAL", sqlstate, message)


KILL = signal.SIGKILL
