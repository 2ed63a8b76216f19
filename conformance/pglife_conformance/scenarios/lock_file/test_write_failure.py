"""A failed write to postmaster.pid is logged and has no other consequence.

Source: miscinit.c: AddToDataDirLockFile().
"""

import resource
import subprocess

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST
from pglife_conformance.pytest.claims import claim, settings

WRITE = 'could not write to file "postmaster.pid": '


def limit_files(cluster: Cluster, size: int) -> None:
    """Limit the files that the postmaster writes, and no child that runs already, to this size."""
    pid, become = cluster.pid, cluster.target.user.becoming(keep_reading=False)

    def become_and_limit() -> None:
        become()
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    # The server's own user may set the limit; root may not in every container.
    subprocess.run(["true"], preexec_fn=become_and_limit, check=True)


@claim("SH-12", source="miscinit.c: AddToDataDirLockFile()", needs=[Need.LOGGER, Need.OS_SIGNALS])
@settings(logging_collector="on")
@pytest.mark.parametrize(
    ("bytes_allowed", "reason"),
    [(0, "File too large"), (16, "No space left on device")],
    ids=["none", "some"],
)
@pytest.mark.unmonitored("line 8 of the pid file stays `ready`")
def test_failed_write_to_the_lock_file_is_logged(
    cluster: Cluster, bytes_allowed: int, reason: str
) -> None:
    """If the new status cannot be written the postmaster logs it and shuts down normally."""
    then = cluster.since()
    postmaster = cluster.pid
    # The log is written through a pipe, so the limit does not stop it.
    limit_files(cluster, bytes_allowed)
    cluster.request_shutdown(FAST)
    record = then.expect_log(f"^{WRITE}")
    assert (record.pid, record.level, record.message) == (postmaster, "LOG", WRITE + reason)
    cluster.expect_exit(code=0)
    then.expect_line("database system is shut down")
    assert cluster.pid_file() is None
