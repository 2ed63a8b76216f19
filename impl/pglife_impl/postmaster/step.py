"""One decision in the making: the state so far, and the requests so far.

Begin with Step, which every function of the decisions takes. Most functions only change the state
and add requests. A function that may fork is a generator: it yields the Fork and gets its outcome
back, so what follows a fork stands behind it, and nothing is kept in the state meanwhile.

Source: postmaster.c: UpdatePMState(), signal_child(), SignalChildren(), StartChildProcess().
"""

import signal
from collections.abc import Collection, Generator
from typing import TypeVar

from pglife_impl.base.ids import WorkerNumber
from pglife_impl.base.kinds import ALL_BUT_LOGGER, Kind, info
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.base.words import Level, PidStatus
from pglife_impl.postmaster.requests import (
    Fork,
    ForkFailure,
    ForkOutcome,
    Listen,
    Log,
    Request,
    SetQuitReason,
    SignalChild,
    WritePidStatus,
)
from pglife_impl.postmaster.state import PM, Child, Config, PmState, StartupStatus

Result = TypeVar("Result")
Deciding = Generator[Request, ForkOutcome | None, Result]
"""A decision, or a part of one, that yields requests; only a Fork has an outcome."""

ENDS_THE_STARTUP_PROCESS = (signal.SIGQUIT, signal.SIGKILL, signal.SIGABRT)


class Step:
    """A decision in the making.

    Args:
        pm: the state, which the decision changes.
        now: the time, in Unix seconds.
    """

    def __init__(self, pm: PmState, config: Config, now: float) -> None:
        self.pm = pm
        self.config = config
        self.now = now
        self.requests: list[Request] = []

    def advance_to(self, state: PM) -> None:
        """Set pmState. Logged also when it does not change (PM-01)."""
        self.log(Level.DEBUG1, f"updating PMState from {self.pm.state} to {state}")
        self.pm.state = state

    def ask(self, request: Request) -> None:
        """Add a request."""
        self.requests.append(request)

    def flush(self) -> Deciding[None]:
        """Yield the requests made so far, so that they are performed before what follows."""
        while self.requests:
            yield self.requests.pop(0)

    def log(self, level: Level, message: str) -> None:
        """Ask for a log line."""
        self.ask(Log(level, message))

    def pid_status(self, status: PidStatus) -> None:
        """Ask for line 8 of postmaster.pid to be rewritten."""
        self.ask(WritePidStatus(status))

    def quit_reason(self, reason: QuitReason) -> None:
        """Ask for the reason of the SIGQUIT that follows to be written (PG-35)."""
        self.ask(SetQuitReason(reason))

    def signal_child(self, signum: signal.Signals, child: Child) -> None:
        """Signal one child."""
        self.ask(SignalChild(child.pid, child.kind, signum))

    def signal_children(self, signum: signal.Signals, kinds: Collection[Kind]) -> None:
        """Signal every child of these kinds (SignalChildren)."""
        for child in self.pm.children.values():
            if child.kind in kinds:
                self.signal_child(signum, child)

    def terminate_children(self, signum: signal.Signals) -> None:
        """Signal all children but the logger, dead-end children too (TerminateChildren).

        A startup process that gets SIGQUIT, SIGABRT or SIGKILL is marked, so that its exit is
        not taken for a failure of recovery (SV-07).
        """
        self.signal_children(signum, ALL_BUT_LOGGER)
        if signum in ENDS_THE_STARTUP_PROCESS and self.pm.pid_of(Kind.STARTUP) is not None:
            self.pm.startup_status = StartupStatus.SIGNALED

    def listen(self, *, accepting: bool) -> None:
        """Accept connections, or leave them in the kernel's backlog (SV-25)."""
        self.pm.listening = accepting
        self.ask(Listen(accepting))

    def fork(self, kind: Kind, worker: WorkerNumber | None = None) -> Deciding[bool]:
        """Fork a child that serves no client, and record it.

        Returns:
            Whether the child exists. If not, the reason is in the log.
        """
        slot = self.pm.take_slot(kind)
        if slot is None:
            self.log(Level.LOG, "no postmaster child slot available for aux process")
            return False
        return (yield from self.perform_fork(Fork(kind, slot), worker)) is None

    def perform_fork(
        self, fork: Fork, worker: WorkerNumber | None = None
    ) -> Deciding[ForkFailure | None]:
        """Yield a Fork, and record the child; or log the failure, free its slot and return it."""
        yield from self.flush()
        outcome = yield fork
        assert outcome is not None
        if isinstance(outcome, ForkFailure):
            self.pm.give_slot_back(fork.kind, fork.slot)
            self.log(Level.LOG, f"{info(fork.kind).fork_failure}: {outcome.error}")
            return outcome
        self.pm.add_child(Child(outcome, fork.kind, fork.slot, worker))
        return None


def log_name(pm: PmState, child: Child) -> str:
    """What the line about its exit calls a child."""
    if child.worker is not None:
        return f'background worker "{pm.workers[child.worker].name}"'
    return info(child.kind).log_name
