"""The archiver: the order of its files, its retries, and its exit.

Source: postmaster/pgarch.c: pgarch_MainLoop(), pgarch_ArchiverCopyLoop(), pgarch_readyXlog(),
archive/shell_archive.c.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST
from pglife_conformance.expect.lines import exited_line, quoted
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim, settings

MAIN_LOOP = "pgarch.c: pgarch_MainLoop()"
COPY_LOOP = "pgarch.c: pgarch_ArchiverCopyLoop()"
READY = "pgarch.c: pgarch_readyXlog()"
NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.ARCHIVER, Need.FULL_SQL]

LISTED = "echo %f >> archived"
"""The data directory has a list of what has been archived."""
LISTING = {"archive_mode": "on", "archive_command": LISTED}
FAILED_TOO_OFTEN = "failed too many times, will try again later"
SURELY_TOO_SOON_S = 6.0
"""An archiver may come ten seconds after the last one did, of a clock of whole seconds."""
MINUTE_MS = (59_000, 60_000)
"""Until 15 it counts the seconds since its last round, which may be a part of one."""
STAYS_S = 58
"""It may go after a minute, of a clock of whole seconds; and surely goes three seconds later."""


def idle_archiver(cluster: Cluster) -> Child:
    """The archiver, once it is idle."""
    child = cluster.child(Kind.ARCHIVER)
    cluster.expect_idle(child)
    return child


def fill_a_segment(cluster: Cluster) -> str:
    """Write a few bytes, switch the segment, and return the name of the full segment.

    It writes no more than that: initdb's WAL may end near the end of its segment.
    """
    with cluster.session() as session:
        session.query("select pg_create_restore_point('here')")
        name = session.query("select pg_walfile_name(pg_switch_wal())")[0][0]
        assert name is not None
        return name


def status_files(cluster: Cluster, suffix: str) -> list[str]:
    """The segments with a .ready or .done file."""
    place = cluster.data / "pg_wal" / "archive_status"
    return sorted(path.name.removesuffix(suffix) for path in place.glob(f"*{suffix}"))


def archived(cluster: Cluster) -> list[str]:
    """The segments that the archive command was run for, in order."""
    path = cluster.data / "archived"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def age_s(child: Child) -> float:
    """The child's age in seconds."""
    born = child.start_time / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - born


def title(cluster: Cluster) -> str:
    """The archiver's title."""
    return cluster.child(Kind.ARCHIVER).title


@claim("AR-02 TI-08", source=COPY_LOOP, needs=NEEDS)
@settings(**LISTING)
def test_archiver_is_woken_for_each_full_segment(cluster: Cluster) -> None:
    """A full segment is archived at once and gets a .done file; the title names the last one."""
    idle_archiver(cluster)
    before = cluster.since()
    names = []
    for _ in range(2):
        names.append(fill_a_segment(cluster))
        cluster.wait_for("the segment done", lambda: names[-1] in status_files(cluster, ".done"))
        assert archived(cluster) == names
        cluster.expect_title(
            cluster.child(Kind.ARCHIVER), f"^postgres: archiver last was {names[-1]}$"
        )
        assert status_files(cluster, ".ready") == []
    before.expect_undisturbed()
    with cluster.session() as session:
        counts = "select archived_count, failed_count from pg_stat_archiver"
        session.expect_rows(counts, [("2", "0")])


@claim("AR-03 TI-08", source=COPY_LOOP, needs=NEEDS)
@settings(archive_mode="on", archive_command="echo %f >> archived; false")
def test_archiver_gives_up_after_three_failures(cluster: Cluster) -> None:
    """The archiver tries a failing file three times, then logs a WARNING and does not exit."""
    child = idle_archiver(cluster)
    before = cluster.since()
    name = fill_a_segment(cluster)
    line = before.expect_log(FAILED_TOO_OFTEN)
    assert (line.pid, line.level) == (child.pid, "WARNING")
    assert line.message == f'archiving write-ahead log file "{name}" {FAILED_TOO_OFTEN}'
    assert archived(cluster) == [name] * 3
    records = before.log(pid=child.pid)
    failures = [r for r in records if r.message == "archive command failed with exit code 1"]
    assert [r.level for r in failures] == ["LOG"] * 3
    assert title(cluster) == f"postgres: archiver failed on {name}"
    assert status_files(cluster, ".ready") == [name]
    cluster.expect_still("no other try", lambda: archived(cluster) == [name] * 3, 1.2)
    before.expect_undisturbed()


@claim("AR-03", source=COPY_LOOP, needs=NEEDS)
@settings(archive_mode="on", archive_command=f"{LISTED}; test $(wc -l < archived) -gt 1")
def test_archiver_retries_within_a_second(cluster: Cluster) -> None:
    """The archiver retries a file that failed once; after a success it does not retry again."""
    idle_archiver(cluster)
    then = cluster.since()
    name = fill_a_segment(cluster)
    then.expect_line("archive command failed with exit code 1")
    cluster.wait_for("the segment done", lambda: status_files(cluster, ".done") == [name])
    then.expect_no_log(FAILED_TOO_OFTEN)
    assert archived(cluster) == [name] * 2


@claim("AR-04 RP-18 AR-06", source="archive/shell_archive.c: shell_archive_file()", needs=NEEDS)
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("kill -TERM $$", "archive command was terminated by signal 15: Terminated"),
        ("exit 127", "archive command failed with exit code 127"),
    ],
    ids=["killed", "not-found"],
)
def test_command_that_cannot_be_run_ends_the_archiver(
    stopped_cluster: Cluster, command: str, said: str
) -> None:
    """If the command is killed by a signal or does not exist, the archiver exits 1 with FATAL."""
    cluster = stopped_cluster
    cluster.configure(archive_mode="on", archive_command=command)
    cluster.start()
    child = idle_archiver(cluster)
    before = cluster.since()
    name = fill_a_segment(cluster)
    line = before.expect_log(f"^{said}$")
    assert (line.pid, line.level) == (child.pid, "FATAL")
    cluster.expect_death(child)
    cluster.expect_still(
        "no archiver that comes too soon",
        lambda: age_s(child) > SURELY_TOO_SOON_S or not cluster.children(Kind.ARCHIVER),
        0.2,
    )
    assert status_files(cluster, ".ready") == [name]
    before.expect_undisturbed(gone=[child])


@claim("AR-02", source=COPY_LOOP, needs=NEEDS)
@settings(archive_mode="on", archive_command="")
def test_archiving_without_a_command_waits_for_one(cluster: Cluster) -> None:
    """Without a command the archiver logs a WARNING and archives nothing until a reload sets it."""
    child = idle_archiver(cluster)
    before = cluster.since()
    name = fill_a_segment(cluster)
    setting = quoted("archive_mode", cluster)
    line = before.expect_log(f"^{setting} enabled, yet archiving is not configured$")
    assert (line.pid, line.level) == (child.pid, "WARNING")
    idle_archiver(cluster)
    assert status_files(cluster, ".ready") == [name]
    cluster.reload(archive_command=LISTED)
    cluster.wait_for("the segment done", lambda: status_files(cluster, ".done") == [name])
    assert archived(cluster) == [name]
    assert cluster.child(Kind.ARCHIVER).key == child.key


@claim("AR-02", source=COPY_LOOP, needs=NEEDS)
@settings(**LISTING)
def test_orphan_status_file_is_removed(cluster: Cluster) -> None:
    """A status file without its segment is removed with a WARNING; the next file is archived."""
    idle_archiver(cluster)
    before = cluster.since()
    orphan = "pg_wal/archive_status/000000010000000000000000.ready"
    cluster.write_file(orphan)
    name = fill_a_segment(cluster)
    line = before.expect_log("^removed orphan archive status file ")
    assert (line.level, line.message) == (
        "WARNING",
        f'removed orphan archive status file "{orphan}"',
    )
    cluster.wait_for("the segment done", lambda: status_files(cluster, ".done") == [name])
    assert not (cluster.data / orphan).exists()
    assert archived(cluster) == [name]
    before.expect_undisturbed()


@claim("AR-02", source=READY, needs=NEEDS)
@settings(archive_mode="on", archive_command="sh take_away.sh %f")
def test_file_that_is_no_longer_ready_is_skipped(cluster: Cluster) -> None:
    """The archiver skips a listed file whose .ready file has been removed since it listed them."""
    child = idle_archiver(cluster)
    before = cluster.since()
    names = [f"0000000100000000000000F{number}" for number in range(3)]
    # The archiver lists all of them and then comes to each; the first one takes another away.
    gone = cluster.data / "pg_wal" / "archive_status" / f"{names[1]}.ready"
    cluster.write_file("take_away.sh", f"rm -f {gone}\necho $1 >> archived\n")
    with Pin(cluster, child):
        for name in names:
            cluster.write_file(f"pg_wal/{name}")
            cluster.write_file(f"pg_wal/archive_status/{name}.ready")
        fill_a_segment(cluster)
    cluster.wait_for("nothing ready", lambda: status_files(cluster, ".ready") == [])
    idle_archiver(cluster)
    assert [name for name in archived(cluster) if name in names] == [names[0], names[2]]
    before.expect_undisturbed()


@claim("AR-02", source=READY, needs=NEEDS)
@settings(**LISTING)
def test_history_comes_first_then_the_oldest(cluster: Cluster) -> None:
    """History files are archived first, then segments from the oldest to the newest."""
    child = idle_archiver(cluster)
    wanted = [
        "00000002.history",
        "000000010000000000000000",
        "0000000100000000000000F0",
        "0000000100000000000000F1",
        "000000010000000100000000",
    ]
    not_ready = ["0000000100000000000000F2.reedy", "short.ready", "Z" * 24 + ".ready"]
    with Pin(cluster, child):
        for name in [wanted[3], wanted[0], wanted[4], wanted[2], wanted[1]]:
            cluster.write_file(f"pg_wal/{name}")
            cluster.write_file(f"pg_wal/archive_status/{name}.ready")
        for name in not_ready:
            cluster.write_file(f"pg_wal/archive_status/{name}")
        full = fill_a_segment(cluster)
    cluster.wait_for("all of them done", lambda: status_files(cluster, ".ready") == NOT_NAMES)
    idle_archiver(cluster)
    assert [name for name in archived(cluster) if name != full] == wanted
    assert sorted(archived(cluster)) == sorted([full, *wanted])


NOT_NAMES = sorted(["short", "Z" * 24])


# Its end.


@claim("AR-05 SG-17 SH-17 SH-21 INV-109", source=MAIN_LOOP, needs=NEEDS)
@settings(**LISTING)
def test_last_cycle_archives_what_a_shutdown_leaves(cluster: Cluster) -> None:
    """A fast shutdown archives every segment, also the segment of the last checkpoint."""
    child = idle_archiver(cluster)
    with Pin(cluster, child):
        full = fill_a_segment(cluster)
        with cluster.session() as session:
            session.query("select pg_create_restore_point('in the last segment')")
        cluster.request_shutdown(FAST)
        cluster.expect_count(Kind.WALWRITER, 0, 20.0)
    cluster.expect_exit(code=0)
    assert status_files(cluster, ".ready") == []
    assert archived(cluster)[0] == full
    assert len(archived(cluster)) == 2


@claim("AR-05 SG-17", source=MAIN_LOOP, needs=NEEDS)
@settings(**LISTING)
def test_archiver_archives_nothing_after_sigterm(cluster: Cluster) -> None:
    """After SIGTERM the archiver keeps running but archives nothing, not even when it exits.

    Wake-ups change nothing: the archiver exits by itself only after a minute.
    """
    child = idle_archiver(cluster)
    cluster.signal_child(child, signal.SIGTERM)
    for _ in range(2):
        idle_archiver(cluster)
        name = fill_a_segment(cluster)
    cluster.expect_still("nothing archived", lambda: not archived(cluster), 0.2)
    assert cluster.child(Kind.ARCHIVER).key == child.key
    cluster.stop()
    assert archived(cluster) == []
    assert name in status_files(cluster, ".ready")


@claim("AR-05 AR-02", source=MAIN_LOOP, needs=NEEDS)
@pytest.mark.waits_long
@settings(**LISTING)
def test_archiver_exits_a_minute_after_sigterm(cluster: Cluster) -> None:
    """An idle archiver wakes once a minute. After SIGTERM alone it stays for a minute; at the next
    wake-up after that it exits 0 and is replaced."""
    child = idle_archiver(cluster)
    cluster.expect_sleep(child, MINUTE_MS)
    before = cluster.since()
    signalled_at = time.monotonic()
    cluster.signal_child(child, signal.SIGTERM)
    idle_archiver(cluster)
    name = fill_a_segment(cluster)
    taken_at = time.monotonic()
    cluster.let_pass(STAYS_S, since=signalled_at)
    if time.monotonic() - signalled_at < STAYS_S + 1:
        cluster.signal_child(child, signal.SIGUSR1)
        assert idle_archiver(cluster).key == child.key
    cluster.let_pass(STAYS_S + 3, since=taken_at)
    cluster.end_child(child, signal.SIGUSR1)
    cluster.wait_for("the segment archived", lambda: archived(cluster) == [name])
    before.expect_undisturbed(gone=[child])


@claim("SG-17 AR-05", source=MAIN_LOOP, needs=NEEDS)
@settings(archive_mode="on", archive_command="test -e go")
def test_archiver_that_ends_makes_one_last_round(cluster: Cluster) -> None:
    """SIGUSR2 makes a sleeping archiver retry what failed before, and then exit 0."""
    child = idle_archiver(cluster)
    before = cluster.since()
    name = fill_a_segment(cluster)
    before.expect_log(FAILED_TOO_OFTEN)
    idle_archiver(cluster)
    cluster.write_file("go")
    cluster.end_child(child, signal.SIGUSR2)
    assert status_files(cluster, ".done") == [name]
    before.expect_undisturbed(gone=[child])


@claim(
    "AR-07",
    source="pgarch.c: ProcessPgArchInterrupts()",
    needs=NEEDS,
    since=15,
    why="there is no archive_library before",
)
@settings(archive_mode="on", archive_command="")
def test_another_archive_library_makes_the_archiver_exit(cluster: Cluster) -> None:
    """A reload that changes archive_library makes the archiver exit 0; it is restarted later."""
    child = idle_archiver(cluster)
    before = cluster.since()
    cluster.reload(work_mem="5MB")
    idle_archiver(cluster)
    assert cluster.child(Kind.ARCHIVER).key == child.key
    cluster.reload(archive_library="another")
    record = before.expect_line(
        'restarting archiver process because value of "archive_library" was changed'
    )
    assert (record.pid, record.level) == (child.pid, "LOG")
    cluster.expect_death(child)
    line = exited_line(cluster, child, 0)
    cluster.expect_still("no line of its exit", lambda: line not in before.messages("LOG"), 0.1)
    assert _others(before, child) <= {kid.key for kid in cluster.children()}


def _others(before: Since, child: Child) -> set[object]:
    return {kid.key for kid in before.kids if kid.key != child.key}


@claim(
    "AR-07",
    source="pgarch.c: ProcessPgArchInterrupts()",
    needs=NEEDS,
    since=16,
    why="the library has precedence before",
)
@settings(**LISTING)
def test_command_and_library_at_once_end_the_archiver(cluster: Cluster) -> None:
    """If a reload sets both archive_command and archive_library, the archiver exits 1 with FATAL;
    this is no crash."""
    child = idle_archiver(cluster)
    before = cluster.since()
    cluster.reload(archive_library="another")
    both = " and ".join(quoted(name, cluster) for name in ("archive_command", "archive_library"))
    line = before.expect_line(f"both {both} set")
    assert (line.pid, line.level) == (child.pid, "FATAL")
    cluster.expect_death(child)
    assert _others(before, child) <= {kid.key for kid in cluster.children()}


@claim("CR-41 CR-52 AR-02", source=COPY_LOOP, needs=[*NEEDS, Need.CRASH_INJECTION])
@pytest.mark.unmonitored("the model ends with its postmaster")
@settings(archive_mode="on", archive_command=f"{LISTED}; while test -e hold; do sleep 0.02; done")
def test_archiver_begins_nothing_after_the_postmasters_death(cluster: Cluster) -> None:
    """When the postmaster dies, the archiver finishes the current command and starts no other."""
    idle_archiver(cluster)
    hold: Path = cluster.write_file("hold")
    cluster.at_end.append(lambda: hold.unlink(missing_ok=True))
    names = [fill_a_segment(cluster)]
    cluster.wait_for("the first one under way", lambda: archived(cluster) == names)
    fill_a_segment(cluster)
    cluster.signal_postmaster(signal.SIGKILL)
    cluster.expect_exit(code=None)
    hold.unlink()
    cluster.expect_no_process()
    assert archived(cluster) == names
