"""Requests to the postmaster: smart, fast and immediate shutdown, reload, the SIGKILL clock.

Begin with   operator_requests_shutdown, then process_shutdown_request.
Owns         what each request does in each state (4.1), and the escalation (SL-05).
Source       postmaster.c: process_pm_shutdown_request(), process_pm_reload_request(), ServerLoop();
             15: pmdie(), SIGHUP_handler().
"""

from __future__ import annotations

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import Expr
from pglife_spec.lang.machine import Actor, Effect, flatten, when
from pglife_spec.postgres.actions.state_machine import state_machine
from pglife_spec.postgres.effects import (
    Effects,
    advance_to,
    log,
    signal,
    terminate_children,
    write_pid_file,
)
from pglife_spec.postgres.state import (
    ABORT_CLOCK,
    CONNS_ALLOWED,
    CRASHY,
    FAST_TOO,
    FATAL_ERROR,
    LIVES,
    READY,
    RELOAD,
    RELOADS,
    REPAIR_KILL_DEAD_END,
    REPAIR_SHUTDOWN_IN_CRASH_STARTUP,
    REQUEST,
    SHUTDOWN,
    V15,
    V18,
    state_is,
)
from pglife_spec.postgres.words import PM, Kind, PidFile, Shutdown, Signal

MODES = (Shutdown.SmartShutdown, Shutdown.FastShutdown, Shutdown.ImmediateShutdown)
_WORD = {
    Shutdown.SmartShutdown: "smart",
    Shutdown.FastShutdown: "fast",
    Shutdown.ImmediateShutdown: "immediate",
}


@action(
    Actor.OPERATOR,
    "postmaster.c: handle_pm_shutdown_request_signal()",
    "SH-01",
    "SG-01",
    "SG-08",
    mode=MODES,
)
def operator_requests_shutdown(mode: Shutdown) -> Step:
    """SIGTERM, SIGINT or SIGQUIT reaches the postmaster; of several the strongest counts.

    18 keeps flags and looks at the strongest. In 15 each signal has its handler, called in the
    order of signal numbers: INT before QUIT before TERM, and a weaker one that comes later is
    passed over in silence. So only a fast request besides an immediate one makes a difference.
    """
    new: Expr = ~(REQUEST >= mode)
    then: list[Effect] = [REQUEST.becomes(mode)]
    both = REQUEST == Shutdown.ImmediateShutdown
    if mode is Shutdown.FastShutdown:
        new = new | (V15 & both & ~FAST_TOO)
        then = [when(both, FAST_TOO.becomes(True), REQUEST.becomes(mode))]
    if mode is Shutdown.ImmediateShutdown:
        then = [when(V15 & (REQUEST == Shutdown.FastShutdown), FAST_TOO.becomes(True)), *then]
    return Step(when=[LIVES, ~state_is(PM.PM_INIT), new, ~(SHUTDOWN >= mode)], then=then)


def _stop_everybody_at_startup() -> Effects:
    """STARTUP or RECOVERY: stop the children; the repair quits them if FatalError is still set."""
    quit_them = flatten(
        [
            terminate_children(Signal.SIGQUIT, dead_end=True),
            advance_to(PM.PM_WAIT_BACKENDS),
            ABORT_CLOCK.becomes(True),
        ]
    )
    return (
        when(
            state_is(PM.PM_STARTUP, PM.PM_RECOVERY),
            when(
                REPAIR_SHUTDOWN_IN_CRASH_STARTUP & FATAL_ERROR,
                quit_them,
                advance_to(PM.PM_STOP_BACKENDS),
            ),
        ),
    )


def _smart() -> Effects:
    return flatten(
        [
            when(
                state_is(PM.PM_RUN, PM.PM_HOT_STANDBY),
                CONNS_ALLOWED.becomes(False),
                _stop_everybody_at_startup(),
            ),
        ]
    )


def _fast() -> Effects:
    return flatten(
        [
            when(
                state_is(PM.PM_RUN, PM.PM_HOT_STANDBY),
                [log("aborting any active transactions"), advance_to(PM.PM_STOP_BACKENDS)],
                _stop_everybody_at_startup(),
            ),
        ]
    )


def _immediate() -> Effects:
    return flatten(
        [
            terminate_children(Signal.SIGQUIT, dead_end=V18 | REPAIR_KILL_DEAD_END),
            advance_to(PM.PM_WAIT_BACKENDS),
            ABORT_CLOCK.becomes(True),
        ]
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: process_pm_shutdown_request()",
    "SH-02",
    "SH-03",
    "SH-04",
    "SH-05",
    "SH-06",
    "SH-07",
    "SH-09",
    "TR18-14",
    "TR18-15",
    "TR18-16",
    "TR18-17",
    "TR18-18",
    mode=MODES,
)
def process_shutdown_request(mode: Shutdown) -> Step:
    """The postmaster handles the strongest pending request, and runs the state machine."""
    act = {
        Shutdown.SmartShutdown: _smart,
        Shutdown.FastShutdown: _fast,
        Shutdown.ImmediateShutdown: _immediate,
    }[mode]
    taken: list[Effect] = [REQUEST.becomes(Shutdown.NoShutdown)]
    pending: Expr = REQUEST == mode
    if mode is Shutdown.FastShutdown:
        pending = pending | FAST_TOO
        taken = [when(FAST_TOO, FAST_TOO.becomes(False), taken[0])]
    if mode is Shutdown.ImmediateShutdown:
        pending = pending & ~FAST_TOO
    return Step(
        when=[READY, pending],
        then=[
            *taken,
            when(
                SHUTDOWN < mode,
                [
                    SHUTDOWN.becomes(mode),
                    log(f"received {_WORD[mode]} shutdown request"),
                    write_pid_file(PidFile.STOPPING),
                    act(),
                    state_machine(),
                ],
            ),
        ],
    )


@action(Actor.OPERATOR, "postmaster.c: handle_pm_reload_request_signal()", "SG-02")
def operator_requests_reload() -> Step:
    """SIGHUP reaches the postmaster."""
    return Step(
        when=[RELOADS, LIVES, ~state_is(PM.PM_INIT), ~RELOAD],
        then=[RELOAD.becomes(True)],
    )


@action(Actor.POSTMASTER, "postmaster.c: process_pm_reload_request()", "SG-02", "MM-22")
def process_reload_request() -> Step:
    """A reload is honoured up to a smart shutdown, and passed on to the children."""
    honoured: list[Effect] = [log("received SIGHUP, reloading configuration files")]
    kinds = tuple(k for k in Kind if k is not Kind.DEAD_END_BACKEND)
    return Step(
        when=[READY, RELOAD],
        then=[
            RELOAD.becomes(False),
            when(
                SHUTDOWN <= Shutdown.SmartShutdown,
                [*honoured, *(signal(Signal.SIGHUP, kind) for kind in kinds)],
            ),
        ],
    )


@action(
    Actor.POSTMASTER, "postmaster.c: ServerLoop()", "SL-05", "CR-07", "INV-23", "INV-97", "MM-13"
)
def issue_sigkill() -> Step:
    """Five seconds after the clock was armed those still alive are killed, once.

    Up to 17 dead-end children are passed over (CR-08).
    """
    return Step(
        when=[READY, CRASHY, ABORT_CLOCK],
        then=[
            log("issuing SIGKILL to recalcitrant children"),
            terminate_children(Signal.SIGKILL, dead_end=V18 | REPAIR_KILL_DEAD_END),
            ABORT_CLOCK.becomes(False),
        ],
    )


ACTIONS = [
    *operator_requests_shutdown,
    *process_shutdown_request,
    *operator_requests_reload,
    *process_reload_request,
    *issue_sigkill,
]
