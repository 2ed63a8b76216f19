"""Autovacuum as the postmaster sees it: requests for a launcher and for workers.

Begin with read_requests(). What launcher and workers do is in `children/autovacuum.py`.

Source: postmaster.c: process_pm_pmsignal(), StartAutovacuumWorker(), ServerLoop().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import ite
from pglife_spec.lang.machine import Actor, flatten, when
from pglife_spec.postgres.actions.admission import OPEN, slots_are_free
from pglife_spec.postgres.actions.effects import Effects, fork, signal
from pglife_spec.postgres.state.autovacuum import (
    FORK_FAILED,
    LOST,
    NEEDS_SIGNAL,
    START_AUTOVAC_LAUNCHER,
    START_AUTOVAC_WORKER,
    START_LAUNCHER,
    STARTING,
    WORKING,
)
from pglife_spec.postgres.state.children import number, recorded
from pglife_spec.postgres.state.postmaster import (
    BETWEEN_EVENTS,
    FORK_FAILS,
    SHUTDOWN,
    STATE,
)
from pglife_spec.postgres.words import PM, Kind, Shutdown, Signal
from pglife_spec.postgres.words.parameters import AUTOVAC_WORKERS
from pglife_spec.postgres.words.releases import Feature, has

_WILLING = (SHUTDOWN <= Shutdown.SmartShutdown) & (STATE < PM.PM_STOP_BACKENDS)
#: Some message about autovacuum waits to be read.
ASKED = START_AUTOVAC_LAUNCHER | START_AUTOVAC_WORKER


def _start_worker() -> Effects:
    """Fork a worker where a session would be admitted and a slot is free; otherwise tell the
    launcher, if there is one."""
    room = ite(
        has(Feature.SLOT_POOLS),
        number(Kind.AUTOVAC_WORKER) < AUTOVAC_WORKERS,
        slots_are_free(),
    )
    failed = [FORK_FAILED.becomes(True), NEEDS_SIGNAL.becomes(True)]
    return (
        when(
            OPEN & room & ~FORK_FAILS,
            fork(Kind.AUTOVAC_WORKER, OPEN),
            when(recorded(Kind.AUTOVAC_LAUNCHER), failed),
        ),
    )


def read_requests() -> Effects:
    """PG-06 and PG-07: remember that a launcher is wanted, and start a worker; from a fast request
    or PM_STOP_BACKENDS on both are dropped."""
    return flatten(
        [
            when(START_AUTOVAC_LAUNCHER & _WILLING, START_LAUNCHER.becomes(True)),
            START_AUTOVAC_LAUNCHER.becomes(False),
            when(START_AUTOVAC_WORKER & _WILLING, _start_worker()),
            START_AUTOVAC_WORKER.becomes(False),
        ]
    )


def forget_entries() -> Effects:
    """New shared memory has every entry free, and no message."""
    return (
        START_AUTOVAC_LAUNCHER.becomes(False),
        START_AUTOVAC_WORKER.becomes(False),
        FORK_FAILED.becomes(False),
        STARTING.becomes(False),
        WORKING.becomes(0),
        LOST.becomes(0),
    )


@action(Actor.POSTMASTER, "postmaster.c: ServerLoop()", "AV-10", "SL-03")
def signal_autovacuum_launcher() -> Step:
    """At the end of an iteration in which a worker could not be started the postmaster sends
    SIGUSR2 to the launcher."""
    return Step(
        when=[BETWEEN_EVENTS, NEEDS_SIGNAL],
        then=[NEEDS_SIGNAL.becomes(False), signal(Signal.SIGUSR2, Kind.AUTOVAC_LAUNCHER)],
    )


ACTIONS = [*signal_autovacuum_launcher]
