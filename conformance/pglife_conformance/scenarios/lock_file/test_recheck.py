"""The postmaster rechecks postmaster.pid once a minute.

Source: miscinit.c: RecheckDataDirLockFile(); postmaster.c: ServerLoop().
"""

import time

import pytest

from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.expect.lines import SHUT_DOWN
from pglife_conformance.pytest.claims import claim

RECHECKED_EVERY_S = 60.0
AT_LATEST_S = 150.0
MARGIN_S = 3.0
"""An iteration of the event loop may start so late."""
CANNOT_OPEN = 'could not open file "postmaster.pid": '
INVALID = "performing immediate shutdown because data directory lock file is invalid"


def put_pid_file(cluster: Cluster, text: str) -> None:
    """Replace the file in one step, so that the postmaster never reads an empty one."""
    path = cluster.write_file("postmaster.pid.new", text)
    path.replace(cluster.data / "postmaster.pid")


@claim("SL-09 CR-40 SH-12 INV-103", source="miscinit.c: RecheckDataDirLockFile()")
@pytest.mark.unmonitored("the model has no timer of a minute")
@pytest.mark.waits_long
def test_postmaster_without_its_lock_file_shuts_down(make_cluster: MakeCluster) -> None:
    """A pid file that is missing, empty or names another pid: immediate shutdown within a
    minute, exit 0. One that cannot be opened is logged only; one with more lines is valid."""
    gone, empty, other, closed, good = clusters = [make_cluster() for _ in range(5)]
    for cluster in clusters:
        cluster.start()
    began = time.monotonic()
    marks = {cluster: cluster.since() for cluster in clusters}
    (gone.data / "postmaster.pid").unlink()
    put_pid_file(empty, "")
    text = (other.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    put_pid_file(other, "\n".join(["1", *text[1:]]) + "\n")
    (closed.data / "postmaster.pid").chmod(0o400)
    put_pid_file(good, (good.data / "postmaster.pid").read_text(encoding="utf-8") + "and more\n")
    wrong = 'lock file "postmaster.pid" contains wrong PID: '
    missing = f"{CANNOT_OPEN}No such file or directory"
    request = "received immediate shutdown request"
    # Without the file the postmaster cannot write "stopping" into it either.
    for cluster, lines in (
        (gone, [missing, INVALID, request, missing, SHUT_DOWN]),
        (empty, [f"{wrong}0 instead of {empty.pid}", INVALID, request, SHUT_DOWN]),
        (other, [f"{wrong}1 instead of {other.pid}", INVALID, request, SHUT_DOWN]),
    ):
        cluster.expect_exit(code=0, within=AT_LATEST_S)
        marks[cluster].expect_postmaster_lines(lines)
        # Whether it removes a file that names another server is a finding of its own (W5).
        assert cluster is other or cluster.pid_file() is None
    reason = f"{CANNOT_OPEN}Permission denied; continuing anyway"
    marks[closed].expect_log(f"^{reason}$", within=AT_LATEST_S)
    good.let_pass(RECHECKED_EVERY_S + MARGIN_S, since=began)
    for cluster, lines in ((closed, [reason]), (good, [])):
        assert cluster.is_running()
        marks[cluster].expect_postmaster_lines(lines)
