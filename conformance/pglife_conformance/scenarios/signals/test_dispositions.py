"""The signals that a child blocks while it starts, and those that it ignores or handles afterwards.

Source: fork_process.c: fork_process(), miscinit.c: InitPostmasterChild(), backend_startup.c:
BackendInitialize(), and the pqsignal() calls at the start of each process.
"""

import re
import signal
from pathlib import Path

import pytest

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.client import Tag
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.cluster.standby import start_pair, stop
from pglife_conformance.hold.ptrace import WATCHED, Blocked, FollowedChild
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.signals import read_signals
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.signals.test_targets import (
    EVERY_KIND,
    PRIMARY,
    STANDBY,
    every_kind_stopped,
)

NEEDS = [Need.OS_SIGNALS, Need.FULL_SQL]
AFTER_FORK = WATCHED
INITIALIZING = WATCHED - {signal.SIGQUIT}
READING_PACKET = WATCHED - {signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM}
READY = frozenset[signal.Signals]()


def masks_of_a_backend(cluster: Cluster) -> list[Blocked]:
    """The signal masks of a client's child from its fork until it is ready.

    The postmaster may fork another process first. Then this tries again.
    """
    while True:
        with FollowedChild(cluster) as caught:
            client = cluster.raw_client()
            client.send_startup({"user": "postgres", "database": "postgres"})
            masks = caught.masks()
            child = caught.pid
        assert any(message.tag is Tag.READY_FOR_QUERY for message in client.messages())
        client.close()
        if client.backend_pid == child:
            return masks


@claim("CN-11 SG-30", source="backend_startup.c: BackendInitialize()", needs=NEEDS)
def test_starting_child_accepts_term_only_while_it_reads_its_packet(cluster: Cluster) -> None:
    """A client's child blocks all signals but QUIT until its handlers are set.

    While it waits for its startup packet it accepts TERM and ALRM too.
    """
    assert masks_of_a_backend(cluster) == [
        AFTER_FORK,
        INITIALIZING,
        READING_PACKET,
        INITIALIZING,
        READY,
    ]


@claim("CN-11", source="miscinit.c: InitPostmasterChild()", needs=NEEDS)
@pytest.mark.parametrize(
    "kind", [Kind.BACKGROUND_WRITER, Kind.WALWRITER, Kind.AUTOVACUUM_LAUNCHER], ids=str
)
def test_background_process_blocks_all_until_its_handlers_are_set(
    cluster: Cluster, kind: Kind
) -> None:
    """A background process unblocks QUIT first, and all other signals when its handlers are set."""
    with FollowedChild(cluster) as caught:
        cluster.signal_child(kind, signal.SIGTERM)
        masks = caught.masks()
    assert masks == [AFTER_FORK, INITIALIZING, READY]


IGNORED_BY_ALL = "PIPE TTIN TTOU XFSZ"
"""Inherited from the postmaster; each process sets PIPE itself."""
BACKEND = ("USR2", "ALRM FPE HUP INT QUIT TERM USR1")
DISPOSITIONS: dict[Kind, tuple[str, str]] = {
    Kind.STARTUP: ("INT", "ALRM HUP QUIT TERM USR1 USR2"),
    Kind.CHECKPOINTER: ("ALRM TERM", "HUP INT QUIT USR1 USR2"),
    Kind.BACKGROUND_WRITER: ("ALRM INT USR2", "HUP QUIT TERM USR1"),
    Kind.WALWRITER: ("ALRM USR2", "HUP INT QUIT TERM USR1"),
    Kind.WALRECEIVER: ("ALRM INT USR2", "HUP QUIT TERM USR1"),
    Kind.WALSUMMARIZER: ("ALRM USR2", "HUP INT QUIT TERM USR1"),
    Kind.ARCHIVER: ("ALRM INT", "HUP QUIT TERM USR1 USR2"),
    Kind.LOGGER: ("ALRM INT QUIT TERM USR2", "HUP USR1"),
    # The only kind that keeps the postmaster's handler of CHLD.
    Kind.IO_WORKER: ("ALRM TERM", "CHLD HUP INT QUIT USR1 USR2"),
    Kind.AUTOVACUUM_LAUNCHER: ("", "ALRM FPE HUP INT QUIT TERM USR1 USR2"),
    Kind.AUTOVACUUM_WORKER: BACKEND,
    Kind.LOGICAL_REPLICATION_LAUNCHER: BACKEND,
    Kind.SLOTSYNC_WORKER: BACKEND,
    Kind.PARALLEL_WORKER: ("HUP USR2", "ALRM FPE INT QUIT TERM USR1"),
    Kind.WALSENDER: ("", "ALRM HUP INT QUIT TERM USR1 USR2"),
    Kind.CLIENT_BACKEND: BACKEND,
}
"""The signals that each kind ignores, beyond IGNORED_BY_ALL, and those that it handles."""
CHECKED = frozenset(
    " ".join([IGNORED_BY_ALL, *(f"{a} {b}" for a, b in DISPOSITIONS.values())]).split()
)


def dispositions_of(child: Child) -> tuple[set[str], set[str]] | None:
    """The checked signals that a process ignores and handles; None if it has exited."""
    found = read_signals(child.pid)
    if found is None:
        return None
    ignored, handled = (
        {number.name.removeprefix("SIG") for number in numbers} & CHECKED
        for numbers in (found.ignored, found.caught)
    )
    return ignored, handled


def expect_dispositions(cluster: Cluster, wanted: set[Kind]) -> None:
    """A child of each of these kinds exists, and each child has the dispositions of its kind."""

    def wrong() -> list[str]:
        kids = [kid for kid in cluster.children() if kid.kind in DISPOSITIONS]
        found = [f"no {kind}" for kind in wanted - {kid.kind for kid in kids}]
        for kid in kids:
            ignored, handled = DISPOSITIONS[kid.kind]
            right = set(f"{ignored} {IGNORED_BY_ALL}".split()), set(handled.split())
            if (seen := dispositions_of(kid)) is not None and seen != right:
                found.append(f"{kid}: ignores {seen[0]}, handles {seen[1]}")
        return found

    # A new process may not have set all its handlers yet.
    cluster.wait_for(
        "the dispositions of each process", lambda: not wrong(), describe=lambda: "; ".join(wrong())
    )


@claim("SG-11 SG-15 SG-20 SG-45", source="pqsignal() in each process", needs=PRIMARY)
@pytest.mark.unmonitored("the model has no such processes")
@EVERY_KIND
def test_dispositions_of_each_process_of_a_primary(cluster: Cluster) -> None:
    """On a primary each process ignores and handles exactly the signals of its kind."""
    with every_kind_stopped(cluster, clients=True):
        expect_dispositions(
            cluster,
            {
                Kind.CHECKPOINTER,
                Kind.BACKGROUND_WRITER,
                Kind.WALWRITER,
                Kind.ARCHIVER,
                Kind.LOGGER,
                Kind.AUTOVACUUM_LAUNCHER,
                Kind.AUTOVACUUM_WORKER,
                Kind.LOGICAL_REPLICATION_LAUNCHER,
                Kind.PARALLEL_WORKER,
                Kind.WALSENDER,
                Kind.CLIENT_BACKEND,
            },
        )


@claim("SG-10 SG-18 SG-19", source="pqsignal() in each process", needs=STANDBY)
def test_dispositions_of_each_process_of_a_standby(make_cluster: MakeCluster) -> None:
    """On a standby each process ignores and handles exactly the signals of its kind."""
    pair = start_pair(make_cluster, slotsync=True, summarize=True)
    wanted = {Kind.STARTUP, Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.WALRECEIVER}
    if pair.standby.major >= 17:
        wanted |= {Kind.SLOTSYNC_WORKER, Kind.WALSUMMARIZER}
    expect_dispositions(pair.standby, wanted)
    stop(pair.standby, pair.primary)


@claim("SG-11 SG-12 SG-13", source="pqsignal() in each process", needs=NEEDS)
def test_dispositions_after_a_crash_restart(cluster: Cluster) -> None:
    """After a crash restart each process has the same dispositions as after the first start."""
    then = cluster.since()
    cluster.crash(Kind.WALWRITER)
    then.expect_ready()
    with cluster.session():
        expect_dispositions(cluster, {Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.WALWRITER})


MAIN = "postmaster.c: PostmasterMain()"


def mask(pid: Pid, name: str) -> set[signal.Signals]:
    """One of the signal sets of /proc/PID/status."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    bits = int(re.search(rf"^{name}:\s+(\S+)$", text, re.MULTILINE)[1], 16)  # type: ignore[index]
    return {number for number in signal.Signals if bits >> (number - 1) & 1}


@claim("SG-06 SG-05 SG-01", source=MAIN, needs=[Need.OS_SIGNALS])
def test_dispositions_of_the_postmaster(cluster: Cluster) -> None:
    """The postmaster handles six signals, ignores PIPE, TTIN, TTOU and XFSZ, and blocks none."""
    # URG is blocked where a latch reads it from a signalfd.
    blocked = {signal.SIGURG}
    cluster.wait_for("no signal blocked", lambda: mask(cluster.pid, "SigBlk") <= blocked)
    ignored = {signal.SIGTTIN, signal.SIGTTOU, signal.SIGXFSZ, signal.SIGPIPE}
    handled = {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGCHLD,
    }
    assert ignored <= mask(cluster.pid, "SigIgn")
    assert handled <= mask(cluster.pid, "SigCgt")
    for kid in cluster.children():
        assert ignored - {signal.SIGPIPE} <= mask(kid.pid, "SigIgn"), kid
