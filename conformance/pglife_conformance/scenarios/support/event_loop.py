"""Whether the postmaster sleeps or spins, and its log lines about the exit of a child."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from pglife_conformance.base.ids import Pid
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.since import Since

WATCHED_S = 0.4
MAY_USE = 0.6
"""An idle postmaster may be awake for this share of the time; a spinning one always is."""
ITERATION_S = 0.03
"""One loop iteration takes less CPU time. A postmaster that used no more has not spun, however long
it waited for a processor on a loaded machine."""


@dataclass(frozen=True)
class Awake:
    """How long a postmaster has run, and how long it was runnable without a processor."""

    ran_s: float
    waited_s: float

    @classmethod
    def of(cls, cluster: Cluster) -> Awake:
        """The times of this postmaster since its start."""
        with open(f"/proc/{cluster.pid}/schedstat", encoding="ascii") as file:
            ran, waited = (int(word) for word in file.read().split()[:2])
        return cls(ran / 1e9, waited / 1e9)

    def has_spun(self, since: Awake, allowed_s: float) -> bool:
        """Whether the postmaster was awake for longer than this and has used the processor."""
        ran, waited = self.ran_s - since.ran_s, self.waited_s - since.waited_s
        return ran > ITERATION_S and ran + waited > allowed_s


def expect_asleep(cluster: Cluster) -> None:
    """The postmaster does not spin."""
    cluster.expect_idle()
    began, before = time.monotonic(), Awake.of(cluster)

    def sleeps() -> bool:
        allowed = MAY_USE * max(WATCHED_S, time.monotonic() - began)
        return not Awake.of(cluster).has_spun(before, allowed)

    cluster.expect_still("a postmaster that sleeps", sleeps, WATCHED_S)


def exit_lines(cluster: Cluster, pid: Pid, since: Since) -> list[tuple[str, str]]:
    """Level and message of the postmaster's log lines about this child."""
    records = (r for r in since.log() if r.pid == cluster.pid)
    return [
        (re.sub(r"^DEBUG\d?$", "DEBUG", r.level), r.message)
        for r in records
        if f"(PID {pid})" in r.message
    ]
