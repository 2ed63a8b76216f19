"""What nothing may keep from happening: kills, requests and exits that are possible at any moment.

Begin with POSSIBLE. Safety says what must not happen, liveness what must; a model in which a child
cannot be killed in some state has less of both to show. Their conditions are those of the actions'
own guards, said again: what asks them is a changed machine, `explore.changed`.
"""

from collections.abc import Sequence

from pglife_spec.lang.expr import Expr, in_
from pglife_spec.lang.machine import Action, Possible
from pglife_spec.postgres import declared
from pglife_spec.postgres.declared import case_of
from pglife_spec.postgres.state.children import ALIVE_LIVES, COUNT, LIFE, some_in
from pglife_spec.postgres.state.postmaster import (
    ALIVE,
    FORK_FAILS,
    RELOAD,
    REQUEST,
    SHUTDOWN,
    STARTUP_FORK_FAILS,
    state_is,
)
from pglife_spec.postgres.words import PM, Kind, Life, Shutdown
from pglife_spec.postgres.words.kinds import (
    ALL_BUT_LOGGER,
    BACKGROUND,
    COUNTED,
    REPLICATION,
    SINGLETONS,
    WORKERS,
)
from pglife_spec.postgres.words.parameters import FORK_FAULTS, RELOADS
from pglife_spec.postgres.words.releases import Feature, has

Cases = Sequence[tuple[Expr, Sequence[Action]]]

_STARTUP = LIFE[Kind.STARTUP]
_LISTENS_TO_SIGNALS = ALIVE & ~state_is(PM.PM_INIT)


def _of_kind(cases: Sequence[Action], kinds: Sequence[Kind], *lives: Life) -> Cases:
    return [(some_in(kind, *lives), [case_of(cases, kind=kind)]) for kind in kinds]


_KILLS: Cases = (
    *_of_kind(declared.child_crashes, SINGLETONS, *ALIVE_LIVES),
    *(
        (COUNT[kind, life] >= 1, [case_of(declared.counted_child_crashes, kind=kind, life=life)])
        for kind in COUNTED
        for life in (Life.RUNNING, Life.TERMINATING, Life.QUITTING)
    ),
)
_REQUESTS: Cases = (
    *(
        (
            _LISTENS_TO_SIGNALS & ~(REQUEST >= mode) & ~(SHUTDOWN >= mode),
            [case_of(declared.operator_requests_shutdown, mode=mode)],
        )
        for mode in (Shutdown.SmartShutdown, Shutdown.FastShutdown, Shutdown.ImmediateShutdown)
    ),
    (RELOADS & _LISTENS_TO_SIGNALS & ~RELOAD, declared.operator_requests_reload),
)
_SIGTERMS: Cases = (
    (some_in(Kind.BACKEND, Life.RUNNING), declared.operator_terminates_session),
    *_of_kind(
        declared.operator_terminates_background_process,
        (*BACKGROUND, *WORKERS, *REPLICATION),
        Life.RUNNING,
    ),
    (some_in(Kind.IO_WORKER, Life.RUNNING), declared.operator_stops_io_worker),
)
_DEPARTURES: Cases = (
    (some_in(Kind.BACKEND, Life.RUNNING), declared.client_disconnects),
    (some_in(Kind.WAL_SENDER, Life.RUNNING), declared.walsender_disconnects),
    (some_in(Kind.DEAD_END_BACKEND, Life.RUNNING), declared.dead_end_child_exits),
)
_EXITS: Cases = (
    *_of_kind(declared.child_exits_at_sigquit, ALL_BUT_LOGGER, Life.QUITTING),
    *_of_kind(
        declared.background_process_exits_at_sigterm, (*BACKGROUND, *WORKERS), Life.TERMINATING
    ),
    *_of_kind(
        declared.signaled_child_exits,
        (Kind.BACKEND, Kind.DEAD_END_BACKEND, Kind.IO_WORKER),
        Life.TERMINATING,
    ),
    (some_in(Kind.STARTUP, Life.TERMINATING), declared.startup_exits_at_sigterm),
    (some_in(Kind.WAL_SENDER, Life.TERMINATING), declared.walsender_finishes),
    (some_in(Kind.ARCHIVER, Life.TERMINATING), declared.archiver_finishes),
    (some_in(Kind.SLOTSYNC_WORKER, Life.TERMINATING), declared.slotsync_worker_exits_at_sigterm),
    (
        has(Feature.CHECKPOINTER_OUTLIVES_WAL) & some_in(Kind.CHECKPOINTER, Life.TERMINATING),
        declared.checkpointer_exits_at_sigusr2,
    ),
)
_FAILURES: Cases = (
    (in_(_STARTUP, Life.RUNNING, Life.TERMINATING), declared.startup_fails),
    (some_in(Kind.ARCHIVER, Life.RUNNING, Life.TERMINATING), declared.archiver_fails),
    *(
        (some_in(Kind.STATIC_WORKER, Life.RUNNING), [case])
        for case in declared.background_worker_ends
    ),
    (FORK_FAULTS & ~FORK_FAILS, declared.fork_begins_to_fail),
    (FORK_FAULTS & ~STARTUP_FORK_FAILS, declared.startup_fork_begins_to_fail),
    (FORK_FAILS | STARTUP_FORK_FAILS, declared.fork_works_again),
)

POSSIBLE = (
    Possible(
        "every_live_child_can_be_killed",
        ("CR-01", "CR-63", "SG-40"),
        "A live child can be killed at any moment, whatever it does and whatever the postmaster "
        "does.",
        "any",
        _KILLS,
    ),
    Possible(
        "every_request_can_come_at_any_moment",
        ("SH-01", "SG-01", "SG-08"),
        "While the postmaster is alive a stronger shutdown request, or a reload, can come at any "
        "moment, also in the middle of a reaping.",
        "postmaster.c: handle_pm_shutdown_request_signal(), handle_pm_reload_request_signal()",
        _REQUESTS,
    ),
    Possible(
        "every_process_can_be_terminated_by_an_operator",
        ("SG-12", "SG-13", "SG-15", "SG-22", "SG-28"),
        "An operator can send SIGTERM to any session, background process or worker that runs, and "
        "what ends it to an io worker.",
        "any",
        _SIGTERMS,
    ),
    Possible(
        "clients_can_leave_at_any_moment",
        ("CN-12", "PG-10"),
        "A client can close its connection at any moment: its session, walsender or dead-end child "
        "then exits.",
        "tcop/postgres.c: PostgresMain()",
        _DEPARTURES,
    ),
    Possible(
        "a_signaled_child_can_exit",
        ("SG-40", "SG-12", "SG-28", "SG-20"),
        "A child that was sent the signal that ends it can exit in every state of the postmaster.",
        "postmaster/interrupt.c: SignalHandlerForShutdownRequest(), SignalHandlerForCrashExit()",
        _EXITS,
    ),
    Possible(
        "failures_can_come_at_any_moment",
        ("PR-20", "RC-21", "BG-04", "MM-16"),
        "The startup process, the archiver and a background worker can fail at any moment, and "
        "fork() can fail and work again.",
        "any",
        _FAILURES,
    ),
)
