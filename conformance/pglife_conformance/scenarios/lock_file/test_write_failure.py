"""A lock file that cannot be written any more: it is told, and nothing else comes of it.

Source       rules SH-12, MM-15; miscinit.c: AddToDataDirLockFile().
"""

from __future__ import annotations

import resource
import subprocess

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST
from pglife_conformance.pytest.claims import claim, settings

WRITE = 'could not write to file "postmaster.pid": '


def limit_files(cluster: Cluster, size: int) -> None:
    """Let the postmaster, and nobody who is there already, write files of this size at most."""
    pid, become = cluster.pid, cluster.target.user.becoming(keep_reading=False)

    def become_and_limit() -> None:
        become()
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    # Its own user may do so, and root not everywhere.
    subprocess.run(["true"], preexec_fn=become_and_limit, check=True)


@claim("SH-12", source="miscinit.c: AddToDataDirLockFile()", needs=[Need.LOGGER, Need.OS_SIGNALS])
@settings(logging_collector="on")
@pytest.mark.parametrize(
    ("bytes_allowed", "reason"),
    [(0, "File too large"), (16, "No space left on device")],
    ids=["none", "some"],
)
@pytest.mark.unmonitored("the pid file goes on saying that the server is ready")
def test_lock_file_that_cannot_be_written_is_told(
    cluster: Cluster, bytes_allowed: int, reason: str
) -> None:
    """If the new status cannot be written the postmaster says so, and shuts down as ever."""
    then = cluster.since()
    postmaster = cluster.pid
    # The log goes on through a pipe.
    limit_files(cluster, bytes_allowed)
    cluster.request_shutdown(FAST)
    told = then.expect_log(f"^{WRITE}")
    assert (told.pid, told.level, told.message) == (postmaster, "LOG", WRITE + reason)
    cluster.expect_exit(code=0)
    then.expect_line("database system is shut down")
    assert cluster.pid_file() is None
