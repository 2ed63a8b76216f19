"""The postmaster looks after its lock file: without it the data directory is not its own.

Source       rules SL-09, CR-40, SH-12; miscinit.c: RecheckDataDirLockFile(),
             postmaster.c: ServerLoop().
"""

from __future__ import annotations

import time

import pytest

from pglife_conformance.claims import claim
from pglife_conformance.cluster import Cluster
from pglife_conformance.crashes import SHUT_DOWN, expect_postmaster_lines, postmaster_lines
from pglife_conformance.fixtures import MakeCluster

RECHECKED_EVERY_S = 60.0
AT_LATEST_S = 150.0
A_TURN_S = 3.0
"""What the postmaster may need to come to it, the last of them included."""
REASONS = (
    'could not open file "postmaster.pid": ',
    'lock file "postmaster.pid" contains wrong PID: 1 instead of ',
)
INVALID = "performing immediate shutdown because data directory lock file is invalid"


def put_pid_file(cluster: Cluster, text: str) -> None:
    """In one step: a postmaster that looks while it is written must not find it empty."""
    path = cluster.write_file("postmaster.pid.new", text)
    path.replace(cluster.data / "postmaster.pid")


@claim("SL-09", "CR-40", "SH-12", source="miscinit.c: RecheckDataDirLockFile()")
@pytest.mark.unmonitored("the model has no clock of a minute")
def test_postmaster_without_its_lock_file_shuts_down(make_cluster: MakeCluster) -> None:
    """A pid file that is gone or names another pid: immediate shutdown within a minute, exit 0."""
    gone, other, good = make_cluster(), make_cluster(), make_cluster()
    for cluster in (gone, other, good):
        cluster.start()
    began = time.monotonic()
    marks = {cluster: cluster.mark() for cluster in (gone, other, good)}
    (gone.data / "postmaster.pid").unlink()
    text = (other.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    put_pid_file(other, "\n".join(["1", *text[1:]]) + "\n")
    lines = (good.data / "postmaster.pid").read_text(encoding="utf-8")
    put_pid_file(good, lines + "and more\n")
    for cluster in (gone, other):
        cluster.expect_exit(code=0, within=AT_LATEST_S)
        told = [
            line
            for line in postmaster_lines(cluster, marks[cluster])
            if not line.startswith(REASONS)
        ]
        assert told == [INVALID, "received immediate shutdown request", SHUT_DOWN]
        assert cluster.pid_file() is None
    good.wait_for(
        "more than its minute",
        lambda: time.monotonic() > began + RECHECKED_EVERY_S + A_TURN_S,
        AT_LATEST_S,
    )
    assert good.is_running()
    expect_postmaster_lines(good, [], marks[good])
