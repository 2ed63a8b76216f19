"""What each signal does to each process that every server has.

Source       rules SG-05, SG-10 to SG-30, SG-40, SG-41; pqsignal() in each process's main,
             postmaster.c: process_pm_child_exit().

QUIT and the deadly signals are crashes and stand in test_03_crash_kinds.py.
"""

from __future__ import annotations

import signal
import time
from signal import Signals

import pytest

from pglife_conformance.base.needs import Need
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

SIGNALS = [Need.OS_SIGNALS, Need.PROCESS_TITLES]
LAUNCHER_COMES_BACK_S = 5.0
"""BG-12: the restart interval of the logical replication launcher."""
MAINS = "pqsignal() in CheckpointerMain(), BackgroundWriterMain(), WalWriterMain(), ..."
REAPER = "postmaster.c: process_pm_child_exit()"

NOTHING_HAPPENS = """
    checkpointer                  HUP TERM USR1 ALRM PIPE CHLD     and INT until 17
    background writer             HUP INT USR1 USR2 ALRM PIPE CHLD
    walwriter                     HUP USR1 USR2 ALRM PIPE CHLD
    autovacuum launcher           HUP INT USR1 USR2 ALRM PIPE CHLD
    logical replication launcher  HUP USR1 USR2 ALRM PIPE CHLD
"""
"""SG-11, -12, -13, -15, -22: it is there afterwards under the same pid, and nobody is disturbed."""

REPLACED = """
    background writer    TERM
    walwriter            INT
    walwriter            TERM
    autovacuum launcher  TERM
"""
"""The same rules: exit 0, no crash, another one at once."""


def _quiet_cells() -> list[object]:
    rows: list[object] = []
    for line in NOTHING_HAPPENS.strip().splitlines():
        name, _, words = line.strip().partition("  ")
        words, _, extra = words.partition(" and ")
        numbers = [Signals[f"SIG{word}"] for word in words.split()]
        until_17 = [Signals[f"SIG{extra.split()[0]}"]] if extra else []
        rows.append(pytest.param(Kind(name), numbers, until_17, id=name.replace(" ", "-")))
    return rows


def _replaced_cells() -> list[object]:
    rows: list[object] = []
    for line in REPLACED.strip().splitlines():
        name, _, word = line.strip().partition("  ")
        number = Signals[f"SIG{word.strip()}"]
        rows.append(pytest.param(Kind(name), number, id=f"{name.replace(' ', '-')}-{number.name}"))
    return rows


def send_and_let_it_settle(cluster: Cluster, child: Child, number: Signals) -> None:
    """Send a signal and wait until the process has taken it and sleeps again."""
    cluster.signal_child(child, number)
    cluster.expect_idle(child)


def expect_replaced(cluster: Cluster, before: Since, victim: Child) -> Child:
    """Another child of the kind has come, and nothing else has happened."""
    cluster.expect_death(victim)
    olds = before.keys()
    new = cluster.wait_for(
        f"another {victim.kind}",
        lambda: next((kid for kid in cluster.children(victim.kind) if kid.key not in olds), None),
    )
    cluster.expect_complete()
    before.expect_undisturbed(gone=[victim])
    return new


@claim("SG-11", "SG-12", "SG-13", "SG-15", "SG-22", source=MAINS, needs=SIGNALS)
@pytest.mark.parametrize(("kind", "numbers", "until_17"), _quiet_cells())
def test_signals_that_a_background_process_outlives(
    cluster: Cluster, kind: Kind, numbers: list[Signals], until_17: list[Signals]
) -> None:
    """A background process takes the signals of its row and is there as before."""
    before = cluster.since()
    child = cluster.child(kind)
    if cluster.target.version.major <= 17:
        numbers = [*numbers, *until_17]
    for number in numbers:
        send_and_let_it_settle(cluster, child, number)
        before.expect_undisturbed()
    cluster.expect_still("nobody ends", lambda: cluster.children() == list(before.kids), 0.1)
    before.expect_undisturbed()


@claim("SG-12", "SG-13", "SG-15", "RP-12", "RP-14", "RP-17", source=REAPER, needs=SIGNALS)
@pytest.mark.parametrize(("kind", "number"), _replaced_cells())
def test_signals_after_which_another_one_comes(
    cluster: Cluster, kind: Kind, number: Signals
) -> None:
    """A background process that ends with 0 is replaced in silence, and nobody else notices."""
    before = cluster.since()
    victim = cluster.signal_child(kind, number)
    expect_replaced(cluster, before, victim)


@claim(
    "SG-20", "IO-06", source="method_worker.c: IoWorkerMain()", needs=[*SIGNALS, Need.IO_WORKERS]
)
def test_signals_that_an_io_worker_outlives(cluster: Cluster) -> None:
    """An io worker takes HUP, TERM, USR1, ALRM and PIPE and is there as before."""
    before = cluster.since()
    child = cluster.child(Kind.IO_WORKER)
    for name in ("HUP", "TERM", "USR1", "ALRM", "PIPE", "CHLD"):
        send_and_let_it_settle(cluster, child, Signals[f"SIG{name}"])
        before.expect_undisturbed()
    cluster.expect_still("nobody ends", lambda: cluster.children() == list(before.kids), 0.1)


@claim("SG-20", "RP-21", "IO-05", source=REAPER, needs=[*SIGNALS, Need.IO_WORKERS])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR2], ids=lambda n: n.name)
def test_io_worker_is_replaced(cluster: Cluster, number: Signals) -> None:
    """An io worker exits 0 at INT and at USR2, and another takes its place and its number."""
    before = cluster.since()
    victim = cluster.signal_child(Kind.IO_WORKER, number)
    new = expect_replaced(cluster, before, victim)
    # The number comes into the title a moment after the name.
    cluster.wait_for(
        "the new io worker's number",
        lambda: io_worker_number(cluster.child_with_pid(new.pid)) is not None,
    )
    assert cluster.child_with_pid(new.pid).title == victim.title


@claim("SG-22", "BG-12", "RP-22", source="postmaster.c: CleanupBackend()", needs=SIGNALS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_logical_replication_launcher_ends_with_1(cluster: Cluster, number: Signals) -> None:
    """At TERM and INT it exits 1, which is logged and no crash; another does not come at once."""
    before = cluster.since()
    began = time.monotonic()
    victim = cluster.signal_child(Kind.LOGICAL_REPLICATION_LAUNCHER, number)
    cluster.expect_death(victim)
    line = exited_line(cluster, victim, 1)
    before.expect_log(f"^{line.replace('(', '[(]').replace(')', '[)]')}$")

    def is_late_or_away() -> bool:
        away = not cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER)
        return away or time.monotonic() - began >= LAUNCHER_COMES_BACK_S

    cluster.expect_still("no other launcher", is_late_or_away, 0.3)
    before.expect_undisturbed(said=[line], gone=[victim])


@claim(
    "SG-11",
    "CK-06",
    "TR18-25",
    source="postmaster.c: process_pm_pmsignal()",
    since=18,
    why="INT asks for nothing before",
    needs=SIGNALS,
)
def test_checkpoint_nobody_asked_for_is_a_crash(cluster: Cluster) -> None:
    """INT makes the checkpointer write the shutdown checkpoint: unasked, that is a crash."""
    before = cluster.since()
    cluster.signal_child(Kind.CHECKPOINTER, signal.SIGINT)
    lines = ["WAL was shut down unexpectedly"]
    before.expect_line("shutting down")
    before.expect_crash_restart(lines, recovers=False)


@claim("SG-11", "CK-07", "INV-83", "RP-13", source=REAPER, needs=SIGNALS)
def test_checkpointer_that_leaves_too_early_is_a_crash(cluster: Cluster) -> None:
    """USR2 makes the checkpointer exit 0 (until 17 after a shutdown checkpoint): a crash."""
    before = cluster.since()
    victim = cluster.signal_child(Kind.CHECKPOINTER, signal.SIGUSR2)
    writes = cluster.target.version.major <= 17
    before.expect_crash_restart(exited_line(cluster, victim, 0), recovers=not writes)
    assert bool(before.find_log("^shutting down$")) is writes


@claim(
    "SG-21", "LG-03", "CR-44", source="syslogger.c: SysLoggerMain()", needs=[*SIGNALS, Need.LOGGER]
)
@settings(logging_collector="on")
def test_signals_that_the_logger_outlives(cluster: Cluster) -> None:
    """The logger takes every signal but the deadly ones, QUIT too."""
    before = cluster.since()
    child = cluster.child(Kind.LOGGER)
    for name in ("HUP", "INT", "TERM", "QUIT", "USR1", "USR2", "ALRM", "PIPE"):
        send_and_let_it_settle(cluster, child, Signals[f"SIG{name}"])
        before.expect_undisturbed()
    cluster.expect_still("nobody ends", lambda: cluster.children() == list(before.kids), 0.1)
    before.expect_undisturbed()


@claim("SG-28", "SE-42", source="tcop/postgres.c: PostgresMain()", needs=SIGNALS)
def test_signals_that_an_idle_session_outlives(cluster: Cluster) -> None:
    """An idle session takes HUP, INT, USR1, USR2, ALRM and PIPE, and serves its client."""
    with cluster.session() as session:
        before = cluster.since()
        for name in ("HUP", "INT", "USR1", "USR2", "ALRM", "PIPE", "CHLD"):
            send_and_let_it_settle(cluster, session.child, Signals[f"SIG{name}"])
            before.expect_undisturbed()
        assert session.is_silent()
        assert session.query("select 1") == [("1",)]
        before.expect_undisturbed()


@claim(
    "SG-28", "SE-20", "SE-30", "RP-07", source="tcop/postgres.c: ProcessInterrupts()", needs=SIGNALS
)
def test_term_ends_a_session_with_1(cluster: Cluster) -> None:
    """TERM ends an idle session with FATAL 57P01 and exit 1, and nobody else notices."""
    session = cluster.session()
    before = cluster.since()
    victim = cluster.signal_child(session.child, signal.SIGTERM)
    said = session.expect_end()
    assert [(m.severity, m.sqlstate, m.message) for m in said] == [
        ("FATAL", ADMIN_SHUTDOWN, TERMINATED_BY_ADMINISTRATOR)
    ]
    assert session.ending is Ending.END_OF_FILE
    expect_quiet_exit(cluster, before, victim, exited_line(cluster, victim, 1))
    told = [r.message for r in before.log() if r.pid == victim.pid and r.level != "DEBUG"]
    assert told == [TERMINATED_BY_ADMINISTRATOR]


def expect_quiet_exit(cluster: Cluster, before: Since, victim: Child, line: str) -> None:
    """It has ended with the status that the DEBUG2 line says, and that was no crash (RP-02)."""
    cluster.expect_death(victim)
    record = cluster.wait_for(
        f"the line {line!r}",
        lambda: next((r for r in before.log() if r.message == line), None),
    )
    assert record.level == "DEBUG"
    before.expect_undisturbed(gone=[victim])
    cluster.expect_complete()


@claim(
    "SG-28",
    "SE-31",
    "SE-42",
    source="tcop/postgres.c: ProcessInterrupts()",
    needs=[*SIGNALS, Need.SQL_FUNCTIONS],
)
def test_int_cancels_the_running_statement(cluster: Cluster) -> None:
    """INT ends the statement of a busy session with ERROR 57014, and the session goes on."""
    with cluster.session() as session:
        before = cluster.since()
        pid = session.child.pid
        session.send_query("select pg_sleep(60)")
        cluster.wait_for(
            "the session to run its statement",
            lambda: cluster.child_with_pid(pid).title.endswith(" SELECT"),
        )
        cluster.signal_child(session.child, signal.SIGINT)
        with pytest.raises(ServerError) as told:
            session.result()
        assert told.value.answer.severity == "ERROR"
        assert told.value.sqlstate == QUERY_CANCELED
        assert told.value.answer.message == "canceling statement due to user request"
        assert session.query("select 1") == [("1",)]
        before.expect_undisturbed()


@claim("SG-28", "SE-25", source="tcop/postgres.c: quickdie()", needs=SIGNALS)
def test_quit_by_hand_warns_the_client_and_is_a_crash(cluster: Cluster) -> None:
    """QUIT by hand: WARNING 57P01 to the client at best, in the log too, exit 2, a crash."""
    session = cluster.session()
    before = cluster.since()
    victim = cluster.signal_child(session.child, signal.SIGQUIT)
    told = session.expect_final_message()
    text = "terminating connection because of unexpected SIGQUIT signal"
    if told is not None:
        assert (told.severity, told.sqlstate) == ("WARNING", ADMIN_SHUTDOWN)
        assert told.message == text
    before.expect_crash_restart(exited_line(cluster, victim, 2))
    said = [r for r in before.log() if r.pid == victim.pid and r.level == "WARNING"]
    assert [r.message for r in said] == ([text] if said else [])


@claim("SG-30", source="tcop/backend_startup.c: process_startup_packet_die()", needs=SIGNALS)
def test_term_before_the_packet_ends_a_child_silently(cluster: Cluster) -> None:
    """A child that has heard no packet exits 1 at TERM, without a word to client or log."""
    client = cluster.silent_client()
    before = cluster.since()
    victim = cluster.signal_child(client.child, signal.SIGTERM)
    assert client.expect_end() == []
    expect_quiet_exit(cluster, before, victim, exited_line(cluster, victim, 1))
    assert [r for r in before.log() if r.pid == victim.pid and r.level != "DEBUG"] == []


@claim("SG-30", source="tcop/backend_startup.c: BackendInitialize()", needs=SIGNALS)
def test_signals_before_the_packet_wait(cluster: Cluster) -> None:
    """HUP, USR1 and USR2 do nothing to a child without packet; it serves its client then."""
    client = cluster.silent_client()
    before = cluster.since()
    for name in ("HUP", "USR1", "USR2", "PIPE"):
        cluster.signal_child(client.child, Signals[f"SIG{name}"])
    cluster.expect_still("nobody ends", lambda: len(cluster.children()) == len(before.kids), 0.1)
    client.send_startup_packet({"user": "postgres", "database": "postgres"})
    assert client.query("select 1") == [("1",)]
    before.expect_undisturbed()


@claim("PR-28", "SG-40", source="kill(2)", needs=SIGNALS)
@pytest.mark.parametrize(
    "kind",
    [Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.WALWRITER, Kind.AUTOVACUUM_LAUNCHER],
    ids=str,
)
def test_stop_and_continue_are_no_death(cluster: Cluster, kind: Kind) -> None:
    """A background process that is stopped and continued is the same one as before."""
    before = cluster.since()
    # At rest, lest it be stopped with a lock that the session needs.
    expect_all_idle(cluster, before.kids)
    with Pin(cluster, kind) as pin:
        with cluster.session() as session:
            assert session.query("select 1") == [("1",)]
        assert cluster.child_with_pid(pin.child.pid).key == pin.child.key
    cluster.expect_idle(pin.child)
    before.expect_undisturbed()


@claim("SG-05", "PG-25", source="postmaster.c: PostmasterMain()", needs=[Need.OS_SIGNALS])
def test_signals_that_the_postmaster_overlooks(cluster: Cluster) -> None:
    """USR1, USR2, ALRM, PIPE and CHLD by hand do nothing to a postmaster."""
    before = cluster.since()
    for name in ("USR1", "USR2", "ALRM", "PIPE", "CHLD", "TTIN", "TTOU", "XFSZ"):
        cluster.signal_postmaster(Signals[f"SIG{name}"])
        cluster.expect_idle()
        before.expect_undisturbed()
    with cluster.session() as session:
        assert session.query("select 1") == [("1",)]
    before.expect_undisturbed()


@claim("SG-02", source="postmaster.c: process_pm_reload_request()", needs=[Need.OS_SIGNALS])
def test_reload_keeps_the_old_rules_if_the_new_ones_are_bad(cluster: Cluster) -> None:
    """A bad pg_hba.conf is told and not taken; clients come in as before."""
    before = cluster.since()
    path = cluster.write_file("pg_hba.conf", "this is no rule\n")
    cluster.reload()
    reloaded = "received SIGHUP, reloading configuration files"
    shown = path if cluster.target.version.major >= 18 else path.name
    refused = f"{shown} was not reloaded"
    before.expect_log("pg_hba.conf was not reloaded$")
    with cluster.session() as session:
        assert session.query("select 1") == [("1",)]
    lines = before.postmaster_lines()
    assert (lines[0], lines[-1]) == (reloaded, refused)
    assert {kid.key for kid in before.kids} <= {kid.key for kid in cluster.children()}
