"""The command line of the postmaster, -C, and the files that it writes at its start.

Source: postmaster.c: PostmasterMain().
"""

import re

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.lines import READY_LINE
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import claim

MAIN = "postmaster.c: PostmasterMain()"
SQL = [Need.FULL_SQL]

SWITCHES: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (("-B", "20"), "shared_buffers", "20", "port"),
    (("-c", "work_mem=5MB"), "work_mem", "5120", "port"),
    (("--work-mem=6MB",), "work_mem", "6144", "port"),
    (("-d", "1"), "log_min_messages", "debug1", "log_statement"),
    (("-E",), "log_statement", "all", "DateStyle"),
    (("-e",), "DateStyle", "ISO, DMY", "fsync"),
    (("-F",), "fsync", "off", "enable_seqscan"),
    (("-f", "s"), "enable_seqscan", "off", "listen_addresses"),
    (("-h", "127.0.0.1"), "listen_addresses", "127.0.0.1", "port"),
    (("-i",), "listen_addresses", "*", "port"),
    (("-k", "/nowhere"), "unix_socket_directories", "/nowhere", "ssl"),
    (("-N", "17"), "max_connections", "17", "allow_system_table_mods"),
    (("-O",), "allow_system_table_mods", "on", "ignore_system_indexes"),
    (("-P",), "ignore_system_indexes", "on", "port"),
    (("-p", "4321"), "port", "4321", "work_mem"),
    (("-S", "333"), "work_mem", "333", "log_statement_stats"),
    (("-s",), "log_statement_stats", "on", "log_planner_stats"),
    (("-t", "pl"), "log_planner_stats", "on", "log_parser_stats"),
    (("-W", "7"), "post_auth_delay", "7", "port"),
    (("-j", "-r", "file"), "port", "5432", "work_mem"),
)
"""The switch, its setting, the value, and another setting that the switch does not change."""

ABORT_FOR_CRASH = (("-T",), "send_abort_for_crash", "on", "log_statement_stats")

REFUSED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("extra",), 'invalid argument: "extra"\nTry "'),
    (("-x",), "invalid option -- 'x'\nTry \""),
    (("-c", "work_mem"), "FATAL:  -c work_mem requires a value\n"),
    (("--work_mem",), "FATAL:  --work_mem requires a value\n"),
    (("-f", "x"), 'invalid argument for option -f: "x"'),
    (("-t", "x"), 'invalid argument for option -t: "x"'),
    (("-c", "nonsense=1"), 'unrecognized configuration parameter "nonsense"'),
    (("-C", "nonsense"), 'unrecognized configuration parameter "nonsense"'),
    (("-p", "x"), 'invalid value for parameter "port": "x"'),
)


def printed(cluster: Cluster, name: str, *args: str) -> str:
    """Return the output of -C, with these switches before it."""
    done = cluster.run_postgres(*args, "-C", name)
    assert done.code == 0, done.err
    return done.out.removesuffix("\n")


@claim("ST-03", source=MAIN, needs=SQL)
def test_each_switch_sets_its_setting(stopped_cluster: Cluster) -> None:
    """A switch overrides its setting in postgresql.conf, and changes no other setting."""
    cluster = stopped_cluster
    cluster.configure(fsync="on", work_mem="4MB")
    switches = SWITCHES
    if cluster.major >= 16:
        switches = (*switches, ABORT_FOR_CRASH)
    before = {other: printed(cluster, other) for other in {row[3] for row in switches}}
    for args, name, value, other in switches:
        assert printed(cluster, name, *args) == value, args
        assert printed(cluster, other, *args) == before[other], args


@claim("ST-02", source=MAIN, needs=SQL)
def test_invalid_command_lines(stopped_cluster: Cluster) -> None:
    """With an invalid command line the postmaster exits with 1, before it makes a pid file."""
    cluster = stopped_cluster
    refused = REFUSED
    if cluster.major >= 18:
        refused = (*refused, (("--single",), "FATAL:  --single must be first argument\n"))
    for args, error in refused:
        done = cluster.run_postgres(*args)
        assert (done.code, error in done.err, done.out) == (1, True, ""), done.err
    assert cluster.pid_file() is None


@claim("ST-05 SH-43", source=MAIN, needs=SQL)
def test_settings_are_printed_while_the_server_runs(cluster: Cluster) -> None:
    """-C prints a setting while the server runs, except computed ones, which need the lock file."""
    before = cluster.pid_file()
    assert printed(cluster, "max_connections") == "20"
    assert printed(cluster, "data_directory") == str(cluster.data)
    done = cluster.run_postgres("-C", "shared_memory_size")
    assert (done.code, done.out) == (1, "")
    assert 'lock file "postmaster.pid" already exists' in done.err
    assert cluster.pid_file() == before
    cluster.expect_service()


@claim("ST-03 ST-05", source=MAIN, needs=SQL)
def test_settings_that_are_computed_at_the_start(stopped_cluster: Cluster) -> None:
    """-C prints a setting that the start computes, logs nothing, and leaves no file."""
    cluster = stopped_cluster
    small = int(printed(cluster, "shared_memory_size"))
    large = int(printed(cluster, "shared_memory_size", "-c", "shared_buffers=64MB"))
    assert 0 < small < large - 50
    assert printed(cluster, "wal_segment_size") == str(1 << 20)
    assert cluster.run_postgres("-C", "shared_memory_size").err == ""
    assert cluster.pid_file() is None
    assert not (cluster.data / "postmaster.opts").exists()


@claim("ST-03 LG-01", source=MAIN, needs=[Need.FULL_SQL, Need.LOGGER])
@pytest.mark.unmonitored("the monitor needs the log")
def test_log_that_does_not_go_to_stderr(stopped_cluster: Cluster) -> None:
    """If the log is not on stderr, the last line on stderr names its destination."""
    cluster = stopped_cluster
    cluster.configure(logging_collector="on", log_destination="csvlog")
    cluster.start(wait=False)
    record = cluster.expect_log("^ending log output to stderr$", within=deadlines.START_LIMIT)
    assert (record.level, record.pid) == ("LOG", cluster.pid)
    assert record.hint == 'Future log output will go to log destination "csvlog".'
    cluster.expect_pid_file(PidFileStatus.READY, deadlines.START_LIMIT)
    cluster.expect_no_log(f"^{READY_LINE}$")
    log = cluster.data / "log" / "postgresql.csv"
    cluster.wait_for(
        "the ready line in the csvlog", lambda: READY_LINE in log.read_text(encoding="utf-8")
    )
    cluster.stop()


@claim("ST-03", source=MAIN, needs=SQL)
def test_external_pid_file_that_cannot_be_written(stopped_cluster: Cluster) -> None:
    """The server starts if it cannot write external_pid_file, and logs the error."""
    cluster = stopped_cluster
    path = cluster.directory / "nowhere" / "pid"
    cluster.configure(external_pid_file=str(path))
    cluster.start()
    error = re.escape(f'could not write external PID file "{path}": No such file or directory')
    assert cluster.find_log(error) is not None
    cluster.expect_service()
    cluster.stop()


@claim("ST-03", source=MAIN)
@pytest.mark.parametrize("mode", [0o700, 0o750])
def test_files_have_the_mode_of_the_data_directory(stopped_cluster: Cluster, mode: int) -> None:
    """The group may read the postmaster's files only if it may read the data directory."""
    cluster = stopped_cluster
    cluster.data.chmod(mode)
    cluster.start()
    for name in ("postmaster.pid", "postmaster.opts"):
        found = (cluster.data / name).stat().st_mode & 0o777
        assert found == (0o640 if mode == 0o750 else 0o600), name


@claim("PR-05 PR-14 CN-54", source=MAIN, needs=[Need.FULL_SQL, Need.ROLES])
@pytest.mark.unmonitored("the model has no binary upgrades")
def test_binary_upgrade_mode(stopped_cluster: Cluster) -> None:
    """With -b the autovacuum launcher does not start, nor in 18 the replication launcher. Only
    superusers may connect."""
    cluster = stopped_cluster
    cluster.start()
    with cluster.session() as session:
        session.query("create role guest login")
    cluster.stop()
    cluster.start(wait=False, args=("-b",))
    cluster.expect_pid_file(PidFileStatus.READY, deadlines.START_LIMIT)
    cluster.expect_log(f"^{READY_LINE}$")
    cluster.child(Kind.WALWRITER)
    with cluster.session():
        refusal = cluster.refusal_of_new_client(user="guest")
        assert refusal.sqlstate == "42501"
        assert refusal.message == "must be superuser to connect in binary upgrade mode"
        launchers = {Kind.AUTOVACUUM_LAUNCHER}
        if cluster.major >= 18:
            launchers |= {Kind.LOGICAL_REPLICATION_LAUNCHER}
        cluster.expect_still(
            "no launcher", lambda: not any(kid.kind in launchers for kid in cluster.children()), 0.1
        )
