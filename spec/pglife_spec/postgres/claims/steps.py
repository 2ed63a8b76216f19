"""Claims about single steps: what each may change, seen from the state before it and after it.

Begin with WATCHES. They are watched like evidence: an automaton that judges at the end of a step.
"""

from collections.abc import Sequence

from pglife_spec.lang.declare import watch
from pglife_spec.lang.expr import BOOL, Expr, all_of, any_of, implies, in_
from pglife_spec.lang.watch import BEGIN, END, Automaton, Edge, before, noted, register, seen
from pglife_spec.postgres.claims.common import AT_TARGET, NO_FORK, THROUGH, reaped
from pglife_spec.postgres.state.autovacuum import (
    NEEDS_SIGNAL,
    START_AUTOVAC_LAUNCHER,
    START_AUTOVAC_WORKER,
    STARTING,
)
from pglife_spec.postgres.state.children import (
    COUNT,
    LIFE,
    NO_ZOMBIE,
    ZOMBIE_LIVES,
    alive,
    none_recorded,
    number,
    recorded,
)
from pglife_spec.postgres.state.history import TAINTED
from pglife_spec.postgres.state.io_pool import SHRINKS
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    CONNS_ALLOWED,
    EXIT,
    EXITED,
    FAST_TOO,
    FATAL_ERROR,
    FORK_FAILS,
    IMMEDIATE,
    PENDING,
    PROMOTE_REQUEST,
    REAPING,
    RELOAD,
    REQUEST,
    SHUTDOWN,
    STARTUP_STATUS,
    STATE,
    state_is,
)
from pglife_spec.postgres.state.shared import (
    ADVANCE_STATE_MACHINE,
    BEGIN_HOT_STANDBY,
    CONTROL,
    RECOVERED,
    RECOVERY_STARTED,
    REDO,
    START_WALRECEIVER,
    WALRCV,
    XLOG_IS_SHUTDOWN,
)
from pglife_spec.postgres.state.workers import HAVE_CRASHED_WORKER, START_WORKER_NEEDED
from pglife_spec.postgres.words import (
    PM,
    Control,
    Exit,
    Kind,
    Life,
    Shutdown,
    StartupStatus,
)
from pglife_spec.postgres.words.kinds import ALL_BUT_LOGGER, SINGLETONS
from pglife_spec.postgres.words.parameters import RESTART_AFTER_CRASH
from pglife_spec.postgres.words.recovery import WalRcv
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_STARTUP_EXIT_IN_CRASH,
    REPAIR_TARGET_IN_CRASH_STARTUP,
)

_REQUEST = "postmaster.c: process_pm_shutdown_request()"
_SM = "postmaster.c: PostmasterStateMachine()"
_REAPER = "postmaster.c: process_pm_child_exit()"
_BY = {
    actor: noted(f"by {actor}", seen(BEGIN, actor))
    for actor in ("postmaster", "child", "client", "operator", "fault")
}
_BY_POSTMASTER = _BY["postmaster"].register


def _step(name: str, holds: Expr) -> Automaton:
    """What is true of every step, judged at its end."""
    return Automaton(register(name, BOOL), (Edge(seen(END), guard=~holds, wrong=True),))


def _changes(var: Expr) -> Expr:
    return before(var) != var


_AGAIN = THROUGH[PM.PM_STARTUP].register & ~before(state_is(PM.PM_INIT))


@watch("SM-13", "CR-20", "PG-23", source=_SM, reaches=FATAL_ERROR & state_is(PM.PM_STARTUP))
def new_shared_memory_forgets_all_flags() -> Sequence[Automaton]:
    """When shared memory is made anew no flag in it is set, no child but the logger is left over,
    and no crash is remembered."""
    flags = (RECOVERY_STARTED, XLOG_IS_SHUTDOWN, ADVANCE_STATE_MACHINE, REDO, RECOVERED, TAINTED)
    left = all_of(
        *(~(before(alive(kind)) & alive(kind)) for kind in ALL_BUT_LOGGER), ~any_of(*flags)
    )
    return [THROUGH[PM.PM_STARTUP], _step("fresh", implies(_AGAIN, left))]


@watch("SM-12", "SM-11", "CR-22", source=_SM, reaches=FATAL_ERROR & state_is(PM.PM_STARTUP))
def shared_memory_is_made_anew_only_after_a_crash_that_may_be_survived() -> Sequence[Automaton]:
    """The postmaster begins again only after a crash without a request, with restart_after_crash,
    and if the startup process has not failed."""
    failed = before(STARTUP_STATUS) == StartupStatus.STARTUP_CRASHED
    allowed = before(FATAL_ERROR) & ~before(PENDING) & RESTART_AFTER_CRASH & ~failed
    return [THROUGH[PM.PM_STARTUP], _step("may restart", implies(_AGAIN, allowed))]


@watch("SM-10", "SM-11", "SM-12", "CR-22", source=_SM, reaches=EXIT == Exit.EXITED_1)
def an_exit_has_its_reason() -> Sequence[Automaton]:
    """The postmaster exits with 0 for a request and no crash; with 1 for a request and a crash, for
    a startup process that failed or could not be forked, or with restart_after_crash off."""
    exits = EXITED & ~before(EXITED)
    failed = STARTUP_STATUS == StartupStatus.STARTUP_CRASHED
    orderly = PENDING & ~FATAL_ERROR
    given_up = (PENDING & FATAL_ERROR) | failed | ~RESTART_AFTER_CRASH | NO_FORK.register
    return [
        NO_FORK,
        _step("exits with 0", implies(exits & (EXIT == Exit.EXITED_0), orderly)),
        _step("exits with 1", implies(exits & (EXIT == Exit.EXITED_1), given_up & ~orderly)),
    ]


@watch("PR-20", "TR18-07", source=_REAPER)
def a_startup_process_that_fails_by_itself_is_recorded() -> Sequence[Automaton]:
    """A startup process that is reaped with a failure, and to which no SIGQUIT was sent, is
    recorded as failed, unless it exited with 1 in a shutdown; any other is not."""
    status = before(STARTUP_STATUS)
    failure = reaped(Kind.STARTUP, Life.CRASHED) | (
        reaped(Kind.STARTUP, Life.EXITED_1) & ~before(PENDING)
    )
    signaled = status == StartupStatus.STARTUP_SIGNALED
    is_failed = STARTUP_STATUS == StartupStatus.STARTUP_CRASHED
    return [
        _step("fails", implies(failure & ~signaled, is_failed)),
        _step(
            "was signaled",
            implies(
                before(recorded(Kind.STARTUP)) & none_recorded(Kind.STARTUP) & ~failure,
                STARTUP_STATUS == StartupStatus.STARTUP_NOT_RUNNING,
            ),
        ),
    ]


@watch("SM-04", "SM-03", "MM-02", source=_SM, reaches=FATAL_ERROR & state_is(PM.PM_WAIT_DEAD_END))
def pm_wait_backends_waits_for_all_its_children() -> Sequence[Automaton]:
    """18 goes from PM_WAIT_BACKENDS to PM_WAIT_DEAD_END, in a crash or an immediate shutdown, when
    only dead-end children and the logger are left."""
    left = before(state_is(PM.PM_WAIT_BACKENDS)) & THROUGH[PM.PM_WAIT_DEAD_END].register
    others = tuple(kind for kind in ALL_BUT_LOGGER if kind is not Kind.DEAD_END_BACKEND)
    return [
        THROUGH[PM.PM_WAIT_DEAD_END],
        THROUGH[PM.PM_STARTUP],
        _step(
            "all are gone",
            implies(left & has(Feature.ONE_CHILD_LIST) & ~_AGAIN, none_recorded(*others)),
        ),
    ]


@watch("SM-06", "MM-16", source=_SM)
def a_shutdown_becomes_a_crash_only_for_a_reason() -> Sequence[Automaton]:
    """FatalError is set when a crash is reaped, when WAL ends unexpectedly, or when a child cannot
    be forked, and for nothing else."""
    crash = noted("a crash", seen("log", "crash"))
    wal = noted("wal ends", seen("log", "WAL was shut down unexpectedly"))
    rises = ~before(FATAL_ERROR) & FATAL_ERROR
    reason = any_of(crash.register, wal.register, NO_FORK.register, before(FORK_FAILS))
    return [crash, wal, NO_FORK, _step("a reason", implies(rises, reason))]


@watch("SH-01", "SH-09", "SV-21", source=_REQUEST, reaches=PENDING)
def each_shutdown_was_requested() -> Sequence[Automaton]:
    """Shutdown rises to a mode only if a request for it was pending, or at the recovery target; a
    pending request vanishes only when it, or a stronger one, is recorded."""
    asked = before(REQUEST) == SHUTDOWN
    asked_too = before(FAST_TOO) & (SHUTDOWN == Shutdown.FastShutdown)
    lost = _changes(REQUEST) & (REQUEST == Shutdown.NoShutdown) & (SHUTDOWN < before(REQUEST))
    lost_too = before(FAST_TOO) & ~FAST_TOO & (SHUTDOWN < Shutdown.FastShutdown)
    return [
        _BY["postmaster"],
        _BY["operator"],
        AT_TARGET,
        _step(
            "was asked",
            implies(_changes(SHUTDOWN), (asked | asked_too | AT_TARGET.register) & _BY_POSTMASTER),
        ),
        _step("not lost", ~lost & ~lost_too),
        _step("rises", before(SHUTDOWN) <= SHUTDOWN),
        _step(
            "operators ask",
            implies(
                before(REQUEST) < REQUEST,
                _BY["operator"].register,
            ),
        ),
    ]


@watch("SG-02", "SV-21", source="postmaster.c: process_pm_reload_request()")
def only_operators_ask_for_a_reload() -> Sequence[Automaton]:
    """SIGHUP comes from an operator and is taken by the postmaster."""
    return [
        _BY["postmaster"],
        _BY["operator"],
        _step("asked by", implies(~before(RELOAD) & RELOAD, _BY["operator"].register)),
        _step("taken by", implies(before(RELOAD) & ~RELOAD, _BY_POSTMASTER)),
    ]


@watch("RC-01", "RC-02", "CT-20", source="xlogrecovery.c: PerformWalRecovery()", reaches=REDO)
def redo_follows_an_unclean_shutdown() -> Sequence[Automaton]:
    """Redo is reported and recorded when it begins; crash recovery begins only if the control file
    does not say "shut down"."""
    begins = ~before(REDO) & REDO
    unclean = before(CONTROL) != Control.SHUT_DOWN
    crash = CONTROL == Control.IN_CRASH_RECOVERY
    archive = CONTROL == Control.IN_ARCHIVE_RECOVERY
    return [
        _step("unclean", implies(begins & crash, unclean)),
        _step(
            "is recorded",
            implies(begins, RECOVERY_STARTED & (crash | archive) & ~before(RECOVERED)),
        ),
        _step("reports redo", implies(~before(RECOVERY_STARTED) & RECOVERY_STARTED, begins)),
    ]


@watch("CT-20", "SH-13", "SH-14", "CR-23", source="xlog.c: UpdateControlFile()", reaches=RECOVERED)
def the_control_file_goes_its_way() -> Sequence[Automaton]:
    """The control file is written by children only: "in crash recovery" before redo, "in
    production" at its end, "shutting down" from there, "shut down" by the shutdown checkpoint."""
    old = before(CONTROL)

    def becomes(new: Control) -> Expr:
        return (old != new) & (CONTROL == new)

    return [
        _BY["child"],
        _step("written by a child", implies(_changes(CONTROL), _BY["child"].register)),
        _step("crash", implies(becomes(Control.IN_CRASH_RECOVERY), ~REDO & ~RECOVERED)),
        _step(
            "production",
            implies(becomes(Control.IN_PRODUCTION), RECOVERED & ~before(RECOVERED)),
        ),
        _step(
            "shutting",
            implies(becomes(Control.SHUTTING_DOWN), (old == Control.IN_PRODUCTION) & RECOVERED),
        ),
        _step("shut", implies(becomes(Control.SHUT_DOWN), (old == Control.SHUTTING_DOWN))),
        _step(
            "ends recovery",
            implies(~before(RECOVERED) & RECOVERED, CONTROL == Control.IN_PRODUCTION),
        ),
    ]


def _fewer_zombies() -> Expr:
    singles = [
        before(in_(LIFE[kind], *ZOMBIE_LIVES)) & ~in_(LIFE[kind], *ZOMBIE_LIVES)
        for kind in SINGLETONS
    ]
    counted = [before(count) > count for (_, life), count in COUNT.items() if life in ZOMBIE_LIVES]
    return any_of(*singles, *counted)


@watch("RP-01", "SL-04", "MM-08", source=_REAPER, reaches=REAPING)
def nothing_else_happens_in_the_middle_of_a_reaping() -> Sequence[Automaton]:
    """A reaping ends when no zombie is left; before that each step of the postmaster reaps a child,
    or launches an io worker."""
    more = number(Kind.IO_WORKER) > before(number(Kind.IO_WORKER))
    inside = before(REAPING) & _BY_POSTMASTER
    return [
        _BY["postmaster"],
        _step("ends", implies(before(REAPING) & ~REAPING, before(NO_ZOMBIE))),
        _step("goes on", implies(inside & REAPING, _fewer_zombies() | more)),
        _step("begins", implies(~before(REAPING) & REAPING, _fewer_zombies() & _BY_POSTMASTER)),
        _step("by reaping", implies(_fewer_zombies(), REAPING & _BY_POSTMASTER)),
    ]


@watch("RP-09", "IO-05", "PR-24", source=_REAPER, reaches=REAPING)
def a_reaping_of_18_launches_nothing() -> Sequence[Automaton]:
    """18: a reaping forks no child but io workers, the logger, the startup process of a crash
    restart and the checkpointer of the last checkpoint: the loop launches what is missing."""
    at_once = (Kind.LOGGER, Kind.STARTUP, Kind.CHECKPOINTER)
    others = (kind for kind in SINGLETONS if kind not in at_once)
    forks = any_of(*(~before(alive(kind)) & alive(kind) for kind in others))
    in_18 = ~has(Feature.REAPER_FORKS_CHILDREN)
    return [_step("launches nothing", implies(in_18 & (before(REAPING) | REAPING), ~forks))]


@watch("MM-01", "SV-02", "SV-03", source="postmaster.c: ServerLoop()")
def only_the_postmaster_changes_its_variables() -> Sequence[Automaton]:
    """pmState, Shutdown, FatalError, AbortStartTime, connsAllowed, StartupStatus and the exit
    change in steps of the postmaster only."""
    own = (STATE, SHUTDOWN, FATAL_ERROR, ABORT_TIMER, CONNS_ALLOWED, STARTUP_STATUS, EXIT)
    kept = all_of(*(before(var) == var for var in own))
    return [_BY["postmaster"], _step("kept by others", _BY_POSTMASTER | kept)]


_FORWARD = {
    PM.PM_INIT: (PM.PM_STARTUP, PM.PM_WAIT_BACKENDS),
    PM.PM_STARTUP: (PM.PM_RECOVERY, PM.PM_RUN, PM.PM_HOT_STANDBY),
    PM.PM_RECOVERY: (PM.PM_HOT_STANDBY, PM.PM_RUN),
    PM.PM_HOT_STANDBY: (PM.PM_RUN,),
    PM.PM_RUN: (),
    PM.PM_WAIT_BACKENDS: (PM.PM_STARTUP, PM.PM_SHUTDOWN, PM.PM_WAIT_XLOG_SHUTDOWN),
    PM.PM_SHUTDOWN: (PM.PM_SHUTDOWN_2,),
    PM.PM_SHUTDOWN_2: (),
    PM.PM_WAIT_XLOG_SHUTDOWN: (
        PM.PM_WAIT_XLOG_ARCHIVAL,
        PM.PM_WAIT_IO_WORKERS,
        PM.PM_WAIT_CHECKPOINTER,
    ),
    PM.PM_WAIT_XLOG_ARCHIVAL: (PM.PM_WAIT_IO_WORKERS, PM.PM_WAIT_CHECKPOINTER),
    PM.PM_WAIT_IO_WORKERS: (PM.PM_WAIT_CHECKPOINTER,),
    PM.PM_WAIT_CHECKPOINTER: (),
    PM.PM_WAIT_DEAD_END: (PM.PM_STARTUP,),
}


@watch(
    "PM-01",
    "SM-02",
    "TR18-01",
    "TR18-04",
    source=_SM,
    reaches=state_is(PM.PM_WAIT_DEAD_END),
    exception="without the repair a startup process that finishes after SIGQUIT leads from "
    "PM_WAIT_BACKENDS to PM_RUN",
)
def pm_state_goes_its_ways() -> Sequence[Automaton]:
    """Each state has the states that may follow it in one step; and a request or a crash leads
    to PM_WAIT_BACKENDS or beyond."""
    ended = state_is(PM.PM_WAIT_BACKENDS, PM.PM_WAIT_DEAD_END, PM.PM_NO_CHILDREN)
    #: A request or the end of recovery may find that no backend is left to wait for.
    drained = state_is(PM.PM_SHUTDOWN, PM.PM_WAIT_XLOG_SHUTDOWN) & PENDING
    reopens = ~REPAIR_STARTUP_EXIT_IN_CRASH & before(FATAL_ERROR) & state_is(PM.PM_RUN)
    return [
        _step(
            f"from {state.name}",
            implies(
                before(STATE == state) & (STATE != state),
                state_is(*after) | ended | drained | reopens,
            ),
        )
        for state, after in _FORWARD.items()
    ]


@watch("SV-04", "TR18-14", source=_REQUEST)
def connections_are_closed_by_a_smart_request_only() -> Sequence[Automaton]:
    """connsAllowed falls at a smart request in an open server, and rises when the server opens."""
    smart = _changes(SHUTDOWN) & (SHUTDOWN == Shutdown.SmartShutdown) & ~AT_TARGET.register
    closes = before(CONNS_ALLOWED) & ~CONNS_ALLOWED
    return [
        AT_TARGET,
        _step("closes", implies(closes, smart & before(state_is(PM.PM_RUN, PM.PM_HOT_STANDBY)))),
        _step(
            "smart closes",
            implies(smart & before(state_is(PM.PM_RUN, PM.PM_HOT_STANDBY)), ~CONNS_ALLOWED),
        ),
        _step(
            "opens",
            implies(~before(CONNS_ALLOWED) & CONNS_ALLOWED, state_is(PM.PM_RUN, PM.PM_HOT_STANDBY)),
        ),
    ]


@watch("SV-02", "CR-20", "TR18-02", "TR18-04", source=_REAPER)
def a_crash_is_over_when_recovery_begins_or_the_server_opens() -> Sequence[Automaton]:
    """FatalError is reset only when redo is reported after a crash, or when the server opens; by
    the repair also when the startup process stops at its recovery target."""
    at_target = REPAIR_TARGET_IN_CRASH_STARTUP & reaped(Kind.STARTUP, Life.EXITED_3)
    over = THROUGH[PM.PM_RECOVERY].register | THROUGH[PM.PM_RUN].register | at_target
    return [
        THROUGH[PM.PM_RECOVERY],
        THROUGH[PM.PM_RUN],
        _step("is over", implies(before(FATAL_ERROR) & ~FATAL_ERROR, over)),
    ]


@watch("SV-03", "SL-05", source="postmaster.c: HandleFatalError()", reaches=ABORT_TIMER)
def the_timer_is_armed_with_the_crash() -> Sequence[Automaton]:
    """A step that begins a crash (15: by a child that was reaped) or an immediate shutdown arms the
    SIGKILL timer, unless the postmaster exits in it."""
    begins = (~before(FATAL_ERROR) & FATAL_ERROR & _fewer_zombies()) | (
        ~before(IMMEDIATE) & IMMEDIATE
    )
    return [_step("armed", implies(begins & ~EXITED, ABORT_TIMER))]


@watch("SL-01", "INV-101", source="postmaster.c: ServerLoop()")
def no_step_of_the_postmaster_is_in_vain() -> Sequence[Automaton]:
    """Each step of the postmaster changes something of what it waited for: a request, a flag, a
    zombie, a timer, a reaping, or a missing child."""
    waits = (REQUEST, FAST_TOO, RELOAD, REAPING, ABORT_TIMER, STATE, PROMOTE_REQUEST, SHRINKS)
    workers = (START_WORKER_NEEDED, HAVE_CRASHED_WORKER)
    vacuum = (START_AUTOVAC_LAUNCHER, START_AUTOVAC_WORKER, NEEDS_SIGNAL)
    messages = (BEGIN_HOT_STANDBY, START_WALRECEIVER, *vacuum)
    flags = (RECOVERY_STARTED, XLOG_IS_SHUTDOWN, ADVANCE_STATE_MACHINE, *messages, *workers)
    forks = any_of(
        *(~before(alive(kind)) & alive(kind) for kind in LIFE),
        number(Kind.IO_WORKER) > before(number(Kind.IO_WORKER)),
    )
    changes = any_of(*(_changes(var) for var in (*waits, *flags)), forks, _fewer_zombies())
    return [_BY["postmaster"], _step("does", implies(_BY_POSTMASTER, changes))]


@watch("AV-02", "AV-11", source="autovacuum.c: do_start_worker()", reaches=STARTING)
def a_request_for_an_autovacuum_worker_has_an_entry() -> Sequence[Automaton]:
    """When the launcher first asks for a worker, an entry of shared memory waits for it."""
    asks = ~before(START_AUTOVAC_WORKER) & START_AUTOVAC_WORKER & _BY["client"].register
    return [_BY["client"], _step("has an entry", implies(asks, STARTING))]


@watch("RC-15", "PR-08", source="walreceiverfuncs.c: RequestXLogStreaming()")
def a_wanted_walreceiver_is_asked_for() -> Sequence[Automaton]:
    """The startup process that notes a walreceiver as wanted asks the postmaster for it."""
    wants = _changes(WALRCV) & (WALRCV == WalRcv.STARTING)
    return [_step("is asked for", implies(wants, START_WALRECEIVER))]


WATCHES = (
    new_shared_memory_forgets_all_flags,
    shared_memory_is_made_anew_only_after_a_crash_that_may_be_survived,
    an_exit_has_its_reason,
    a_startup_process_that_fails_by_itself_is_recorded,
    pm_wait_backends_waits_for_all_its_children,
    a_shutdown_becomes_a_crash_only_for_a_reason,
    each_shutdown_was_requested,
    only_operators_ask_for_a_reload,
    redo_follows_an_unclean_shutdown,
    the_control_file_goes_its_way,
    nothing_else_happens_in_the_middle_of_a_reaping,
    a_reaping_of_18_launches_nothing,
    only_the_postmaster_changes_its_variables,
    pm_state_goes_its_ways,
    connections_are_closed_by_a_smart_request_only,
    a_crash_is_over_when_recovery_begins_or_the_server_opens,
    the_timer_is_armed_with_the_crash,
    no_step_of_the_postmaster_is_in_vain,
    a_request_for_an_autovacuum_worker_has_an_entry,
    a_wanted_walreceiver_is_asked_for,
)
