"""The checkpointer: requests, waits, log lines, counts, and failures.

Source: postmaster/checkpointer.c: CheckpointerMain(), RequestCheckpoint(), CheckpointWriteDelay(),
CheckArchiveTimeout().
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.events import FAST
from pglife_conformance.expect.lines import TERMINATING, exited_line
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.targets.base import Program

MAIN = "checkpointer.c: CheckpointerMain()"
REQUEST = "checkpointer.c: RequestCheckpoint()"
DELAY = "checkpointer.c: CheckpointWriteDelay()"
A_WHILE_S = 0.2


class Quiet:
    """Whether a number has not changed for longer than archive_timeout."""

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._last = number()
        self._since = time.monotonic()

    def is_idle(self) -> bool:
        """Whether the number is the same as a while ago."""
        now = self._number()
        if now != self._last:
            self._last, self._since = now, time.monotonic()
        return time.monotonic() - self._since > 1.5


def started(cluster: Cluster, since: Since) -> list[str]:
    """The kinds of the checkpoints that have begun, from their log lines."""
    found = (re.fullmatch(r"checkpoint starting: (.*)", r.message) for r in since.log())
    return [line[1] for line in found if line is not None]


@claim("CK-01 PG-33", source=REQUEST, needs=SQL)
@settings(log_checkpoints="on")
def test_checkpoint_command_waits_for_its_checkpoint(cluster: Cluster) -> None:
    """CHECKPOINT requests a checkpoint and returns when the checkpointer has completed it."""
    with cluster.session() as session:
        for _ in range(2):
            then = cluster.since()
            with Pin(cluster, Kind.CHECKPOINTER) as pin:
                session.send_query("checkpoint")
                session.expect_silence(A_WHILE_S)
                assert started(cluster, then) == []
            session.result()
            then.expect_log("^checkpoint complete: ")
            lines = then.log(matching="^checkpoint ")
            assert {record.pid for record in lines} == {pin.child.pid}
            assert {record.level for record in lines} == {"LOG"}
            assert started(cluster, then) == ["immediate force wait"]


@claim("CK-01", source=MAIN, needs=SQL)
@settings(log_checkpoints="on")
def test_no_checkpoint_without_a_request(cluster: Cluster) -> None:
    """A server that has just started begins no checkpoint by itself; one request makes one
    checkpoint."""
    with cluster.session() as session:
        session.query("create table something()")
        cluster.expect_still(
            "no checkpoint", lambda: started(cluster, cluster.all_log()) == [], A_WHILE_S
        )
        session.query("checkpoint")
        one = ["immediate force wait"]
        cluster.expect_still(
            "one checkpoint", lambda: started(cluster, cluster.all_log()) == one, A_WHILE_S
        )


@claim("CK-01 CK-02", source=MAIN, needs=SQL)
@settings(log_checkpoints="on", max_wal_size="2MB", min_wal_size="2MB")
def test_wal_volume_triggers_checkpoints(cluster: Cluster) -> None:
    """A volume of WAL triggers a checkpoint; one too soon after the last is logged with a hint."""
    then = cluster.since()
    complaint = "^checkpoints are occurring too frequently [(][0-9]+ seconds? apart[)]$"
    with cluster.session() as session:

        def write_and_look() -> bool:
            session.query("create table something(); drop table something")
            session.query("select pg_switch_wal()")
            return then.find_log(complaint) is not None

        cluster.wait_for("a checkpoint by volume", write_and_look)
    line = then.find_log(complaint)
    assert line is not None
    assert line.level == "LOG"
    assert line.hint is not None
    assert "max_wal_size" in line.hint
    cluster.wait_for("the checkpoint", lambda: "wal" in started(cluster, then))


@claim("CK-02", source=MAIN, needs=SQL)
@settings(log_checkpoints="on", max_wal_size="2MB", min_wal_size="2MB", checkpoint_warning="0")
def test_checkpoints_by_volume_without_a_complaint(cluster: Cluster) -> None:
    """With checkpoint_warning = 0 no log line complains of checkpoints by volume."""
    then = cluster.since()
    with cluster.session() as session:

        def write_and_look() -> bool:
            session.query("create table something(); drop table something")
            session.query("select pg_switch_wal()")
            return started(cluster, then).count("wal") >= 2

        cluster.wait_for("two checkpoints by volume", write_and_look)
    then.expect_no_log("too frequently")


@claim("CK-01", source="checkpointer.c: CheckArchiveTimeout()", needs=SQL)
@settings(archive_timeout="1s")
def test_archive_timeout_switches_the_segment(cluster: Cluster) -> None:
    """With archive_timeout the segment that was written to is switched once."""
    with cluster.session() as session:
        # A checkpointer that was born in recovery does not look at archive_timeout until woken.
        session.query("checkpoint")
        then = cluster.since()
        session.query("create table something()")
        line = then.expect_log("^write-ahead log switch forced [(]")
        assert line.pid == cluster.child(Kind.CHECKPOINTER).pid
        quiet = Quiet(lambda: sum("switch forced" in r.message for r in then.log()))
        cluster.wait_for("no more switches than there is to switch", quiet.is_idle)


# What the checkpointer sees to for others.


@claim("SG-11", source="checkpointer.c: UpdateSharedMemoryConfig()", needs=SQL)
def test_checkpointer_applies_a_reload_for_all_backends(cluster: Cluster) -> None:
    """Commits wait for a standby that a reload has named, until another reload removes it."""
    with cluster.session() as session:
        session.query("create table something(a int)")
        # A checkpointer tells of what it keeps at its birth too; one that has worked has done so.
        session.query("checkpoint")
        then = cluster.since()
        cluster.reload(synchronous_standby_names="nobody")
        then.expect_log("^checkpointer updated shared memory configuration")
        session.send_query("insert into something values (1)")
        session.expect_silence(A_WHILE_S)
        cluster.reload(synchronous_standby_names="")
        assert session.result() == []
        assert session.query("select a from something") == [("1",)]


@claim(
    "SG-11 CK-01",
    source="checkpointer.c: UpdateSharedMemoryConfig()",
    needs=[*SQL, Need.PG_CONTROLDATA],
)
def test_full_page_writes_as_they_are_at_the_checkpoint(stopped_cluster: Cluster) -> None:
    """Each checkpoint records full_page_writes as set at the start or by the last reload."""
    cluster = stopped_cluster
    cluster.configure(full_page_writes="off")
    cluster.start()

    def recorded() -> str:
        done = cluster.target.run(Program.PG_CONTROLDATA, ["-D", str(cluster.data)])
        lines = dict(line.split(":", 1) for line in done.out.splitlines() if ":" in line)
        return lines["Latest checkpoint's full_page_writes"].strip()

    with cluster.session() as session:
        session.query("checkpoint")
        assert recorded() == "off"
        then = cluster.since()
        cluster.reload(full_page_writes="on")
        then.expect_log("^checkpointer updated shared memory configuration")
        session.query("checkpoint")
        assert recorded() == "on"


# Its counts.


def counts(cluster: Cluster, session: Session) -> tuple[int, ...]:
    """Checkpoints by time, and by request; since 18 also those that were completed."""
    major = cluster.major
    if major <= 16:
        asked = "checkpoints_timed, checkpoints_req from pg_stat_bgwriter"
    elif major == 17:
        asked = "num_timed, num_requested from pg_stat_checkpointer"
    else:
        asked = "num_timed, num_requested, num_done from pg_stat_checkpointer"
    return tuple(int(word or "-1") for word in session.query(f"select {asked}")[0])


@claim("CK-01 CK-10", source=MAIN, needs=SQL)
def test_checkpoints_are_counted(cluster: Cluster) -> None:
    """Each request is counted once, also the shutdown's; the counts survive a restart."""
    with cluster.session() as session:
        first = counts(cluster, session)
        for number in (1, 2):
            session.query("checkpoint")
            wanted = (first[0], *(count + number for count in first[1:]))
            cluster.wait_for(
                "the counts",
                lambda wanted=wanted: counts(cluster, session) == wanted,  # type: ignore[misc]
                describe=lambda: str(counts(cluster, session)),
            )
    cluster.restart()
    with cluster.session() as session:
        requested = first[1] + 3
        assert counts(cluster, session)[:2] == (first[0], requested)


# Failures: what is needed for a checkpoint is not there.


@contextlib.contextmanager
def without_snapshots(cluster: Cluster) -> Iterator[None]:
    """Checkpoints fail as long as a directory that they read is missing."""
    place = cluster.data / "pg_logical" / "snapshots"
    elsewhere = place.with_name("elsewhere")
    place.rename(elsewhere)

    def put_back() -> None:
        if elsewhere.exists():
            elsewhere.rename(place)

    cluster.at_end.append(put_back)
    yield
    put_back()


@claim("CK-09", source=MAIN, needs=SQL)
def test_failed_checkpoint_is_an_error_and_later_ones_succeed(cluster: Cluster) -> None:
    """A session that waits for a failing checkpoint gets an ERROR; a later checkpoint succeeds."""
    before = cluster.since()
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    with cluster.session() as session:
        session.query("create table something()")
        with without_snapshots(cluster), pytest.raises(ServerError) as error:
            session.query("checkpoint")
        assert error.value.answer.severity == "ERROR"
        assert error.value.answer.message == "checkpoint request failed"
        hint = "Consult recent messages in the server log for details."
        assert error.value.answer.hint == hint
        reason = before.expect_log("^could not open directory .*snapshots")
        assert (reason.pid, reason.level) == (checkpointer.pid, "ERROR")
        session.query("checkpoint")
    before.expect_undisturbed()


@claim(
    "CK-06 CR-32 SH-23", source=MAIN, needs=SQL, since=18, why="before, another crash: exit 1 too"
)
@pytest.mark.unmonitored("the model's checkpointer does not fail by itself")
def test_shutdown_checkpoint_that_fails_is_a_crash(cluster: Cluster) -> None:
    """If the shutdown checkpoint fails, the checkpointer exits 1, and so does the server."""
    then = cluster.since()
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    with without_snapshots(cluster):
        cluster.request_shutdown(FAST)
        reason = then.expect_log("^could not open directory .*snapshots")
        assert (reason.pid, reason.level) == (checkpointer.pid, "FATAL")
        line = exited_line(cluster, checkpointer, 1)
        said = ["received fast shutdown request", "aborting any active transactions"]
        then.expect_abnormal_exit([*said, line, TERMINATING])


# A checkpoint that takes its time.

LOGGED_ALONE = {"log_checkpoints": "on", "bgwriter_lru_maxpages": "0"}
"""The background writer leaves all that is dirty to the checkpointer."""


@contextlib.contextmanager
def spread_checkpoint(cluster: Cluster) -> Iterator[Session]:
    """A session that waits for a checkpoint that would take twenty seconds.

    The checkpointer sleeps for a tenth of a second after each buffer, so many buffers must be
    dirty: `create table as` would use few buffers again and again.
    """
    with cluster.session() as session:
        session.query("create table something(a int)")
        session.query("insert into something select generate_series(1, 45000)")
    session = cluster.session()
    then = cluster.since()
    old = cluster.major <= 14
    session.send_query(f"select pg_{'start_backup' if old else 'backup_start'}('spread', false)")
    cluster.wait_for("the checkpoint", lambda: started(cluster, then) == ["force wait"])
    session.expect_silence(0.3)
    yield session


@claim("CK-08 CK-01", source=DELAY, needs=SQL)
@settings(**LOGGED_ALONE)
def test_checkpoint_command_hurries_a_spread_checkpoint(cluster: Cluster) -> None:
    """CHECKPOINT makes a spread checkpoint finish at full speed; its own checkpoint follows."""
    then = cluster.since()
    with spread_checkpoint(cluster) as waiting, cluster.session() as session:
        session.query("checkpoint")
        assert len(waiting.result()) == 1
        both = ["force wait", "immediate force wait"]
        assert started(cluster, then) == both
        waiting.close()


@claim("CK-08", source=DELAY, needs=SQL)
@settings(**LOGGED_ALONE)
def test_shutdown_hurries_a_spread_checkpoint(cluster: Cluster) -> None:
    """A shutdown makes a spread checkpoint end at full speed; the shutdown checkpoint follows."""
    then = cluster.since()
    with spread_checkpoint(cluster):
        cluster.stop()
    words = started(cluster, then)
    assert words[0] == "force wait"
    assert words[-1].startswith("shutdown")


@claim("CK-08 SG-11", source=DELAY, needs=SQL)
@settings(**LOGGED_ALONE)
def test_spread_checkpoint_sleeps_and_obeys_a_reload(cluster: Cluster) -> None:
    """A spread checkpoint sleeps between its writes, and obeys a reload."""
    with spread_checkpoint(cluster):
        then = cluster.since()
        cluster.reload(full_page_writes="off")
        then.expect_log("^checkpointer updated shared memory configuration")
        pid = cluster.child(Kind.CHECKPOINTER).pid

        def ticks() -> int:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
            stat = text.rpartition(")")[2].split()
            return int(stat[11]) + int(stat[12])

        used = ticks()
        cluster.expect_still("a checkpointer that sleeps", lambda: ticks() - used < 20, 0.5)
        cluster.stop()
