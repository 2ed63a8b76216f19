"""Claims about autovacuum's launcher and workers."""

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import implies, ite
from pglife_spec.postgres.state.autovacuum import LOST, STARTING, WORKING
from pglife_spec.postgres.state.children import number, recorded
from pglife_spec.postgres.state.postmaster import state_is
from pglife_spec.postgres.words import PM, Kind
from pglife_spec.postgres.words.parameters import AUTOVAC_WORKERS
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import REPAIR_AUTOVAC_ENTRY

_WORKER = Kind.AUTOVAC_WORKER


@claim("INV-50", "AV-11", source="autovacuum.c: do_start_worker()")
def autovacuum_workers_have_an_entry_each() -> Statement:
    """Entries that are taken, waiting for a worker or lost are never more than
    autovacuum_max_workers, and 18 never has more workers on record."""
    taken = WORKING + LOST + ite(STARTING, 1, 0)
    on_record = ~has(Feature.SLOT_POOLS) | (number(_WORKER) <= AUTOVAC_WORKERS)
    return Statement(
        holds=(taken <= AUTOVAC_WORKERS) & on_record,
        reaches=(AUTOVAC_WORKERS >= 1) & (taken == AUTOVAC_WORKERS),
    )


@claim("INV-41", "PR-06", source="postmaster.c: StartAutovacuumWorker()")
def autovacuum_workers_wait_for_an_open_server() -> Statement:
    """Before PM_RUN there is no record of an autovacuum worker."""
    early = state_is(PM.PM_INIT, PM.PM_STARTUP, PM.PM_RECOVERY)
    return Statement(
        holds=implies(early, ~recorded(_WORKER)), reaches=recorded(_WORKER) & state_is(PM.PM_RUN)
    )


@claim(
    "AV-14",
    "INV-106",
    source="autovacuum.c: do_start_worker()",
    exception="without the repair: with autovacuum off a second launcher overwrites the entry of a "
    "worker that has not started yet",
)
def no_autovacuum_entry_is_lost() -> Statement:
    """Every entry of an autovacuum worker is free, or a worker has it or is to take it."""
    return Statement(
        holds=implies(REPAIR_AUTOVAC_ENTRY, LOST == 0), reaches=recorded(_WORKER) & STARTING
    )


CLAIMS = (
    autovacuum_workers_have_an_entry_each,
    autovacuum_workers_wait_for_an_open_server,
    no_autovacuum_entry_is_lost,
)
