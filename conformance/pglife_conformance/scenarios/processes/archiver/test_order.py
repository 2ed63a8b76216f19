"""The archiver: the order of many ready files of both kinds, and a library that cannot be used.

Source: postmaster/pgarch.c: pgarch_readyXlog(), ready_file_comparator(), LoadArchiveLibrary().
"""

import pytest

from pglife_conformance.base.deadlines import START_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.standby import READ_ONLY_LINE
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.processes.archiver.test_archiver import (
    LISTING,
    NEEDS,
    READY,
    archived,
    fill_a_segment,
    idle_archiver,
    status_files,
)

KEPT_BETWEEN_LOOKS = 64
"""So many names the archiver remembers from one look into its directory."""


@claim("AR-02", source=READY, needs=NEEDS)
@settings(**LISTING)
@pytest.mark.parametrize(
    ("histories", "segments"), [(4, 9), (3, KEPT_BETWEEN_LOOKS + 3)], ids=["few", "many"]
)
def test_every_history_file_comes_before_every_segment(
    cluster: Cluster, histories: int, segments: int
) -> None:
    """However many files are ready, and whatever their order in the directory, the archiver takes
    all history files before all segments."""
    child = idle_archiver(cluster)
    first = [f"{number:08X}.history" for number in range(2, 2 + histories)]
    then = [f"0000000100000000000000{number:02X}" for number in range(0x80, 0x80 + segments)]
    wanted = [*first, *then]
    # Neither up nor down: eleven is prime to both numbers of files.
    shuffled = [wanted[11 * number % len(wanted)] for number in range(len(wanted))]
    assert sorted(shuffled) == sorted(wanted)
    with Pin(cluster, child):
        for name in shuffled:
            cluster.write_file(f"pg_wal/{name}")
            cluster.write_file(f"pg_wal/archive_status/{name}.ready")
        full = fill_a_segment(cluster)
    cluster.wait_for("all of them done", lambda: status_files(cluster, ".ready") == [], 60.0)
    assert [name for name in archived(cluster) if name != full] == wanted


@claim("AR-02 RC-12", source="pgarch.c: PgArchForceDirScan()", needs=[*NEEDS, Need.STANDBY])
@settings(max_connections="100", archive_mode="always", archive_command="sh slowly.sh %f")
def test_history_of_a_promotion_is_archived_next(stopped_cluster: Cluster) -> None:
    """A promotion's history file is archived next, before the segments that were ready earlier."""
    cluster = stopped_cluster
    wanted = [f"0000000100000000000000{number:02X}" for number in range(0x80, 0x84)]
    for name in wanted:
        cluster.write_file(f"pg_wal/{name}")
        cluster.write_file(f"pg_wal/archive_status/{name}.ready")
    cluster.write_file("slowly.sh", "echo $1 >> archived\nuntil test -e go; do sleep 0.05; done\n")
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=START_LIMIT)
    cluster.wait_for("the first one under way", lambda: archived(cluster) == wanted[:1])
    with cluster.session() as session:
        assert session.query("select pg_promote()") == [("t",)]
    cluster.wait_for(
        "a history that is ready", lambda: "00000002.history" in status_files(cluster, ".ready")
    )
    cluster.write_file("go")
    cluster.wait_for("all of them done", lambda: status_files(cluster, ".ready") == [], 60.0)
    ranked = [name for name in archived(cluster) if name in wanted or name.endswith(".history")]
    assert ranked == [wanted[0], "00000002.history", *wanted[1:]]


SYMBOL = "archive modules have to define the symbol _PG_archive_module_init"
NOTHING = 'could not access file "does_not_exist": No such file or directory'


@claim(
    "AR-07",
    source="pgarch.c: LoadArchiveLibrary()",
    needs=NEEDS,
    since=15,
    why="there is no archive_library before",
)
@pytest.mark.parametrize(("library", "reason"), [("plpgsql", SYMBOL), ("does_not_exist", NOTHING)])
def test_library_that_archives_nothing_ends_the_archiver(
    stopped_cluster: Cluster, library: str, reason: str
) -> None:
    """An archiver whose library is invalid logs FATAL and exits 1; the server keeps running."""
    cluster = stopped_cluster
    cluster.configure(archive_mode="on", archive_command="", archive_library=library)
    cluster.start(wait=False)
    line = cluster.expect_log(f"^{reason}$", within=20.0)
    assert line.level == "FATAL"
    cluster.wait_for(
        "its end", lambda: all(kid.pid != line.pid for kid in cluster.children(Kind.ARCHIVER))
    )
    cluster.expect_log("^database system is ready to accept connections$")
    cluster.expect_service()
    cluster.expect_no_log("^terminating any other active server processes$")
    assert cluster.child(Kind.CHECKPOINTER)
