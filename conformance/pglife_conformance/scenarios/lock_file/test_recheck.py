"""The postmaster looks after its lock file: without it the data directory is not its own.

Source       rules SL-09, CR-40, SH-12; miscinit.c: RecheckDataDirLockFile(),
             postmaster.c: ServerLoop().
"""

from __future__ import annotations

import time

import pytest

from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.expect.lines import SHUT_DOWN
from pglife_conformance.pytest.claims import claim

RECHECKED_EVERY_S = 60.0
AT_LATEST_S = 150.0
A_TURN_S = 3.0
"""What the postmaster may need to come to it, the last of them included."""
CANNOT_OPEN = 'could not open file "postmaster.pid": '
INVALID = "performing immediate shutdown because data directory lock file is invalid"


def put_pid_file(cluster: Cluster, text: str) -> None:
    """In one step: a postmaster that looks while it is written must not find it empty."""
    path = cluster.write_file("postmaster.pid.new", text)
    path.replace(cluster.data / "postmaster.pid")


@claim("SL-09", "CR-40", "SH-12", "INV-103", source="miscinit.c: RecheckDataDirLockFile()")
@pytest.mark.unmonitored("the model has no clock of a minute")
@pytest.mark.waits_long
def test_postmaster_without_its_lock_file_shuts_down(make_cluster: MakeCluster) -> None:
    """A pid file that is gone, empty or another's: immediate shutdown within a minute, exit 0.

    One that cannot be opened for another reason is told, and one with more in it is good.
    """
    gone, empty, other, closed, good = everybody = [make_cluster() for _ in range(5)]
    for cluster in everybody:
        cluster.start()
    began = time.monotonic()
    marks = {cluster: cluster.since() for cluster in everybody}
    (gone.data / "postmaster.pid").unlink()
    put_pid_file(empty, "")
    text = (other.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    put_pid_file(other, "\n".join(["1", *text[1:]]) + "\n")
    (closed.data / "postmaster.pid").chmod(0o400)
    lines = (good.data / "postmaster.pid").read_text(encoding="utf-8")
    put_pid_file(good, lines + "and more\n")
    wrong = 'lock file "postmaster.pid" contains wrong PID: '
    missing = f"{CANNOT_OPEN}No such file or directory"
    request = "received immediate shutdown request"
    # Who has lost the file cannot write "stopping" into it either.
    for cluster, told in (
        (gone, [missing, INVALID, request, missing, SHUT_DOWN]),
        (empty, [f"{wrong}0 instead of {empty.pid}", INVALID, request, SHUT_DOWN]),
        (other, [f"{wrong}1 instead of {other.pid}", INVALID, request, SHUT_DOWN]),
    ):
        cluster.expect_exit(code=0, within=AT_LATEST_S)
        marks[cluster].expect_postmaster_lines(told)
        assert cluster.pid_file() is None
    reason = f"{CANNOT_OPEN}Permission denied; continuing anyway"
    marks[closed].expect_log(f"^{reason}$", within=AT_LATEST_S)
    good.wait_for(
        "more than its minute",
        lambda: time.monotonic() > began + RECHECKED_EVERY_S + A_TURN_S,
        AT_LATEST_S,
    )
    for cluster, told in ((closed, [reason]), (good, [])):
        assert cluster.is_running()
        marks[cluster].expect_postmaster_lines(told)
