"""Rotation of the log by age: its time, the name of the file, truncation, and a failing open.

A log is rotated at full minutes of log_timezone at the soonest. The time zone of these scenarios is
off by some seconds, so that its minute ends when the scenario wants it to.

Source: postmaster/syslogger.c: set_next_rotation_time(), logfile_rotate(), logfile_rotate_dest(),
logfile_open().
"""

import re
import stat
import time
from pathlib import Path

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.processes.logger.test_files import noted, say

OPEN = "syslogger.c: logfile_open()"
ROTATE = "syslogger.c: logfile_rotate_dest()"
NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.LOGGER, Need.FULL_SQL]
FIRST_IN_S = 2
ATTEMPTS = 4
LATE_S = 10.0
"""What a loaded machine may need for a rotation whose time has come."""
SUFFIXES = ("log", "csv", "json")


def zone_whose_minute_ends(in_s: int) -> str:
    """A POSIX time zone in which a minute ends in that many seconds.

    Its summer time has the offset in seconds, and lasts all year but for the first hour: a zone
    with such an offset at New Year 2000 is taken to count leap seconds.
    """
    now = time.gmtime()
    if now.tm_yday == 1 and now.tm_hour <= 1:
        raise Inconclusive("a time zone of our own", "it is New Year")
    ahead = 60 - (int(time.time()) + in_s) % 60
    return f"UTC0UTC-00:00:{ahead % 60:02d},J1/1,J365/24"


def until_next_minute_ms(cluster: Cluster, logger: Child) -> int:
    """For how long the logger, waited for, sleeps until the end of a minute."""

    def planned() -> int | None:
        ms = sleep_ms(logger.pid)
        return ms if ms is not None and 0 < ms <= 60_000 else None

    return cluster.wait_for("a logger that sleeps until the next minute", planned)


def begin_a_last_minute(cluster: Cluster) -> str:
    """Let the log be at_SS.log, and a minute of log_timezone be nearly over.

    Gives SS, which is not 00. The logger is seen to sleep until the end of that minute: one that
    has read its settings too late for it would sleep for another minute.
    """
    logger = cluster.child(Kind.LOGGER)
    for attempt in range(ATTEMPTS):
        in_s = FIRST_IN_S * 2**attempt
        zone = zone_whose_minute_ends(in_s)
        say(cluster, log_timezone=zone, log_filename="at_%S.log", log_rotation_age="1min")
        in_ms = until_next_minute_ms(cluster, logger)
        name = re.fullmatch(r"stderr log/at_(\d\d)\.log", (noted(cluster) or [""])[0])
        if in_ms <= in_s * 1000 and name is not None and name[1] != "00":
            return name[1]
        # Only a change of the age makes the logger count anew, one of the name asks for a file.
        say(cluster, log_rotation_age="0", log_filename=f"again_{attempt}.log")
        cluster.expect_endless_sleep(logger)
    raise Inconclusive("a logger that reads its settings soon", "it took too long each time")


def expect_the_next_file(cluster: Cluster) -> None:
    """The end of the minute, and the file that is named by it."""
    limit = FIRST_IN_S * 2**ATTEMPTS + LATE_S
    cluster.wait_for(
        "the file of the full minute",
        lambda: noted(cluster)[:1] == ["stderr log/at_00.log"],
        limit,
        describe=lambda: str(noted(cluster)),
    )


@claim("LG-06", source="syslogger.c: set_next_rotation_time()", needs=NEEDS)
def test_log_rotates_at_the_end_of_a_minute(stopped_cluster: Cluster) -> None:
    """With log_rotation_age = 1min the log rotates at the full minute to a file named by it."""
    cluster = stopped_cluster
    cluster.configure(logging_collector="on")
    cluster.start()
    before = cluster.since()
    second = begin_a_last_minute(cluster)
    expect_the_next_file(cluster)
    assert (cluster.data / "log" / f"at_{second}.log").exists()
    cluster.expect_only(*before.kids)
    until_next_minute_ms(cluster, cluster.child(Kind.LOGGER))


@claim("LG-06", source=ROTATE, needs=NEEDS, since=15, why="there is no jsonlog before")
@pytest.mark.parametrize("truncates", [True, False])
def test_rotation_by_age_may_truncate(stopped_cluster: Cluster, truncates: bool) -> None:
    """With log_truncate_on_rotation, rotation by age truncates the next file of each kind."""
    cluster = stopped_cluster
    cluster.configure(logging_collector="on", log_destination="stderr,csvlog,jsonlog")
    say(cluster, log_truncate_on_rotation="on" if truncates else "off")
    cluster.start()
    old = [cluster.write_file(f"log/at_00.{suffix}", "of old\n") for suffix in SUFFIXES]
    begin_a_last_minute(cluster)
    expect_the_next_file(cluster)
    cluster.wait_for("all of them noted", lambda: len(noted(cluster)) == len(old))
    for path in old:
        assert path.read_text(encoding="utf-8").startswith("of old\n") is not truncates, path


@claim("LG-06", source=ROTATE, needs=NEEDS)
@pytest.mark.parametrize("truncate", ["on", "off"])
def test_rotation_by_age_that_fails(stopped_cluster: Cluster, truncate: str) -> None:
    """If the file of the full minute cannot be opened, the old one is kept until a reload."""
    cluster = stopped_cluster
    cluster.configure(logging_collector="on")
    say(cluster, log_truncate_on_rotation=truncate)
    cluster.start()
    before = cluster.since()
    blocked: Path = cluster.data / "log" / "at_00.log"
    blocked.mkdir()
    second = begin_a_last_minute(cluster)
    line = before.expect_log("^could not open log file ", within=FIRST_IN_S * 2**ATTEMPTS + LATE_S)
    assert (line.pid, line.level) == (cluster.child(Kind.LOGGER).pid, "LOG")
    before.expect_log("^disabling automatic rotation [(]use SIGHUP ")
    assert noted(cluster) == [f"stderr log/at_{second}.log"]
    logger = cluster.child(Kind.LOGGER)
    cluster.expect_endless_sleep(logger)
    blocked.rmdir()
    say(cluster, log_filename="afterwards.log")
    cluster.wait_for("another file", lambda: noted(cluster) == ["stderr log/afterwards.log"])
    cluster.expect_only(*before.kids)


@claim("LG-06", source=OPEN, needs=NEEDS)
@pytest.mark.parametrize(
    ("asked", "given"), [("0600", 0o600), ("0644", 0o644), ("0440", 0o640), ("0006", 0o206)]
)
def test_log_file_has_the_mode_that_is_asked_for(
    stopped_cluster: Cluster, asked: str, given: int
) -> None:
    """log_file_mode is the mode of a new log file, but that its owner may write in any case."""
    cluster = stopped_cluster
    cluster.configure(logging_collector="on")
    say(cluster, log_file_mode=asked)
    cluster.start()
    say(cluster, log_filename="new.log")
    path = cluster.data / "log" / "new.log"
    cluster.wait_for("the new file", lambda: noted(cluster) == ["stderr log/new.log"])
    assert oct(stat.S_IMODE(path.stat().st_mode)) == oct(given)
