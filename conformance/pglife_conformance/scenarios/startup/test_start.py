"""The start of a server: log lines, children and files, and their order.

Source: postmaster.c: PostmasterMain(); fork_process.c: fork_process().
"""

import re
import time
from pathlib import Path

import pytest

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import STARTING_UP
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.expect.children import children_when_running
from pglife_conformance.expect.excerpt import step
from pglife_conformance.expect.lines import READY_LINE as READY
from pglife_conformance.hold.startup_barrier import pin_startup_at_birth
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.leftovers import sysv_segments_of
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import children_of
from pglife_conformance.pytest.claims import claim

BIRTH = "postmaster.c: PostmasterMain()"
PID_FILE = "miscinit.c: CreateLockFile(), AddToDataDirLockFile()"
HELPERS = [Kind.WALWRITER, Kind.AUTOVACUUM_LAUNCHER, Kind.LOGICAL_REPLICATION_LAUNCHER]


def first_helpers(cluster: Cluster) -> list[Kind]:
    """Return the children that every start forks before the startup process, in order (ST-04)."""
    io_workers = [Kind.IO_WORKER] * children_when_running(cluster.major, cluster.settings)[
        Kind.IO_WORKER
    ]
    return [*io_workers, Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER]


def in_order_of_birth(cluster: Cluster) -> list[Kind]:
    """Return the kinds of the living children in the order in which they were forked.

    The kernel keeps that order. Start times are too coarse (a hundredth of a second), and PIDs wrap
    around to 300.
    """
    kinds = {child.pid: child.kind for child in cluster.children()}
    return [kinds[pid] for pid in children_of(cluster.pid) if pid in kinds]


@claim("SH-40 SH-46", source=PID_FILE)
def test_pid_file_of_a_ready_server(stopped_cluster: Cluster) -> None:
    """The pid file of a ready server has eight lines; the last one says `ready`."""
    cluster = stopped_cluster
    before = int(time.time())
    cluster.start()
    pid_file = cluster.pid_file()
    assert pid_file is not None
    assert len(pid_file.lines) == 8
    assert pid_file.pid == cluster.pid
    assert pid_file.data_directory == str(cluster.data)
    assert before <= int(pid_file.start_time or "0") <= int(time.time())
    assert pid_file.port == "5432"
    assert pid_file.socket_directory == str(cluster.socket_directory)
    assert pid_file.listen_address == ""
    # Nine digits each, or more: ids grow with each segment that the kernel has made.
    assert re.fullmatch(r" *\d+ +\d+", pid_file.shared_memory or "")
    key, segment = (pid_file.shared_memory or "").split()
    assert pid_file.shared_memory == f"{key:>9} {segment:>9}"
    assert pid_file.lines[7] == "ready   "


@claim("SH-40 SH-45 SH-46", source=PID_FILE, needs=[Need.SYSV_SHM])
def test_pid_file_names_the_shared_memory(cluster: Cluster) -> None:
    """Line 7 is the id of the System V segment that the postmaster made."""
    pid_file = cluster.pid_file()
    assert pid_file is not None
    (segment,) = sysv_segments_of({cluster.pid}, cluster.watcher.made_at)
    assert int((pid_file.shared_memory or "").split()[1]) == segment.shmid


@claim("SH-40 SH-46", source=PID_FILE, needs=[Need.TCP])
def test_pid_file_names_the_address(make_cluster: MakeCluster) -> None:
    """With a TCP socket line 6 is its address as configured and line 4 its port."""
    cluster = make_cluster(listen_addresses="127.0.0.1")
    cluster.start()
    pid_file = cluster.pid_file()
    assert pid_file is not None
    assert (pid_file.listen_address, pid_file.port) == ("127.0.0.1", cluster.settings["port"])
    with cluster.session(tcp=True) as session:
        assert session.query("select 1") == [("1",)]


@claim("SH-40 ST-03 CN-02", source=BIRTH, needs=[Need.OS_SIGNALS])
def test_before_recovery_the_pid_file_says_starting(stopped_cluster: Cluster) -> None:
    """In PM_STARTUP the pid file says `starting`, the first children run, clients are refused."""
    cluster = stopped_cluster
    with pin_startup_at_birth(cluster):
        pid_file = cluster.pid_file()
        assert pid_file is not None
        assert pid_file.lines[7:] == ("starting",)
        assert pid_file.pid == cluster.pid
        first = [*first_helpers(cluster), Kind.STARTUP]
        cluster.wait_for(
            "exactly the first children, in order", lambda: in_order_of_birth(cluster) == first
        )
        cluster.expect_refusal(STARTING_UP)
        assert (cluster.data / "postmaster.opts").exists()
        cluster.expect_no_log(READY)
    cluster.expect_ready()
    assert cluster.pid_file_status() is PidFileStatus.READY


@claim("ST-04 SL-03 PR-24", source=BIRTH)
def test_first_children_are_forked_in_order(cluster: Cluster) -> None:
    """The postmaster forks io workers, checkpointer, bgwriter, walwriter and two launchers."""
    assert in_order_of_birth(cluster) == [*first_helpers(cluster), *HELPERS]


@claim("ST-03 TR-90 INV-75", source=BIRTH, needs=[Need.TCP])
def test_log_lines_of_a_start(make_cluster: MakeCluster) -> None:
    """The postmaster logs its version, its sockets, its states and the ready line, and nothing
    else."""
    cluster = make_cluster(listen_addresses="127.0.0.1")
    cluster.start()
    first = next(record for record in cluster.log() if record.level == "LOG")
    assert first.message.startswith(f"starting PostgreSQL {cluster.major}.")
    cluster.all_log().expect_exactly(
        [
            first.message,
            f'listening on IPv4 address "127.0.0.1", port {cluster.settings["port"]}',
            f'listening on Unix socket "{cluster.socket_directory}/.s.PGSQL.'
            f'{cluster.settings["port"]}"',
            step("PM_INIT", "PM_STARTUP"),
            step("PM_STARTUP", "PM_RUN"),
            READY,
        ]
    )


@claim("ST-08 TR-90", source="xlog.c: StartupXLOG()", needs=[Need.CONTROL_FILE])
def test_clean_start_needs_no_recovery(cluster: Cluster) -> None:
    """After a clean shutdown the startup process logs the time of it, and recovers nothing."""
    cluster.restart()
    then = cluster.since()
    cluster.stop(SMART)
    cluster.start()
    lines = then.messages("LOG")
    found = [line for line in lines if line.startswith("database system was ")]
    assert len(found) == 1
    assert re.fullmatch(r"database system was shut down at \S+ \S+ UTC", found[0])
    assert not [line for line in lines if line.startswith("redo") or "recovery" in line]


@claim("ST-08 TR-90 CR-23 SH-07 TR-91", source="xlog.c: StartupXLOG()")
def test_start_after_an_immediate_shutdown_recovers(cluster: Cluster) -> None:
    """The startup process logs that the server was interrupted and not properly shut down. The
    postmaster passes through PM_RECOVERY."""
    cluster.stop(IMMEDIATE)
    then = cluster.since()
    cluster.start()
    messages = [
        record.message
        for record in then.log()
        if record.level == "LOG" and record.message.startswith("database system was ")
    ]
    assert len(messages) == 2
    assert re.fullmatch(r"database system was interrupted; last known up at .* UTC", messages[0])
    assert messages[1] == (
        "database system was not properly shut down; automatic recovery in progress"
    )
    if cluster.major >= 18:
        assert then.pmstates() in (
            [("PM_INIT", "PM_STARTUP"), ("PM_STARTUP", "PM_RECOVERY"), ("PM_RECOVERY", "PM_RUN")],
            # PG-21: the postmaster reaped the startup process before it handled its signal.
            [("PM_INIT", "PM_STARTUP"), ("PM_STARTUP", "PM_RUN")],
        )
    assert cluster.controldata_state() is ControlState.IN_PRODUCTION


@claim("ST-03", source="postmaster.c: CreateOptsFile()")
def test_postmaster_opts_has_the_command_line(stopped_cluster: Cluster) -> None:
    """postmaster.opts is one line: the program, and each argument in quotes."""
    cluster = stopped_cluster
    cluster.start(args=("-c", "work_mem=5MB"))
    text = (cluster.data / "postmaster.opts").read_text(encoding="utf-8")
    assert text.endswith(f' "-D" "{cluster.data}" "-c" "work_mem=5MB"\n')
    assert text.count("\n") == 1
    cluster.stop()
    assert (cluster.data / "postmaster.opts").read_text(encoding="utf-8") == text


@claim("ST-03", source="postmaster.c: PostmasterMain(), unlink_external_pid_file()")
def test_external_pid_file(stopped_cluster: Cluster) -> None:
    """external_pid_file has the PID while the server runs; its shutdown removes the file."""
    cluster = stopped_cluster
    path = cluster.data / "external.pid"
    cluster.configure(external_pid_file=str(path))
    cluster.start()
    assert path.read_text(encoding="ascii") == f"{cluster.pid}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    cluster.stop()
    assert not path.exists()


@claim("ST-03 SH-12", source="miscinit.c: CreateSocketLockFile(); pqcomm.c")
@pytest.mark.parametrize("mode", [FAST, IMMEDIATE])
def test_socket_files_are_made_and_removed(cluster: Cluster, mode: ShutdownMode) -> None:
    """The lock file of a Unix socket names its owner. A shutdown removes both files."""
    path = cluster.socket_directory / ".s.PGSQL.5432"
    lock = Path(f"{path}.lock")
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o777
    pid_file = cluster.pid_file()
    assert pid_file is not None
    assert lock.read_text(encoding="utf-8").splitlines()[:5] == [
        str(cluster.pid),
        str(cluster.data),
        pid_file.start_time,
        "5432",
        str(cluster.socket_directory),
    ]
    cluster.stop(mode)
    assert list(cluster.socket_directory.iterdir()) == []
    assert cluster.pid_file() is None


OOM_SCORE = 300


def oom_score(pid: Pid) -> int:
    """Return the value that the kernel's OOM killer adds to the score of this process."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii"))


@claim("CR-63", source="fork_process.c: fork_process()", needs=[Need.OS_SIGNALS])
def test_children_have_another_oom_score_than_the_postmaster(stopped_cluster: Cluster) -> None:
    """PG_OOM_ADJUST_FILE and _VALUE set the OOM score of each child, not that of the postmaster."""
    cluster = stopped_cluster
    env = {"PG_OOM_ADJUST_FILE": "/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE": str(OOM_SCORE)}
    cluster.start(env=env)
    with cluster.session():
        assert {oom_score(child.pid) for child in cluster.children()} == {OOM_SCORE}
    assert oom_score(cluster.pid) < OOM_SCORE


@claim("CR-63", source="fork_process.c: fork_process()", needs=[Need.OS_SIGNALS])
@pytest.mark.parametrize("is_there", [True, False])
def test_oom_score_of_children_is_0_without_a_value(
    stopped_cluster: Cluster, is_there: bool
) -> None:
    """Each child writes 0 into PG_OOM_ADJUST_FILE; a missing file does not end it."""
    cluster = stopped_cluster
    path = cluster.data / "score"
    if is_there:
        cluster.write_file("score", "12")
    cluster.start(env={"PG_OOM_ADJUST_FILE": str(path)})
    cluster.expect_service()
    assert path.exists() == is_there
    if is_there:
        assert path.read_text(encoding="ascii") == "02"


@claim("ST-03 TF-04", source="postmaster.c: RemovePromoteSignalFiles()")
@pytest.mark.parametrize("name", ["promote", "logrotate", "current_logfiles"])
def test_leftover_files_are_removed(stopped_cluster: Cluster, name: str) -> None:
    """The postmaster removes old trigger files and the old list of log files at its start."""
    path = stopped_cluster.write_file(name, "stderr nowhere\n")
    stopped_cluster.start()
    assert not path.exists()
