"""Claims about archiver, walsenders and WAL summarizer."""

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import any_of, implies, in_
from pglife_spec.postgres.state.children import none_recorded, recorded, some_in
from pglife_spec.postgres.state.history import STOPPED_AT_TARGET
from pglife_spec.postgres.state.postmaster import (
    ALIVE,
    BETWEEN_EVENTS,
    CRASH_OR_IMMEDIATE,
    SHUTDOWN,
    state_is,
)
from pglife_spec.postgres.state.shared import ADVANCE_STATE_MACHINE, CONTROL
from pglife_spec.postgres.words import PM, ArchiveMode, Control, Kind, Life, Shutdown
from pglife_spec.postgres.words.kinds import AFTER_WAL
from pglife_spec.postgres.words.parameters import (
    ARCHIVE_MODE,
    STRAY_SIGNALS,
    SUMMARIZE_WAL,
)
from pglife_spec.postgres.words.releases import Feature, has

_SM = "postmaster.c: PostmasterStateMachine()"
_EARLY = (PM.PM_INIT, PM.PM_STARTUP)
#: SIGUSR2, or an operator's SIGTERM, was sent to the archiver or to a walsender.
_ENDING = any_of(*(some_in(kind, Life.TERMINATING) for kind in AFTER_WAL))
#: A stop at the recovery target signals every child at once, the archiver too (RC-10).
_ORDERLY = ALIVE & ~STRAY_SIGNALS & ~STOPPED_AT_TARGET


@claim("INV-36", "SM-07", source=_SM)
def archiver_and_walsenders_exit_before_the_io_workers() -> Statement:
    """18: in PM_WAIT_IO_WORKERS and PM_WAIT_CHECKPOINTER there is no record of an archiver or a
    walsender."""
    here = state_is(PM.PM_WAIT_IO_WORKERS, PM.PM_WAIT_CHECKPOINTER)
    return Statement(
        holds=implies(here, none_recorded(*AFTER_WAL)),
        reaches=~has(Feature.CHECKPOINTER_OUTLIVES_WAL) | here,
    )


@claim("INV-39", "SM-02", "TR18-24", "TR17-21", source=_SM)
def archiver_and_walsenders_run_until_the_shutdown_checkpoint() -> Statement:
    """Archiver and walsenders are signaled to end only in the state that waits for their exit,
    unless an operator signals the archiver, or the server stops at its recovery target."""
    waiting = state_is(PM.PM_SHUTDOWN_2, PM.PM_WAIT_XLOG_ARCHIVAL)
    return Statement(
        holds=implies(_ENDING & _ORDERLY, waiting),
        reaches=_ENDING & _ORDERLY,
    )


@claim("INV-38", "INV-39", "SH-20", "SH-21", source="xlog.c: ShutdownXLOG()")
def archiver_and_walsenders_see_the_shutdown_checkpoint() -> Statement:
    """When archiver and walsenders are signaled to end the shutdown checkpoint is complete, so that
    they can archive and send it; unless an operator signals the archiver, or the server stops at
    its recovery target."""
    here = _ENDING & _ORDERLY
    complete = in_(CONTROL, Control.SHUT_DOWN, Control.SHUT_DOWN_IN_RECOVERY)
    return Statement(holds=implies(here, complete), reaches=here)


@claim("AR-01", "PR-07", source="postmaster.c: LaunchMissingBackgroundProcesses()")
def the_archiver_needs_its_setting() -> Statement:
    """An archiver is on record only with archive_mode on or always, never in PM_STARTUP, and in
    PM_RECOVERY and PM_HOT_STANDBY only with always."""
    here = recorded(Kind.ARCHIVER)
    in_recovery = state_is(PM.PM_RECOVERY, PM.PM_HOT_STANDBY)
    always = ARCHIVE_MODE == ArchiveMode.ALWAYS
    return Statement(
        holds=implies(
            here,
            (ARCHIVE_MODE != ArchiveMode.OFF) & ~state_is(*_EARLY) & (always | ~in_recovery),
        ),
        reaches=here,
    )


@claim("SM-01", "PG-10", "INV-93", source="walsender.c: InitWalSender()")
def a_smart_shutdown_waits_for_no_walsender() -> Statement:
    """A smart shutdown keeps the server open only for client backends: between two events one is on
    record, or the message of the last one that it is a walsender now waits to be read."""
    here = (
        BETWEEN_EVENTS
        & (SHUTDOWN == Shutdown.SmartShutdown)
        & state_is(PM.PM_HOT_STANDBY, PM.PM_RUN)
    )
    return Statement(
        holds=implies(here, recorded(Kind.BACKEND) | ADVANCE_STATE_MACHINE),
        reaches=here & recorded(Kind.WAL_SENDER),
    )


@claim("INV-42", "INV-43", "WS-02", source="postmaster.c: LaunchMissingBackgroundProcesses()")
def the_summarizer_needs_its_setting() -> Statement:
    """A WAL summarizer is on record only with summarize_wal on, never before PM_HOT_STANDBY or
    PM_RUN, nor after the backends have exited in an orderly shutdown."""
    here = recorded(Kind.WAL_SUMMARIZER)
    open_ = state_is(PM.PM_HOT_STANDBY, PM.PM_RUN, PM.PM_WAIT_BACKENDS)
    return Statement(
        holds=implies(here, SUMMARIZE_WAL & (open_ | (CRASH_OR_IMMEDIATE & ~state_is(*_EARLY)))),
        reaches=~has(Feature.WAL_SUMMARIZER) | here,
    )


CLAIMS = (
    archiver_and_walsenders_exit_before_the_io_workers,
    archiver_and_walsenders_run_until_the_shutdown_checkpoint,
    archiver_and_walsenders_see_the_shutdown_checkpoint,
    the_archiver_needs_its_setting,
    a_smart_shutdown_waits_for_no_walsender,
    the_summarizer_needs_its_setting,
)
