"""The list of background workers, and the two flags that make the main loop look at it."""

from pglife_spec.lang.expr import BOOL, TRUE, EnumSort, Expr, Var
from pglife_spec.postgres.state.children import LIFE
from pglife_spec.postgres.state.postmaster import state_is
from pglife_spec.postgres.words import PM, Kind, Life
from pglife_spec.postgres.words.kinds import WORKERS, short
from pglife_spec.postgres.words.parameters import WORKER_RESTARTS, WORKER_START
from pglife_spec.postgres.words.workers import Registration, WorkerStart

START_WORKER_NEEDED = Var(
    "StartWorkerNeeded", BOOL, "some worker may have to be started (SV-11, BG-06)", initial=False
)
HAVE_CRASHED_WORKER = Var(
    "HaveCrashedWorker", BOOL, "some worker waits for its restart (SV-12, BG-06)", initial=False
)
LISTED: dict[Kind, Var] = {
    kind: Var(
        f"{short(kind)}.listed",
        EnumSort(Registration),
        f"the {kind.value} on the list of background workers",
        initial=Registration.UNLISTED,
    )
    for kind in WORKERS
}


def restarts(kind: Kind) -> Expr:
    """Whether bgw_restart_time is an interval, and not BGW_NEVER_RESTART."""
    return WORKER_RESTARTS if kind is Kind.STATIC_WORKER else TRUE


def its_time_has_come(kind: Kind) -> Expr:
    """Whether pmState lets the worker start (BG-05)."""
    if kind is not Kind.STATIC_WORKER:
        return state_is(PM.PM_RUN)
    from_start = WORKER_START == WorkerStart.POSTMASTER_START
    consistent = WORKER_START == WorkerStart.CONSISTENT_STATE
    return (
        state_is(PM.PM_RUN)
        | (state_is(PM.PM_HOT_STANDBY) & (from_start | consistent))
        | (state_is(PM.PM_INIT, PM.PM_STARTUP, PM.PM_RECOVERY) & from_start)
    )


def is_due(kind: Kind) -> Expr:
    """Whether the worker should run now, and neither runs nor waits for its restart interval."""
    absent = LIFE[kind] == Life.ABSENT
    return (LISTED[kind] == Registration.LISTED) & absent & its_time_has_come(kind)


def waits(kind: Kind) -> Expr:
    """Whether the worker waits for its restart interval."""
    return (LISTED[kind] == Registration.WAITS) & (LIFE[kind] == Life.ABSENT)
