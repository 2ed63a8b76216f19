"""Sockets, pipes and shared memory that children keep from the postmaster, or close."""

import os
import re
from pathlib import Path

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.pin import pin_smart_pending
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings

PORTS = "postmaster.c: ClosePostmasterPorts()"


def files_of(pid: Pid) -> dict[str, set[str]]:
    """The sockets and pipes that a process has open, each with r, w or rw."""
    found: dict[str, set[str]] = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            what = os.readlink(f"/proc/{pid}/fd/{number}")
            text = Path(f"/proc/{pid}/fdinfo/{number}").read_text(encoding="ascii")
        except OSError:
            continue
        flags = int(re.search(r"^flags:\s+(\d+)$", text, re.MULTILINE)[1], 8)  # type: ignore[index]
        found.setdefault(what, set()).add(("r", "w", "rw")[flags & os.O_ACCMODE])
    return found


def listening_sockets(cluster: Cluster) -> set[str]:
    """The postmaster's sockets. While no client connects it has only listening ones."""
    return {what for what in files_of(cluster.pid) if what.startswith("socket:")}


LOG_AND_MEMORY = [Need.LOGGER, Need.SYSV_SHM, Need.PROCESS_TITLES]
ALL_PROCESSES = [Need.TCP, Need.LOGGER, Need.PROCESS_TITLES]


@claim("CN-11 ST-03", source=PORTS, needs=ALL_PROCESSES)
@settings(listen_addresses="127.0.0.1", logging_collector="on")
def test_children_do_not_keep_the_listening_sockets(cluster: Cluster) -> None:
    """No child has a listening socket open, so the port is free when the postmaster exits."""
    sockets = listening_sockets(cluster)
    assert len(sockets) == 2
    with pin_smart_pending(cluster):
        refused = cluster.silent_client()
        kids = cluster.children()
        assert {Kind.LOGGER, Kind.CLIENT_BACKEND, Kind.UNKNOWN} <= {kid.kind for kid in kids}
        cluster.wait_for(
            "children without a listening socket",
            lambda: not any(sockets & files_of(kid.pid).keys() for kid in kids),
        )
        refused.disconnect()


@claim("LG-03 CR-41", source=PORTS, needs=ALL_PROCESSES)
@settings(logging_collector="on")
def test_ends_of_pipes_that_children_keep(cluster: Cluster) -> None:
    """The logger alone reads the log's pipe; the postmaster alone can write its death pipe."""
    with cluster.session():
        own = files_of(cluster.pid)
        kids = {kid: files_of(kid.pid) for kid in cluster.children()}
        logger = next(files for kid, files in kids.items() if kid.kind is Kind.LOGGER)
        others = {kid: files for kid, files in kids.items() if kid.kind is not Kind.LOGGER}
        both = {what for what, how in own.items() if what.startswith("pipe:") and len(how) == 2}
        log_pipe = {what for what in both if any("w" in f.get(what, ()) for f in others.values())}
        assert len(log_pipe) == 1
        (log,) = log_pipe
        assert "r" in logger[log]
        assert [str(kid) for kid, files in others.items() if files.get(log) != {"w"}] == []
        death_pipes = [what for what in both if all(f.get(what) == {"r"} for f in kids.values())]
        assert len(death_pipes) == 1


@claim("LG-02", source="launch_backend.c: postmaster_child_launch()", needs=LOG_AND_MEMORY)
@settings(logging_collector="on")
def test_all_children_but_the_logger_have_shared_memory(cluster: Cluster) -> None:
    """Every child but the logger has the shared memory attached."""

    def has_it(pid: Pid) -> bool:
        return "/SYSV" in Path(f"/proc/{pid}/maps").read_text(encoding="ascii")

    assert has_it(cluster.pid)
    with cluster.session():
        kids = cluster.children()
        assert {Kind.LOGGER, Kind.CLIENT_BACKEND} <= {kid.kind for kid in kids}
        assert {kid.kind for kid in kids if not has_it(kid.pid)} == {Kind.LOGGER}
