"""Requests to the postmaster: smart, fast and immediate shutdown, reload, and the SIGKILL timer.

Begin with operator_requests_shutdown, then process_shutdown_request.

Source: postmaster.c: process_pm_shutdown_request(), process_pm_reload_request(), ServerLoop();
15: pmdie(), SIGHUP_handler().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import Expr
from pglife_spec.lang.machine import Actor, Effect, flatten, when
from pglife_spec.postgres.actions.effects import (
    Effects,
    advance_to,
    log,
    signal,
    terminate_children,
    write_pid_file,
)
from pglife_spec.postgres.actions.state_machine import state_machine
from pglife_spec.postgres.state.io_pool import IN_FILE, WANTED
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    ALIVE,
    BETWEEN_EVENTS,
    CONNS_ALLOWED,
    CRASH_OR_IMMEDIATE,
    FAST_TOO,
    FATAL_ERROR,
    RELOAD,
    REQUEST,
    SHUTDOWN,
    state_is,
)
from pglife_spec.postgres.words import PM, Kind, PidFile, Shutdown, Signal
from pglife_spec.postgres.words.parameters import RELOADS
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_KILL_DEAD_END,
    REPAIR_SHUTDOWN_IN_CRASH_STARTUP,
)

MODES = (Shutdown.SmartShutdown, Shutdown.FastShutdown, Shutdown.ImmediateShutdown)
#: Whether SIGQUIT of an immediate shutdown, and SIGKILL, reach dead-end children (CR-08).
_REACHES_DEAD_END = has(Feature.DEAD_END_IS_A_KIND) | REPAIR_KILL_DEAD_END
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
    """The operator sends the postmaster SIGTERM, SIGINT or SIGQUIT: a smart, fast or immediate
    shutdown request.

    Of several requests the strongest counts. 18 reads flags and takes the strongest. In 15 each
    signal has a handler, called in the order of the signals' numbers (INT, QUIT, TERM), which
    ignores a weaker request: only a fast request together with an immediate one makes a difference.
    """
    new: Expr = ~(REQUEST >= mode)
    then: list[Effect] = [REQUEST.becomes(mode)]
    both = REQUEST == Shutdown.ImmediateShutdown
    one_by_one = has(Feature.WORK_IN_HANDLERS)
    if mode is Shutdown.FastShutdown:
        new = new | (one_by_one & both & ~FAST_TOO)
        then = [when(both, FAST_TOO.becomes(True), REQUEST.becomes(mode))]
    if mode is Shutdown.ImmediateShutdown:
        fast = REQUEST == Shutdown.FastShutdown
        then = [when(one_by_one & fast, FAST_TOO.becomes(True)), *then]
    return Step(when=[ALIVE, ~state_is(PM.PM_INIT), new, ~(SHUTDOWN >= mode)], then=then)


def _stop_in_startup() -> Effects:
    """In PM_STARTUP or PM_RECOVERY end the children; with FatalError the repair sends SIGQUIT."""
    quit_children = flatten(
        [
            terminate_children(Signal.SIGQUIT, dead_end=True),
            advance_to(PM.PM_WAIT_BACKENDS),
            ABORT_TIMER.becomes(True),
        ]
    )
    return (
        when(
            state_is(PM.PM_STARTUP, PM.PM_RECOVERY),
            when(
                REPAIR_SHUTDOWN_IN_CRASH_STARTUP & FATAL_ERROR,
                quit_children,
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
                _stop_in_startup(),
            ),
        ]
    )


def _fast() -> Effects:
    return flatten(
        [
            when(
                state_is(PM.PM_RUN, PM.PM_HOT_STANDBY),
                [log("aborting any active transactions"), advance_to(PM.PM_STOP_BACKENDS)],
                _stop_in_startup(),
            ),
        ]
    )


def _immediate() -> Effects:
    return flatten(
        [
            terminate_children(Signal.SIGQUIT, dead_end=_REACHES_DEAD_END),
            advance_to(PM.PM_WAIT_BACKENDS),
            ABORT_TIMER.becomes(True),
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
    """The postmaster handles the strongest pending request and runs the state machine."""
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
        when=[BETWEEN_EVENTS, pending],
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
    """The operator sends SIGHUP to the postmaster."""
    return Step(
        when=[RELOADS, ALIVE, ~state_is(PM.PM_INIT), ~RELOAD],
        then=[RELOAD.becomes(True)],
    )


@action(Actor.POSTMASTER, "postmaster.c: process_pm_reload_request()", "SG-02", "MM-22")
def process_reload_request() -> Step:
    """The postmaster reloads its configuration and sends SIGHUP to its children, except in a fast
    or immediate shutdown."""
    kinds = tuple(k for k in Kind if k is not Kind.DEAD_END_BACKEND)
    return Step(
        when=[BETWEEN_EVENTS, RELOAD],
        then=[
            RELOAD.becomes(False),
            when(
                SHUTDOWN <= Shutdown.SmartShutdown,
                [
                    log("received SIGHUP, reloading configuration files"),
                    WANTED.becomes(IN_FILE),
                    signal(Signal.SIGHUP, *kinds),
                ],
            ),
        ],
    )


@action(
    Actor.POSTMASTER, "postmaster.c: ServerLoop()", "SL-05", "CR-07", "INV-23", "INV-97", "MM-13"
)
def issue_sigkill() -> Step:
    """Five seconds after the timer was armed the postmaster sends SIGKILL, once, to the children
    that are still alive; up to 17 not to dead-end children (CR-08)."""
    return Step(
        when=[BETWEEN_EVENTS, CRASH_OR_IMMEDIATE, ABORT_TIMER],
        then=[
            log("issuing SIGKILL to recalcitrant children"),
            terminate_children(Signal.SIGKILL, dead_end=_REACHES_DEAD_END),
            ABORT_TIMER.becomes(False),
        ],
    )


ACTIONS = [
    *operator_requests_shutdown,
    *process_shutdown_request,
    *operator_requests_reload,
    *process_reload_request,
    *issue_sigkill,
]
