"""Forking: the first children, and the event loop's replacement of missing ones.

Begin with fork_first_children, then the launch actions in the order of SL-03.

Source: postmaster.c: PostmasterMain(), LaunchMissingBackgroundProcesses(),
maybe_adjust_io_workers(); 15: ServerLoop().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import TRUE, Expr, all_of, ite
from pglife_spec.lang.machine import Actor, when
from pglife_spec.postgres.actions.effects import (
    IO_WORKER_IS_MISSING,
    advance_to,
    fork,
    fork_io_worker,
    fork_startup,
)
from pglife_spec.postgres.actions.workers import register_workers
from pglife_spec.postgres.state.autovacuum import START_LAUNCHER
from pglife_spec.postgres.state.children import COUNT, LIFE
from pglife_spec.postgres.state.io_pool import IN_FILE, WANTED
from pglife_spec.postgres.state.postmaster import (
    BETWEEN_EVENTS,
    FORK_FAILS,
    state_is,
)
from pglife_spec.postgres.words import PM, Kind, Life
from pglife_spec.postgres.words.kinds import KINDS
from pglife_spec.postgres.words.parameters import IO_WORKERS, LOGGING_COLLECTOR
from pglife_spec.postgres.words.releases import Feature, has


@action(Actor.POSTMASTER, "postmaster.c: PostmasterMain()", "TR18-01", "TR17-01", "ST-04")
def fork_first_children() -> Step:
    """The postmaster forks its first children: the logger if it is on, io workers (18), the
    checkpointer, the background writer, the startup process, without which it exits, and background
    workers that start with it."""
    workers = COUNT[Kind.IO_WORKER, Life.RUNNING]
    return Step(
        when=[BETWEEN_EVENTS, state_is(PM.PM_INIT)],
        then=[
            advance_to(PM.PM_STARTUP),
            IN_FILE.becomes(IO_WORKERS),
            WANTED.becomes(IO_WORKERS),
            when(
                ~FORK_FAILS,
                [
                    when(LOGGING_COLLECTOR, fork(Kind.LOGGER, TRUE)),
                    workers.becomes(ite(has(Feature.IO_WORKERS), IO_WORKERS, 0)),
                    fork(Kind.CHECKPOINTER, TRUE),
                    when(KINDS[Kind.BG_WRITER].wanted, fork(Kind.BG_WRITER, TRUE)),
                ],
            ),
            fork_startup(),
            register_workers(),
        ],
    )


def _launch(kind: Kind, *more: Expr) -> Step:
    """Fork a missing child in the states of its row, if its setting is on."""
    row = KINDS[kind]
    here = state_is(*row.launched)
    missing = LIFE[kind] == Life.ABSENT
    is_launcher = kind is Kind.AUTOVAC_LAUNCHER
    wanted = row.wanted | START_LAUNCHER if is_launcher else row.wanted
    return Step(
        when=[BETWEEN_EVENTS, ~FORK_FAILS, here, wanted, missing, *more],
        then=[
            fork(kind, all_of(here, *more)),
            START_LAUNCHER.becomes(False) if is_launcher else (),
        ],
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: LaunchMissingBackgroundProcesses()",
    "PR-12",
    "SL-03",
    "LG-04",
)
def launch_logger() -> Step:
    """The postmaster launches a missing logger in any state."""
    return _launch(Kind.LOGGER)


@action(Actor.POSTMASTER, "postmaster.c: maybe_adjust_io_workers()", "PR-11", "IO-02", "IO-07")
def launch_io_worker() -> Step:
    """The postmaster launches missing io workers, in a shutdown until PM_WAIT_IO_WORKERS."""
    return Step(when=[BETWEEN_EVENTS, *IO_WORKER_IS_MISSING], then=[fork_io_worker()])


@action(
    Actor.POSTMASTER,
    "postmaster.c: LaunchMissingBackgroundProcesses()",
    "PR-02",
    "PR-03",
    "PR-04",
    "PR-05",
    "INV-41",
    "INV-42",
    "WS-02",
    kind=(
        Kind.CHECKPOINTER,
        Kind.BG_WRITER,
        Kind.WAL_WRITER,
        Kind.AUTOVAC_LAUNCHER,
        Kind.WAL_SUMMARIZER,
    ),
)
def launch_background_process(kind: Kind) -> Step:
    """The postmaster launches a missing checkpointer or background writer from PM_STARTUP to
    PM_RUN, a missing walwriter or autovacuum launcher in PM_RUN, and a missing WAL summarizer in
    PM_HOT_STANDBY and PM_RUN."""
    return _launch(kind)


ACTIONS = [
    *fork_first_children,
    *launch_logger,
    *launch_io_worker,
    *launch_background_process,
]
