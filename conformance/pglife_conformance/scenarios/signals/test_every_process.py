"""The effect of each signal on each process that every server has.

The signals that make a process crash have their own scenarios, in the folder crash.
Source: pqsignal() in each process's main function, postmaster.c: process_pm_child_exit().
"""

import signal
import time
from signal import Signals

import pytest

from pglife_conformance.base.needs import SIGNALS, Need
from pglife_conformance.base.refusals import (
    ADMIN_SHUTDOWN,
    QUERY_CANCELED,
    TERMINATED_BY_ADMINISTRATOR,
)
from pglife_conformance.cluster.client import Ending
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError
from pglife_conformance.expect.children import io_worker_number
from pglife_conformance.expect.lines import exited_line
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.frozen import expect_all_idle
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.signals import each_signal, expect_survives

LAUNCHER_RESTART_S = 5.0
"""BG-12: the restart interval of the logical replication launcher."""
MAINS = "pqsignal() in CheckpointerMain(), BackgroundWriterMain(), WalWriterMain(), ..."
REAPER = "postmaster.c: process_pm_child_exit()"

HARMLESS = """
    checkpointer                  HUP TERM USR1 ALRM PIPE CHLD     and INT until 17
    background writer             HUP INT USR1 USR2 ALRM PIPE CHLD
    walwriter                     HUP USR1 USR2 ALRM PIPE CHLD
    autovacuum launcher           HUP INT USR1 USR2 ALRM PIPE CHLD
    logical replication launcher  HUP USR1 USR2 ALRM PIPE CHLD
"""
"""SG-11, -12, -13, -15, -22: the process keeps its pid, and no other process is disturbed."""

REPLACED = """
    background writer    TERM
    walwriter            INT
    walwriter            TERM
    autovacuum launcher  TERM
"""
"""The same rules: the process exits 0, that is no crash, and it is replaced at once."""


def _harmless_cells() -> list[object]:
    rows: list[object] = []
    for line in HARMLESS.strip().splitlines():
        name, _, words = line.strip().partition("  ")
        words, _, extra = words.partition(" and ")
        until_17 = extra.removesuffix(" until 17")
        rows.append(pytest.param(Kind(name), words, until_17, id=name.replace(" ", "-")))
    return rows


def _replaced_cells() -> list[object]:
    rows: list[object] = []
    for line in REPLACED.strip().splitlines():
        name, _, word = line.strip().partition("  ")
        number = Signals[f"SIG{word.strip()}"]
        rows.append(pytest.param(Kind(name), number, id=f"{name.replace(' ', '-')}-{number.name}"))
    return rows


def expect_replaced(cluster: Cluster, before: Since, victim: Child) -> Child:
    """Another child of the same kind has started, and no other process is disturbed."""
    cluster.expect_death(victim)
    new = cluster.child(victim.kind, other_than=before.kids)
    cluster.expect_complete()
    before.expect_undisturbed(gone=[victim])
    return new


@claim("SG-11 SG-12 SG-13 SG-15 SG-22", source=MAINS, needs=SIGNALS)
@pytest.mark.parametrize(("kind", "names", "until_17"), _harmless_cells())
def test_background_process_survives_its_harmless_signals(
    cluster: Cluster, kind: Kind, names: str, until_17: str
) -> None:
    """A background process survives the signals of its row, and no other process is disturbed."""
    more = until_17 if cluster.major <= 17 else ""
    expect_survives(cluster, cluster.child(kind), f"{names} {more}")


@claim("SG-12 SG-13 SG-15 RP-12 RP-14 RP-17", source=REAPER, needs=SIGNALS)
@pytest.mark.parametrize(("kind", "number"), _replaced_cells())
def test_background_process_that_exits_0_is_replaced(
    cluster: Cluster, kind: Kind, number: Signals
) -> None:
    """A background process exits 0 at this signal; the postmaster replaces it and logs no line."""
    before = cluster.since()
    victim = cluster.signal_child(kind, number)
    expect_replaced(cluster, before, victim)


@claim("SG-20 IO-06", source="method_worker.c: IoWorkerMain()", needs=[*SIGNALS, Need.IO_WORKERS])
def test_io_worker_survives_its_harmless_signals(cluster: Cluster) -> None:
    """An io worker survives HUP, TERM, USR1, ALRM, PIPE and CHLD."""
    expect_survives(cluster, cluster.child(Kind.IO_WORKER), "HUP TERM USR1 ALRM PIPE CHLD")


@claim("SG-20 RP-21 IO-05", source=REAPER, needs=[*SIGNALS, Need.IO_WORKERS])
@each_signal(signal.SIGINT, signal.SIGUSR2)
def test_io_worker_is_replaced(cluster: Cluster, number: Signals) -> None:
    """An io worker exits 0 at INT and USR2, and its replacement has the same number."""
    before = cluster.since()
    victim = cluster.signal_child(Kind.IO_WORKER, number)
    new = expect_replaced(cluster, before, victim)
    # The title shows the name a moment before the number.
    cluster.wait_for(
        "the new io worker's number",
        lambda: io_worker_number(cluster.child_with_pid(new.pid)) is not None,
    )
    assert cluster.child_with_pid(new.pid).title == victim.title


@claim("SG-22 BG-12 RP-22", source="postmaster.c: CleanupBackend()", needs=SIGNALS)
@each_signal(signal.SIGTERM, signal.SIGINT)
def test_logical_replication_launcher_exits_1(cluster: Cluster, number: Signals) -> None:
    """At TERM and INT the launcher exits 1: a LOG line, no crash, and no restart at once."""
    before = cluster.since()
    began = time.monotonic()
    victim = cluster.end_child(Kind.LOGICAL_REPLICATION_LAUNCHER, number)
    line = before.expect_child_exit(victim, code=1).message

    def is_late_or_absent() -> bool:
        absent = not cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER)
        return absent or time.monotonic() - began >= LAUNCHER_RESTART_S

    cluster.expect_still("no other launcher", is_late_or_absent, 0.3)
    before.expect_undisturbed(said=[line], gone=[victim])


@claim(
    "SG-11 CK-06 TR18-25",
    source="postmaster.c: process_pm_pmsignal()",
    since=18,
    why="INT has no effect before",
    needs=SIGNALS,
)
def test_unrequested_shutdown_checkpoint_is_a_crash(cluster: Cluster) -> None:
    """INT makes the checkpointer write a shutdown checkpoint: without a request a crash."""
    before = cluster.since()
    cluster.signal_child(Kind.CHECKPOINTER, signal.SIGINT)
    lines = ["WAL was shut down unexpectedly"]
    before.expect_line("shutting down")
    before.expect_crash_restart(lines, recovers=False)


@claim("SG-11 CK-07 INV-83 RP-13", source=REAPER, needs=SIGNALS)
def test_checkpointer_that_exits_too_early_is_a_crash(cluster: Cluster) -> None:
    """USR2 makes the checkpointer exit 0, a crash (until 17 it writes a checkpoint first)."""
    before = cluster.since()
    victim = cluster.signal_child(Kind.CHECKPOINTER, signal.SIGUSR2)
    writes = cluster.major <= 17
    before.expect_crash_restart(exited_line(cluster, victim, 0), recovers=not writes)
    assert bool(before.find_log("^shutting down$")) is writes


@claim("SG-21 LG-03 CR-44", source="syslogger.c: SysLoggerMain()", needs=[*SIGNALS, Need.LOGGER])
@settings(logging_collector="on")
def test_logger_survives_term_int_and_quit(cluster: Cluster) -> None:
    """The logger survives HUP, INT, TERM, QUIT, USR1, USR2, ALRM and PIPE."""
    logger = cluster.child(Kind.LOGGER)
    expect_survives(cluster, logger, "HUP INT TERM QUIT USR1 USR2 ALRM PIPE")


@claim("SG-28 SE-42", source="tcop/postgres.c: PostgresMain()", needs=SIGNALS)
def test_idle_session_survives_its_harmless_signals(cluster: Cluster) -> None:
    """An idle session survives HUP, INT, USR1, USR2, ALRM, PIPE and CHLD, and serves its client."""
    with cluster.session() as session:
        expect_survives(cluster, session.child, "HUP INT USR1 USR2 ALRM PIPE CHLD")
        assert session.is_silent()
        assert session.query("select 1") == [("1",)]


@claim("SG-28 SE-20 SE-30 RP-07", source="tcop/postgres.c: ProcessInterrupts()", needs=SIGNALS)
def test_term_ends_a_session_with_1(cluster: Cluster) -> None:
    """An idle session exits 1 at TERM after FATAL 57P01, and no other process is disturbed."""
    session = cluster.session()
    before = cluster.since()
    victim = cluster.signal_child(session.child, signal.SIGTERM)
    said = session.expect_end()
    assert [(m.severity, m.sqlstate, m.message) for m in said] == [
        ("FATAL", ADMIN_SHUTDOWN, TERMINATED_BY_ADMINISTRATOR)
    ]
    assert session.ending is Ending.END_OF_FILE
    expect_quiet_exit(cluster, before, victim, exited_line(cluster, victim, 1))
    messages = [r.message for r in before.log() if r.pid == victim.pid and r.level != "DEBUG"]
    assert messages == [TERMINATED_BY_ADMINISTRATOR]


def expect_quiet_exit(cluster: Cluster, before: Since, victim: Child, line: str) -> None:
    """The child has exited with this DEBUG line, and that was no crash (RP-02)."""
    cluster.expect_death(victim)
    assert before.expect_line(line).level == "DEBUG"
    before.expect_undisturbed(gone=[victim])
    cluster.expect_complete()


@claim(
    "SG-28 SE-31 SE-42",
    source="tcop/postgres.c: ProcessInterrupts()",
    needs=[*SIGNALS, Need.SQL_FUNCTIONS],
)
def test_int_cancels_the_running_statement(cluster: Cluster) -> None:
    """INT cancels the statement of a busy session with ERROR 57014; the session stays usable."""
    with cluster.session() as session:
        before = cluster.since()
        session.begin_query("select pg_sleep(60)")
        cluster.signal_child(session.child, signal.SIGINT)
        with pytest.raises(ServerError) as error:
            session.result()
        assert error.value.answer.severity == "ERROR"
        assert error.value.sqlstate == QUERY_CANCELED
        assert error.value.answer.message == "canceling statement due to user request"
        assert session.query("select 1") == [("1",)]
        before.expect_undisturbed()


@claim("SG-28 SE-25", source="tcop/postgres.c: quickdie()", needs=SIGNALS)
def test_quit_of_a_session_is_a_crash_and_may_warn_its_client(cluster: Cluster) -> None:
    """A session exits 2 at QUIT, which is a crash; it may send and log WARNING 57P01 before."""
    session = cluster.session()
    before = cluster.since()
    victim = cluster.signal_child(session.child, signal.SIGQUIT)
    final = session.expect_final_message()
    text = "terminating connection because of unexpected SIGQUIT signal"
    if final is not None:
        assert (final.severity, final.sqlstate) == ("WARNING", ADMIN_SHUTDOWN)
        assert final.message == text
    before.expect_crash_restart(exited_line(cluster, victim, 2))
    said = before.log("WARNING", pid=victim.pid)
    assert [r.message for r in said] == ([text] if said else [])


@claim("SG-30", source="tcop/backend_startup.c: process_startup_packet_die()", needs=SIGNALS)
def test_term_before_the_packet_ends_a_child_silently(cluster: Cluster) -> None:
    """A child without a startup packet exits 1 at TERM, without a message to client or log."""
    client = cluster.silent_client()
    before = cluster.since()
    victim = cluster.signal_child(client.child, signal.SIGTERM)
    assert client.expect_end() == []
    expect_quiet_exit(cluster, before, victim, exited_line(cluster, victim, 1))
    assert [r for r in before.log() if r.pid == victim.pid and r.level != "DEBUG"] == []


@claim("SG-30", source="tcop/backend_startup.c: BackendInitialize()", needs=SIGNALS)
def test_child_before_its_packet_survives_its_harmless_signals(cluster: Cluster) -> None:
    """A child without startup packet survives HUP, USR1, USR2, PIPE, and then serves its client."""
    client = cluster.silent_client()
    before = cluster.since()
    for name in ("HUP", "USR1", "USR2", "PIPE"):
        cluster.signal_child(client.child, Signals[f"SIG{name}"])
    cluster.expect_only(*before.kids)
    cluster.expect_same_children()
    client.send_startup_packet({"user": "postgres", "database": "postgres"})
    assert client.query("select 1") == [("1",)]
    before.expect_undisturbed()


@claim("PR-28 SG-40", source="kill(2)", needs=SIGNALS)
@pytest.mark.parametrize(
    "kind",
    [Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.WALWRITER, Kind.AUTOVACUUM_LAUNCHER],
    ids=str,
)
def test_stop_and_continue_are_no_exit(cluster: Cluster, kind: Kind) -> None:
    """A background process that is stopped and continued keeps its pid and is not replaced."""
    before = cluster.since()
    # A process that is not idle might hold a lock that the session needs.
    expect_all_idle(cluster, before.kids)
    with Pin(cluster, kind) as pin:
        cluster.expect_service()
        assert cluster.child_with_pid(pin.child.pid).key == pin.child.key
    cluster.expect_idle(pin.child)
    before.expect_undisturbed()


@claim("SG-05 PG-25", source="postmaster.c: PostmasterMain()", needs=[Need.OS_SIGNALS])
def test_postmaster_ignores_unexpected_signals(cluster: Cluster) -> None:
    """The postmaster ignores an unexpected USR1, USR2, ALRM, PIPE, CHLD, TTIN, TTOU or XFSZ."""
    before = cluster.since()
    for name in ("USR1", "USR2", "ALRM", "PIPE", "CHLD", "TTIN", "TTOU", "XFSZ"):
        cluster.signal_postmaster(Signals[f"SIG{name}"])
        cluster.expect_idle()
        before.expect_undisturbed()
    cluster.expect_service()
    before.expect_undisturbed()


@claim("SG-02", source="postmaster.c: process_pm_reload_request()", needs=[Need.OS_SIGNALS])
def test_reload_keeps_the_old_rules_if_the_new_ones_are_bad(cluster: Cluster) -> None:
    """A reload of an invalid pg_hba.conf logs that, keeps the old rules, and admits clients."""
    before = cluster.since()
    path = cluster.write_file("pg_hba.conf", "this is no rule\n")
    cluster.reload()
    reloaded = "received SIGHUP, reloading configuration files"
    shown = path if cluster.major >= 16 else path.name
    refused = f"{shown} was not reloaded"
    before.expect_log("pg_hba.conf was not reloaded$")
    cluster.expect_service()
    lines = before.postmaster_lines()
    assert (lines[0], lines[-1]) == (reloaded, refused)
    assert {kid.key for kid in before.kids} <= {kid.key for kid in cluster.children()}
