"""Starve processes of the suite's servers of processor time, to find scenarios that race.

Run it beside the suite, with something that keeps the processors busy:
`.venv/bin/python benchmarks/starve.py --kind 'io worker'`. SIGINT or SIGTERM ends it. It needs the
rights of the servers' user, or root.
"""

import contextlib
import os
import random
import re
import signal
import time
from typing import Annotated

import typer

from pglife_conformance.observation.processes import read_title

TICK_S = 0.004
SPELLS_S = (0.02, 0.05, 0.2, 0.5, 1.0)
"""How long a process starves."""
PLACE = "/pglife-"
NICE = 15
"""Niceness and SCHED_IDLE do not show in a process's state, as SIGSTOP does: sched(7)."""


def is_ours(pid: int) -> bool:
    """Whether this process belongs to a server of the suite."""
    try:
        return PLACE in os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return False


def set_policy(pid: int, policy: int) -> None:
    """Give a process this scheduling policy, unless it has exited."""
    with contextlib.suppress(ProcessLookupError):
        os.sched_setscheduler(pid, policy, os.sched_param(0))


class AnyProcess:
    """Starves new processes for a while, and later any process now and then."""

    def __init__(self, rng: random.Random, share: float) -> None:
        self._rng = rng
        self._share = share
        self._until: dict[int, float] = {}

    def look(self, pids: set[int], fresh: set[int]) -> None:
        """Choose processes; `fresh` are those that did not exist at the last call."""
        now = time.monotonic()
        for pid, until in list(self._until.items()):
            if pid not in pids or now > until:
                del self._until[pid]
                set_policy(pid, os.SCHED_OTHER)
        chosen = [pid for pid in sorted(fresh) if self._rng.random() < self._share]
        # A child inherits the scheduling policy of its parent at the fork.
        chosen += [pid for pid in sorted(fresh) if self._inherits(pid)]
        if pids and self._rng.random() < self._share:
            chosen.append(self._rng.choice(sorted(pids)))
        for pid in chosen:
            set_policy(pid, os.SCHED_IDLE)
            self._until.setdefault(pid, now + self._rng.choice(SPELLS_S))

    def _inherits(self, pid: int) -> bool:
        with contextlib.suppress(ProcessLookupError):
            return os.sched_getscheduler(pid) == os.SCHED_IDLE
        return False

    def let_go(self) -> None:
        """Restore all processes."""
        for pid in self._until:
            set_policy(pid, os.SCHED_OTHER)


class OneKind:
    """Starves all processes whose title matches, for their whole life."""

    def __init__(self, kind: str) -> None:
        self._wanted = re.compile(kind)
        self._titles: dict[int, str] = {}

    def look(self, pids: set[int], fresh: set[int]) -> None:
        """Match new titles; a process is matched again when its title changes."""
        self._titles = {pid: title for pid, title in self._titles.items() if pid in pids}
        for pid in pids:
            title = read_title(pid)
            if self._titles.get(pid) != title:
                self._titles[pid] = title
                self._set(pid, NICE if self._wanted.search(title) else 0)

    def let_go(self) -> None:
        """Restore all processes."""
        for pid in self._titles:
            self._set(pid, 0)

    def _set(self, pid: int, level: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, pid, level)


def main(
    kind: Annotated[str, typer.Option(help="a regular expression of titles; else anybody")] = "",
    seed: Annotated[int, typer.Option(help="of who starves, and when")] = 1,
    share: Annotated[float, typer.Option(help="of those that come")] = 0.25,
) -> None:
    """Starve servers' processes until SIGINT or SIGTERM arrives."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell makes its background processes ignore SIGINT: undo that.
        signal.signal(number, signal.default_int_handler)
    unfair: AnyProcess | OneKind = OneKind(kind) if kind else AnyProcess(random.Random(seed), share)
    known: set[int] = set()
    try:
        while True:
            pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
            before, known = known, {pid for pid in pids if pid in known or is_ours(pid)}
            unfair.look(known, known - before)
            time.sleep(TICK_S)
    except KeyboardInterrupt:
        pass
    finally:
        unfair.let_go()


if __name__ == "__main__":
    typer.run(main)
