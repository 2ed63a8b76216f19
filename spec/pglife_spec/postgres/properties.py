"""The liveness properties: what happens some day, under stated fairness.

Begin with   the fairness assumptions F1, F2, F3, F4, F6, then the properties in the order of 11.5.
Owns         who must be relied on for what. Clients and operators may rest for ever, faults have an
             end; only what a property's fairness names can be counted on.
"""

from __future__ import annotations

from pglife_spec.lang.machine import Action, Actor, Fairness, Property
from pglife_spec.postgres.claims.common import GONE, PENDING
from pglife_spec.postgres.state import (
    FATAL_ERROR,
    LIFE,
    LIVES,
    NOBODY_DEAD,
    RESTART_AFTER_CRASH,
    SHUTDOWN,
    none_recorded,
    recorded,
    state_is,
)
from pglife_spec.postgres.words import PM, Kind, Life, Shutdown

_RECOVERY = ("startup_begins_redo", "recovery_ends", "startup_finishes")


def _is_postmaster(action: Action) -> bool:
    return action.actor is Actor.POSTMASTER


def _is_obedience(action: Action) -> bool:
    return action.actor is Actor.CHILD


def _is_recovery(action: Action) -> bool:
    return action.family in _RECOVERY


def _is_client_leaving(action: Action) -> bool:
    return action.family == "client_leaves"


def _is_fork_working(action: Action) -> bool:
    return action.family == "fork_works_again"


F1 = Fairness(
    "F1", "the postmaster's loop is scheduled for ever, no signal is lost", _is_postmaster
)
F2 = Fairness(
    "F2", "children end their work, and stop when a signal they honour says so", _is_obedience
)
F3 = Fairness(
    "F3", "the kernel carries out SIGKILL (its victims are dead at once)", lambda _: False
)
RECOVERY_ENDS = Fairness("RECOVERY", "the startup process, left alone, ends recovery", _is_recovery)
CLIENTS_LEAVE = Fairness("CLIENTS", "every client leaves some day", _is_client_leaving)
F6 = Fairness("F6", "fork succeeds again some day", _is_fork_working)

_HANGS = (
    "a request in the PM_STARTUP after a crash, FatalError still set, waits for a checkpointer and "
    "io workers (18) that were sent nothing they heed; 18: with the checkpointer gone and fork "
    "failing, nobody is left whose end would move the state machine"
)
_MODES = {
    Shutdown.SmartShutdown: ("INV-92", (F1, F2, F3, CLIENTS_LEAVE, F6), _HANGS),
    Shutdown.FastShutdown: ("INV-91", (F1, F2, F3, F6), _HANGS),
}


def _ends(mode: Shutdown) -> Property:
    inv, fairness, exception = _MODES[mode]
    word = mode.name.removesuffix("Shutdown").lower()
    return Property(
        name=f"every_{word}_shutdown_ends",
        ids=(inv, "SH-04" if word == "smart" else "SH-06"),
        doc=f"Every {word} shutdown ends."
        + (" (If every client leaves.)" if word == "smart" else ""),
        source="postmaster.c: PostmasterStateMachine()",
        given=LIVES & (SHUTDOWN == mode),
        then=GONE | (SHUTDOWN > mode),
        fairness=fairness,
        exception=exception,
    )


PROPERTIES = (
    Property(
        name="every_immediate_shutdown_ends",
        ids=("INV-90", "TR18-18", "SL-05"),
        doc="Every immediate shutdown ends, even if no child heeds SIGQUIT.",
        source="postmaster.c: ServerLoop(), PostmasterStateMachine()",
        given=LIVES & (SHUTDOWN == Shutdown.ImmediateShutdown),
        then=GONE,
        fairness=(F1, F3),
        exception="15: a dead-end child gets neither SIGQUIT nor SIGKILL; 18: one that was forked "
        "after the only SIGKILL round gets SIGQUIT but never SIGKILL",
    ),
    _ends(Shutdown.FastShutdown),
    _ends(Shutdown.SmartShutdown),
    Property(
        name="a_smart_shutdown_without_sessions_ends",
        ids=("INV-93", "SM-01", "SM-20"),
        doc="A smart shutdown without sessions ends without any client's doing.",
        source="postmaster.c: PostmasterStateMachine()",
        given=LIVES & (SHUTDOWN == Shutdown.SmartShutdown) & none_recorded(Kind.BACKEND),
        then=GONE | (SHUTDOWN > Shutdown.SmartShutdown),
        fairness=(F1, F2, F3, F6),
        exception=_HANGS,
    ),
    Property(
        name="every_crash_restart_ends",
        ids=("INV-94", "CR-20", "CR-23"),
        doc="After a crash with restart_after_crash on the server opens, or goes on with recovery, "
        "or ends, or somebody asks for a shutdown.",
        source="postmaster.c: HandleChildCrash(), PostmasterStateMachine()",
        given=LIVES & FATAL_ERROR & RESTART_AFTER_CRASH & ~PENDING,
        then=GONE | PENDING | ~FATAL_ERROR,
        fairness=(F1, F3, RECOVERY_ENDS, F6),
        exception="18: a startup process that dies in the PM_STARTUP after a crash leaves it there "
        "for ever; 15: a stuck dead-end child is passed over by SIGKILL",
    ),
    Property(
        name="a_crash_without_restart_ends_the_server",
        ids=("INV-95", "CR-22"),
        doc="After a crash with restart_after_crash off the postmaster ends.",
        source="postmaster.c: PostmasterStateMachine()",
        given=LIVES & FATAL_ERROR & ~RESTART_AFTER_CRASH,
        then=GONE | ~FATAL_ERROR,
        fairness=(F1, F3, RECOVERY_ENDS, F6),
        exception="15: a stuck dead-end child is passed over by SIGKILL",
    ),
    Property(
        name="every_start_opens_or_ends",
        ids=("INV-96", "TR18-04"),
        doc="A start leads to an open server, to its end, or to a shutdown request.",
        source="postmaster.c: PostmasterMain()",
        given=LIVES & state_is(PM.PM_STARTUP) & ~FATAL_ERROR,
        then=GONE | PENDING | FATAL_ERROR | state_is(PM.PM_RUN, PM.PM_HOT_STANDBY),
        fairness=(F1, F2, F6),
    ),
    Property(
        name="every_recovery_ends",
        ids=("INV-96", "TR18-04", "MM-08"),
        doc="PM_RECOVERY leads to an open server, to its end, to a crash or a shutdown request.",
        source="postmaster.c: process_pm_pmsignal()",
        given=LIVES & state_is(PM.PM_RECOVERY),
        then=GONE | PENDING | FATAL_ERROR | state_is(PM.PM_RUN, PM.PM_HOT_STANDBY),
        fairness=(F1, F2, F6),
        exception="18: the death of the startup process after a crash may be reaped before its "
        "RECOVERY_STARTED is looked at: PM_RECOVERY without a startup process, for ever",
    ),
    Property(
        name="every_dead_child_is_reaped",
        ids=("INV-101", "RP-01"),
        doc="Every dead child is reaped some day.",
        source="postmaster.c: process_pm_child_exit()",
        given=LIVES & ~NOBODY_DEAD,
        then=GONE | NOBODY_DEAD,
        fairness=(F1,),
    ),
    Property(
        name="a_missing_walwriter_is_replaced",
        ids=("INV-98", "PR-04", "SL-03"),
        doc="While the server runs a missing walwriter is started again some day.",
        source="postmaster.c: LaunchMissingBackgroundProcesses()",
        given=state_is(PM.PM_RUN) & (LIFE[Kind.WAL_WRITER] == Life.ABSENT),
        then=recorded(Kind.WAL_WRITER) | ~state_is(PM.PM_RUN),
        fairness=(F1, F6),
    ),
    Property(
        name="the_wait_for_refused_clients_ends",
        ids=("INV-110", "SM-09", "SM-23"),
        doc="PM_WAIT_DEAD_END ends, if children stop when told and refused clients time out.",
        source="postmaster.c: PostmasterStateMachine()",
        given=LIVES & state_is(PM.PM_WAIT_DEAD_END),
        then=GONE | ~state_is(PM.PM_WAIT_DEAD_END),
        fairness=(F1, F2, F3, F6),
    ),
)
