"""A standby's background processes: how the startup process reacts to signals while it waits,
and what the checkpointer does instead of checkpoints.

Source: rules CK-03, PG-31, PG-32, SG-02, SG-10, CR-41; postmaster/startup.c:
ProcessStartupProcInterrupts(), postmaster/checkpointer.c: CheckpointerMain().
"""

import signal

from pglife_conformance.base.deadlines import CRASH_RESTART_LIMIT, START_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.standby import READ_ONLY_LINE
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.reload import expect_each_to_reload

INTERRUPTS = "startup.c: ProcessStartupProcInterrupts()"
NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.STANDBY, Need.FULL_SQL]
AS_AT_INITDB = {"max_connections": "100"}


def start_standby(cluster: Cluster) -> None:
    """A hot standby that has no primary; its startup process waits for WAL."""
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=START_LIMIT)
    cluster.expect_idle(cluster.child(Kind.STARTUP))


@claim("SG-02 SG-10", source=INTERRUPTS, needs=NEEDS)
@settings(**AS_AT_INITDB)
def test_each_process_of_a_standby_reloads(stopped_cluster: Cluster) -> None:
    """At each reload every process of a standby, also the startup process, reads the file once."""
    cluster = stopped_cluster
    start_standby(cluster)
    expect_each_to_reload(cluster)


@claim(
    "PG-32",
    source="procsignal.c: procsignal_sigusr1_handler()",
    needs=NEEDS,
    since=16,
    why="only sessions may be asked before",
)
@settings(**AS_AT_INITDB)
def test_startup_process_answers_by_procsignal(stopped_cluster: Cluster) -> None:
    """A waiting startup process logs its memory contexts on request, and keeps running."""
    cluster = stopped_cluster
    start_standby(cluster)
    startup = cluster.child(Kind.STARTUP)
    with cluster.session() as session:
        then = cluster.since()
        asked = f"select pg_log_backend_memory_contexts({startup.pid})"
        assert session.query(asked) == [("t",)]
        text = f"logging memory contexts of PID {startup.pid}"
        record = then.expect_log(f"^{text}$")
        assert record.pid == startup.pid
        assert cluster.child(Kind.STARTUP).key == startup.key


@claim("CR-41 CR-52 PG-31", source=INTERRUPTS, needs=[*NEEDS, Need.CRASH_INJECTION])
@settings(**AS_AT_INITDB)
def test_children_of_a_standby_exit_when_the_postmaster_dies(stopped_cluster: Cluster) -> None:
    """When the postmaster of a standby is killed all children exit, also the startup process."""
    cluster = stopped_cluster
    start_standby(cluster)
    cluster.signal_postmaster(signal.SIGKILL)
    cluster.expect_exit(code=None)
    cluster.expect_no_process(within=CRASH_RESTART_LIMIT)


@claim("CK-03", source="checkpointer.c: CheckpointerMain()", needs=NEEDS)
@settings(**AS_AT_INITDB)
def test_checkpoint_command_on_a_standby_without_new_records(stopped_cluster: Cluster) -> None:
    """CHECKPOINT on a standby requests a restartpoint; without a new record it is skipped."""
    cluster = stopped_cluster
    start_standby(cluster)
    with cluster.session() as session:
        for _ in range(2):
            then = cluster.since()
            session.query("checkpoint")
            record = then.expect_log("^skipping restartpoint, already performed at ")
            assert record.pid == cluster.child(Kind.CHECKPOINTER).pid
            then.expect_no_log("^(checkpoint|restartpoint) starting: ")
        if cluster.major >= 18:
            asked = (
                "select num_timed, num_requested, restartpoints_timed, restartpoints_req, "
                "restartpoints_done from pg_stat_checkpointer"
            )
            wanted = [("0", "0", "0", "2", "0")]
            session.expect_rows(asked, wanted)
    cluster.stop()
