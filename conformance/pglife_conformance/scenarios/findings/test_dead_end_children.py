"""Dead-end children that a crash or a shutdown waits for (F06, F10, F15)."""

from dataclasses import replace

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import CRASH, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.lines import SIGKILL_ROUND, TERMINATING
from pglife_conformance.expect.symptom import Symptom, where_it_shows
from pglife_conformance.hold.pin import Pin, StoppedPostmaster, pin_wait_checkpointer
from pglife_conformance.hold.ptrace import Traced
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import Defect, claim
from pglife_conformance.scenarios.findings.support import (
    ANOTHER_ROUND_S,
    DEAD_END,
    LOOP,
    expect_end,
    expect_zombie,
)
from pglife_spec import PM, actions

KILLED = r"WAL writer process \(PID \d+\) was terminated by signal 9: Killed"

SPARED_BY_THE_ROUND = Symptom(
    summary="the round of SIGKILL spares a dead-end child",
    state=PM.PM_WAIT_DEAD_END,
    left=DEAD_END,
    said=(KILLED, TERMINATING, f"{SIGKILL_ROUND}(\n{SIGKILL_ROUND})*"),
    status=PidFileStatus.READY,
)
SPARED_AFTER_THE_ROUND = Symptom(
    summary="no second round of SIGKILL reaches a dead-end child that was forked after the first",
    state=PM.PM_WAIT_DEAD_END,
    left=DEAD_END,
    said=(KILLED, TERMINATING, SIGKILL_ROUND),
    status=PidFileStatus.READY,
)
NO_ROUND = Symptom(
    summary="the postmaster sleeps for a minute before the round of SIGKILL",
    state=PM.PM_WAIT_BACKENDS,
    left={Kind.CLIENT_BACKEND},
    said=(KILLED, TERMINATING),
    status=PidFileStatus.READY,
)
NO_ROUND_FOR_BOTH = replace(NO_ROUND, left={Kind.CLIENT_BACKEND, *DEAD_END})
SERVED_TOO_LATE = Symptom(
    summary="the postmaster waits for a dead-end child that it has forked in PM_WAIT_DEAD_END",
    state=PM.PM_WAIT_DEAD_END,
    left=DEAD_END,
    said=("received fast shutdown request", "aborting any active transactions"),
    status=PidFileStatus.STOPPING,
)


@claim(
    *("INV-94", "INV-90", "INV-110", "CR-08"),
    source=LOOP,
    needs=CRASH,
    defects=[
        Defect(Finding.F06, SPARED_BY_THE_ROUND, until=17),
        Defect(Finding.F15, NO_ROUND_FOR_BOTH, since=19),
    ],
    spec=actions.issue_sigkill,
)
def test_the_round_kills_a_dead_end_child_too(cluster: Cluster) -> None:
    """A dead-end child that cannot take SIGQUIT is killed with the others after five seconds, and
    the restart goes on."""
    session = cluster.session()
    then = cluster.since()
    with Pin(cluster, session.child) as held:
        cluster.crash(Kind.WALWRITER)
        then.expect_line(TERMINATING)
        # Refused now, so that the postmaster computes anew how long it sleeps (SL-06).
        refused = cluster.silent_client()
        with Pin(cluster, refused.child) as pin:
            if then.find_log(f"^{SIGKILL_ROUND}$") is not None:
                raise Inconclusive("a dead-end child before the round", "the five seconds are over")
            with where_it_shows(then):
                then.expect_line(SIGKILL_ROUND)
            cluster.expect_death(held.child)
            with where_it_shows(then):
                cluster.expect_death(pin.child)
    then.expect_ready()


@claim(
    *("INV-94", "INV-90", "INV-110", "CR-08"),
    source=LOOP,
    needs=CRASH,
    defects=[
        Defect(Finding.F06, SPARED_BY_THE_ROUND, until=17),
        Defect(Finding.F06, SPARED_AFTER_THE_ROUND, since=18),
        Defect(Finding.F15, NO_ROUND, since=19),
    ],
    spec=actions.issue_sigkill,
)
def test_a_client_refused_after_the_round_is_not_spared(cluster: Cluster) -> None:
    """A dead-end child that was forked after the round of SIGKILL and cannot take SIGQUIT does not
    delay the restart for ever: another round reaches it."""
    session = cluster.session()
    then = cluster.since()
    with Pin(cluster, session.child) as held:
        with Traced(cluster, held.child):
            cluster.crash(Kind.WALWRITER)
            with where_it_shows(then):
                then.expect_line(SIGKILL_ROUND)
            cluster.expect_death(held.child)
            refused = cluster.silent_client()
            pin = Pin(cluster, refused.child)
        cluster.expect_reaped(held.child)
        with where_it_shows(then):
            cluster.expect_death(pin.child, ANOTHER_ROUND_S)
    then.expect_ready()


@claim(
    *("INV-40", "INV-110", "SV-25"),
    source=LOOP,
    needs=[*CRASH, Need.PMSTATE_LOG, Need.IO_WORKERS],
    defects=[Defect(Finding.F10, SERVED_TOO_LATE, since=18)],
    spec=actions.accept_client_in_wait_dead_end,
)
def test_no_client_is_served_in_pm_wait_dead_end(cluster: Cluster) -> None:
    """A client that connects before the postmaster handles the end of the checkpointer gets no
    child in PM_WAIT_DEAD_END, and does not delay the shutdown."""
    then = cluster.since()
    with pin_wait_checkpointer(cluster) as checkpointer:
        first = cluster.silent_client()
        with Pin(cluster, first.child):
            with StoppedPostmaster(cluster):
                checkpointer.release()
                expect_zombie(cluster, checkpointer.child)
                late = cluster.silent_client(wait_for_child=False)
            then.expect_log("from PM_WAIT_CHECKPOINTER to PM_WAIT_DEAD_END")
        cluster.expect_death(first.child)
        with where_it_shows(then):
            expect_end(cluster, 0, idle=DEAD_END)
    late.disconnect()
