"""The logger: its files, their rotation, current_logfiles, and its exit.

Source: postmaster/syslogger.c: SysLoggerMain(), logfile_rotate_dest(), update_metainfo_datafile().
"""

import signal
from pathlib import Path

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, IMMEDIATE, ShutdownMode
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings

MAIN = "syslogger.c: SysLoggerMain()"
ROTATE = "syslogger.c: logfile_rotate_dest()"
NOTE = "syslogger.c: update_metainfo_datafile()"
NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.LOGGER]
SQL = [*NEEDS, Need.FULL_SQL]
LOG = "log/postgresql.log"
ALL_KINDS = "stderr,csvlog,jsonlog"
FAR_OFF, FAR_OFF_TOO = "35000000min", "34000000min"
"""Rotation is due at multiples of the age: of a day at midnight, of these not before 2034."""


def say(cluster: Cluster, **settings: object) -> None:
    """Write settings for the server, not for the reader of its log; then reload."""
    lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    with (cluster.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write(lines)
    if cluster.watcher.postmaster is not None:
        cluster.reload()


def noted(cluster: Cluster) -> list[str]:
    """The lines of current_logfiles."""
    path = cluster.data / "current_logfiles"
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def expect_noted(cluster: Cluster, *lines: str) -> None:
    """Wait until current_logfiles has exactly these lines."""
    cluster.wait_for(
        f"current_logfiles to say {lines}",
        lambda: noted(cluster) == list(lines),
        describe=lambda: str(noted(cluster)),
    )


def move_away(cluster: Cluster, name: str) -> Path:
    """Rename the file, and return the path where another may appear."""
    path = cluster.data / name
    path.rename(path.with_name(f"{path.name}.old"))
    return path


def write_log(cluster: Cluster) -> None:
    """Give the logger some kilobytes to write."""
    with cluster.session() as session:
        session.query(f"do $$ begin raise log '{'x' * 3000}'; end $$")


# current_logfiles.


@claim("TF-07 LG-01", source=NOTE, needs=NEEDS)
@settings(logging_collector="on")
def test_current_logfiles_follows_the_file(cluster: Cluster) -> None:
    """current_logfiles names the log file, and after a rename or move the new one."""
    before = cluster.since()
    expect_noted(cluster, f"stderr {LOG}")
    say(cluster, log_filename="elsewhere.log")
    expect_noted(cluster, "stderr log/elsewhere.log")
    say(cluster, log_directory="another")
    expect_noted(cluster, "stderr another/elsewhere.log")
    assert (cluster.data / "another" / "elsewhere.log").exists()
    cluster.expect_only(*before.kids)


@claim("TF-07", source="postmaster.c: PostmasterMain()", needs=NEEDS)
def test_stale_current_logfiles_is_removed(stopped_cluster: Cluster) -> None:
    """A server without a logger removes the current_logfiles of an earlier run."""
    cluster = stopped_cluster
    cluster.write_file("current_logfiles", "stderr log/of_old.log\n")
    cluster.start()
    assert noted(cluster) == []


@claim("TF-07 LG-06", source=ROTATE, needs=SQL, since=15, why="there is no jsonlog before")
@settings(logging_collector="on")
def test_reload_of_log_destination_opens_and_closes_files(cluster: Cluster) -> None:
    """A reload of log_destination opens and closes a file for each kind, and updates
    current_logfiles."""
    before = cluster.since()
    csv, json = "csvlog log/postgresql.csv", "jsonlog log/postgresql.json"
    say(cluster, log_destination="stderr,csvlog")
    expect_noted(cluster, f"stderr {LOG}", csv)
    assert (cluster.data / "log" / "postgresql.csv").exists()
    assert not (cluster.data / "log" / "postgresql.json").exists()
    say(cluster, log_destination=ALL_KINDS)
    expect_noted(cluster, f"stderr {LOG}", csv, json)
    say(cluster, log_destination="stderr,jsonlog")
    expect_noted(cluster, f"stderr {LOG}", json)
    say(cluster, log_destination="csvlog")
    expect_noted(cluster, csv)
    say(cluster, log_destination="syslog")
    cluster.wait_for("no current_logfiles", lambda: noted(cluster) == [])
    say(cluster, log_destination="stderr")
    expect_noted(cluster, f"stderr {LOG}")
    cluster.expect_only(*before.kids)


@claim("LG-06 SG-21", source=ROTATE, needs=SQL, since=15, why="there is no jsonlog before")
def test_request_rotates_the_file_of_each_kind(stopped_cluster: Cluster) -> None:
    """SIGUSR1 reopens the file of each kind, also in a logger that replaced another."""
    cluster = stopped_cluster
    cluster.configure(logging_collector="on", log_destination=ALL_KINDS)
    cluster.start()
    names = [f"log/postgresql.{kind}" for kind in ("log", "csv", "json")]
    paths = [move_away(cluster, name) for name in names]
    cluster.signal_child(Kind.LOGGER, signal.SIGUSR1)
    cluster.wait_for("all files anew", lambda: all(path.exists() for path in paths))
    write_log(cluster)
    for path in paths:
        cluster.wait_for("the line in each", lambda path=path: path.stat().st_size > 3000)  # type: ignore[misc]


# Rotation.


@claim("LG-06", source=MAIN, needs=SQL)
@pytest.mark.parametrize(("size", "rotates"), [("2kB", True), ("100MB", False), ("0", False)])
def test_rotation_by_size(stopped_cluster: Cluster, size: str, rotates: bool) -> None:
    """A file that has grown beyond log_rotation_size is rotated, and no other file is."""
    cluster = stopped_cluster
    cluster.configure(logging_collector="on")
    say(cluster, log_rotation_size=size)
    cluster.start()
    path = move_away(cluster, LOG)
    write_log(cluster)
    if rotates:
        cluster.expect_file(path)
    else:
        cluster.expect_still("no other file", lambda: not path.exists(), 0.3)
        cluster.signal_child(Kind.LOGGER, signal.SIGUSR1)
        cluster.expect_file(path)


@claim("LG-06", source=MAIN, needs=SQL, since=15, why="there is no jsonlog before")
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_rotation_by_size_of_each_kind(stopped_cluster: Cluster, kind: str) -> None:
    """A csv or json file that has grown too big is rotated, and no other file is."""
    cluster = stopped_cluster
    cluster.configure(logging_collector="on")
    cluster.start()
    say(cluster, log_rotation_size="2kB", log_destination=f"{kind}log")
    expect_noted(cluster, f"{kind}log log/postgresql.{kind}")
    stderr = move_away(cluster, LOG)
    cluster.signal_child(Kind.LOGGER, signal.SIGUSR1)
    cluster.wait_for("a file for stderr, empty", stderr.exists)
    path = move_away(cluster, f"log/postgresql.{kind}")
    write_log(cluster)
    cluster.expect_file(path)


@claim("LG-06", source="syslogger.c: set_next_rotation_time()", needs=SQL)
@pytest.mark.parametrize("age", [FAR_OFF, "0"])
def test_no_rotation_before_its_time(stopped_cluster: Cluster, age: str) -> None:
    """Before log_rotation_age has passed, or with 0, the logger does not rotate."""
    cluster = stopped_cluster
    cluster.configure(logging_collector="on")
    say(cluster, log_rotation_age=age, log_rotation_size="0")
    cluster.start()
    path = move_away(cluster, LOG)
    write_log(cluster)
    cluster.expect_still("no other file", lambda: not path.exists(), 0.3)
    say(cluster, log_rotation_age=FAR_OFF_TOO)
    cluster.expect_still("no other file", lambda: not path.exists(), 0.2)


@claim("LG-06", source=ROTATE, needs=NEEDS)
def test_request_never_truncates(stopped_cluster: Cluster) -> None:
    """Only rotation by age may truncate: after SIGUSR1 or a new name the logger appends."""
    cluster = stopped_cluster
    cluster.configure(logging_collector="on")
    say(cluster, log_truncate_on_rotation="on")
    cluster.start()
    path = cluster.data / LOG
    size = path.stat().st_size
    inode = path.stat().st_ino
    (cluster.data / "log").mkdir(exist_ok=True)
    other = cluster.write_file("log/elsewhere.log", "what was there\n")
    then = cluster.since()
    cluster.signal_child(Kind.LOGGER, signal.SIGUSR1)
    cluster.session().close()
    cluster.wait_for("more in the log", lambda: len(then.log()) > 0)
    assert (path.stat().st_ino, path.stat().st_size >= size) == (inode, True)
    say(cluster, log_filename="elsewhere.log")
    expect_noted(cluster, "stderr log/elsewhere.log")
    cluster.session().close()
    cluster.wait_for("more in the other", lambda: other.stat().st_size > 20)
    assert other.read_text(encoding="utf-8").startswith("what was there\n")


@claim("LG-06", source=ROTATE, needs=SQL)
@settings(logging_collector="on")
def test_rotation_that_fails_is_given_up_until_a_reload(cluster: Cluster) -> None:
    """If the next file cannot be opened, the logger keeps the old one; a reload retries."""
    before = cluster.since()
    blocked = cluster.write_file("blocked")
    say(cluster, log_directory="blocked")
    line = before.expect_log("^could not open log file ")
    given_up = "^disabling automatic rotation [(]use SIGHUP to re-enable[)]$"
    before.expect_log(given_up)
    assert (line.pid, line.level) == (cluster.child(Kind.LOGGER).pid, "LOG")
    assert noted(cluster) == [f"stderr {LOG}"]
    blocked.unlink()
    blocked.mkdir()
    cluster.target.user.chown(blocked)
    path = blocked / "postgresql.log"
    write_log(cluster)
    cluster.expect_still("no other file", lambda: not path.exists(), 0.2)
    cluster.reload()
    expect_noted(cluster, "stderr blocked/postgresql.log")
    assert path.exists()
    # The session that wrote may still be on its way out.
    before_keys = {kid.key for kid in before.kids}
    cluster.wait_for(
        "the same children as before",
        lambda: {kid.key for kid in cluster.children()} == before_keys,
    )


# Its end.


@claim("LG-03", source=MAIN, needs=SQL)
@settings(logging_collector="on")
@pytest.mark.parametrize("mode", [FAST, IMMEDIATE])
def test_logger_exits_last(cluster: Cluster, mode: ShutdownMode) -> None:
    """The logger exits by itself after the postmaster; its final message is the last line."""
    logger = cluster.child(Kind.LOGGER)
    then = cluster.since()
    cluster.stop(mode)
    then.expect_line("logger shutting down")

    def last_lines() -> list[str]:
        return (cluster.data / LOG).read_text(encoding="utf-8").splitlines()[-2:]

    final_message = f"[{logger.pid}] DEBUG:  logger shutting down"
    cluster.wait_for("the final message", lambda: last_lines()[-1].endswith(final_message))
    assert last_lines()[0].endswith(f"[{cluster.pid}] LOG:  database system is shut down")
