"""One decision in the making: the state so far and the requests so far.

Begin with   Step; every pm_*.py function takes one and works on it.
Owns         advance_to(), the only writer of PmState.state.
Leaves out   what is decided.
Source       postmaster.c: UpdatePMState(), signal_child(), SignalChildren().
"""

from __future__ import annotations

import signal
from collections.abc import Collection
from typing import Any

from pglife_impl.base.cac import Cac
from pglife_impl.base.kinds import ALL_BUT_LOGGER, Kind, info
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.base.words import Level, PidStatus
from pglife_impl.postmaster.events import (
    Fork,
    Listen,
    Log,
    Request,
    SetQuitReason,
    SignalChild,
    WritePidStatus,
)
from pglife_impl.postmaster.state import (
    PM,
    Child,
    Config,
    PmState,
    StartupStatus,
)


class Step:
    """A draft of the next state; `pm` is replaced, never changed in place."""

    def __init__(self, pm: PmState, config: Config, now: float) -> None:
        self.pm = pm
        self.config = config
        self.now = now
        self.requests: list[Request] = []
        self.over = False  # Exit was asked for: nothing more is decided

    def set(self, **changes: Any) -> None:
        """Change variables other than pmState."""
        assert "state" not in changes, "pmState has one writer: advance_to()"
        self.pm = self.pm.replace(**changes)

    def advance_to(self, state: PM) -> None:
        """Enter a state. Logged also when it is the same one (PM-01)."""
        self.log(Level.DEBUG1, f"updating PMState from {self.pm.state} to {state}")
        self.pm = self.pm.replace(state=state)

    def ask(self, request: Request) -> None:
        """Add a request."""
        self.requests.append(request)

    def log(self, level: Level, message: str) -> None:
        """Ask for a log line."""
        self.ask(Log(level, message))

    def pid_status(self, status: PidStatus) -> None:
        """Ask for line 8 of the pid file to be rewritten."""
        self.ask(WritePidStatus(status))

    def quit_reason(self, reason: QuitReason) -> None:
        """Ask for the reason of the SIGQUIT that follows to be written (PG-35)."""
        self.ask(SetQuitReason(reason))

    def signal(self, signum: int, child: Child) -> None:
        """Signal one child."""
        self.ask(SignalChild(child.pid, child.kind, signum))

    def signal_children(self, signum: int, kinds: Collection[Kind]) -> None:
        """Signal every child of these kinds (SignalChildren)."""
        for child in self.pm.children.values():
            if child.kind in kinds:
                self.signal(signum, child)

    def terminate_children(self, signum: int) -> None:
        """Signal everybody but the logger, dead-end children too (TerminateChildren).

        With QUIT, ABRT or KILL a startup process is marked, so that its death is known to be our
        doing (SV-07).
        """
        self.signal_children(signum, ALL_BUT_LOGGER)
        told_to_die = signum in (signal.SIGQUIT, signal.SIGKILL, signal.SIGABRT)
        if told_to_die and self.pm.pid_of(Kind.STARTUP):
            self.set(startup_status=StartupStatus.SIGNALED)

    def stop_accepting(self) -> None:
        """Let clients wait in the kernel's backlog from now on (SV-25)."""
        self.set(listening=False)
        self.ask(Listen(False))

    def accept_again(self) -> None:
        """Serve the listening sockets again."""
        self.set(listening=True)
        self.ask(Listen(True))

    def fork(self, kind: Kind, worker: int = -1) -> bool:
        """Take a slot and ask for a child; False if there is no slot."""
        self.pm, slot = self.pm.take_slot(kind)
        if slot == 0:
            self.log(Level.LOG, "no postmaster child slot available for aux process")
            return False
        self.ask(Fork(kind, slot, worker))
        return True

    def fork_for_client(self, cac: Cac) -> None:
        """Ask for a session, or for a dead-end child that tells the client why not."""
        if cac is Cac.OK:
            self.pm, slot = self.pm.take_slot(Kind.BACKEND)
            if slot:
                self.ask(Fork(Kind.BACKEND, slot))
                return
            cac = Cac.TOO_MANY
        self.ask(Fork(Kind.DEAD_END_BACKEND, 0, cac=cac))


def log_name(pm: PmState, child: Child) -> str:
    """What the child is called in the line about its death (table 3.4)."""
    if child.kind is Kind.BG_WORKER:
        return f'background worker "{pm.workers[child.worker].type}"'
    return info(child.kind).log_name
