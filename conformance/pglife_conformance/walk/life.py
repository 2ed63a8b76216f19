"""One random life of a server: whatever is done to it, in the order in which it was done.

Begin with `Life`, whose verbs are all that is ever done. A life never waits for an answer that may
not come: it does something, looks, and continues. Only the server's exit at the end is awaited. Its
script can be run again as a test.
"""

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation
from pglife_conformance.cluster.client import ClientTimeout
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome, ServerError, Session
from pglife_conformance.cluster.teardown import end_cluster
from pglife_conformance.cluster.template import Template
from pglife_conformance.events import IMMEDIATE, ShutdownMode
from pglife_conformance.hold.pin import Pin
from pglife_conformance.monitor.judge import Monitor
from pglife_conformance.observation.processes import RunState
from pglife_conformance.pytest.state import SuiteState
from pglife_spec import REPAIR_NAMES

STEP_LIMIT_S = 3.0
TOO_LATE = (ServerError, ClientTimeout, Expectation, OSError)
"""How a verb fails on a process that is stopped, or has just exited."""

HEAD = """\
# Save as test_*.py beside a conftest.py that has the fixtures of pglife_conformance.
from pglife_conformance.walk import Life, Maker


def test_life(pglife_state, template) -> None:
    life = Life(Maker(pglife_state, template, {settings!r}))
"""


@dataclass(frozen=True)
class Maker:
    """What makes the clusters and the monitors of lives."""

    state: SuiteState
    template: Template
    settings: Mapping[str, str]

    def cluster(self) -> Cluster:
        """A new cluster, not started."""
        state = self.state
        return Cluster(
            state.target, self.template, state.run, scale=state.scale, settings=dict(self.settings)
        )

    def monitor(self) -> Monitor:
        """A monitor that knows what the target has repaired."""
        repaired = [name for name in REPAIR_NAMES if self.state.target.has_repair(name)]
        return Monitor(lambda: repaired)


class Life:
    """A cluster, its monitor, and the verbs of a life; each call is a line of the script.

    A verb may come too late; that is no failure.
    """

    def __init__(self, maker: Maker) -> None:
        self.settings = dict(maker.settings)
        self.script: list[str] = []
        self.sessions: dict[int, Session] = {}
        self.pins: list[Pin] = []
        self.cluster = maker.cluster()
        self.monitor = maker.monitor()
        self.cluster.record(self.monitor)
        self.cluster.start()

    def is_running(self) -> bool:
        """Whether the postmaster has not exited."""
        return self.cluster.is_running()

    def open_sessions(self) -> list[int]:
        """The clients that were admitted and have not received an end."""
        return [
            number
            for number, session in self.sessions.items()
            if session.outcome is Outcome.ADMITTED and session.ending is None
        ]

    def children(self) -> list[tuple[str, int]]:
        """The children that are not stopped: kind, and number among their kind."""
        seen: Counter[str] = Counter()
        found = []
        for kid in self.cluster.children():
            kind = str(kid.kind)
            if kid.state is not RunState.STOPPED:
                found.append((kind, seen[kind]))
            seen[kind] += 1
        return found

    def connect(self, number: int, *, silently: bool = False) -> None:
        """Connect a client, with a startup packet or without."""
        self._note("connect", number, silently=silently)
        with contextlib.suppress(*TOO_LATE):
            if silently:
                self.sessions[number] = self.cluster.silent_client(wait_for_child=False)
            else:
                self.sessions[number] = self.cluster.attempt(within=STEP_LIMIT_S)

    def query(self, number: int) -> None:
        """Send a statement and wait for its answer."""
        self._note("query", number)
        with contextlib.suppress(*TOO_LATE):
            self.sessions[number].query("select 1", STEP_LIMIT_S)

    def cancel(self, number: int) -> None:
        """Send a cancel request."""
        self._note("cancel", number)
        with contextlib.suppress(*TOO_LATE):
            self.sessions[number].cancel()

    def disconnect(self, number: int, *, politely: bool) -> None:
        """Close a connection, with a Terminate message or without."""
        self._note("disconnect", number, politely=politely)
        session = self.sessions.pop(number)
        with contextlib.suppress(*TOO_LATE):
            if politely:
                session.close()
            else:
                session.disconnect()

    def signal_child(self, kind: str, nth: int, name: str) -> None:
        """Send a signal to a child, as an operator's `kill` does."""
        self._note("signal_child", kind, nth, name)
        kids = self.cluster.children(kind)
        with contextlib.suppress(*TOO_LATE):
            if nth < len(kids):
                self.cluster.signal_child(kids[nth], signal.Signals[name])

    def stop(self, kind: str, nth: int) -> None:
        """Send SIGSTOP to a child."""
        self._note("stop", kind, nth)
        kids = self.cluster.children(kind)
        with contextlib.suppress(*TOO_LATE):
            if nth < len(kids):
                self.pins.append(Pin(self.cluster, kids[nth]))

    def resume(self, nth: int) -> None:
        """Send SIGCONT to a child that was stopped."""
        self._note("resume", nth)
        if nth < len(self.pins):
            self.pins.pop(nth).release()

    def reload(self) -> None:
        """Send SIGHUP to the postmaster."""
        self._note("reload")
        self.cluster.reload()

    def request_shutdown(self, mode: str) -> None:
        """Request a shutdown of this mode."""
        self._note("request_shutdown", mode)
        self.cluster.request_shutdown(ShutdownMode(mode))

    def start(self) -> None:
        """Start another postmaster, when the last one has exited."""
        self._note("start")
        self._release()
        self.cluster.start()

    def watch(self, seconds: float) -> None:
        """Look on for a time."""
        self._note("watch", seconds)
        until = time.monotonic() + seconds
        self.cluster.wait_for("a moment", lambda: time.monotonic() >= until, seconds + 10)

    def explain(self) -> None:
        """Check that some run of the model explains all that was done and seen so far."""
        self.cluster.watcher.look()
        self.monitor.judge()

    def end(self) -> None:
        """Stop the server, check that the model explains the whole life, and remove the cluster."""
        self._note("end")
        try:
            self._release()
            if self.is_running():
                self.cluster.request_shutdown(IMMEDIATE)
                self.cluster.wait_for(
                    "the postmaster's end", lambda: not self.is_running(), deadlines.SHUTDOWN_LIMIT
                )
            self.explain()
        finally:
            end_cluster(self.cluster, keep=False)

    def _release(self) -> None:
        """Resume all children and close all connections."""
        while self.pins:
            self.pins.pop().release()
        while self.sessions:
            self.sessions.popitem()[1].disconnect()

    def _note(self, verb: str, *args: object, **options: object) -> None:
        words = [repr(arg) for arg in args] + [f"{k}={v!r}" for k, v in options.items()]
        self.script.append(f"life.{verb}({', '.join(words)})")

    def as_test(self) -> str:
        """The source of a test that repeats the life."""
        script = [*self.script]
        if script[-1:] != ["life.end()"]:
            script += ["life.explain()", "life.end()"]
        return HEAD.format(settings=self.settings) + "".join(f"    {line}\n" for line in script)
