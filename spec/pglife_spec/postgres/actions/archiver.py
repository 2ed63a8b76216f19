"""The archiver as the postmaster sees it: when it is launched, and what its exit means.

Begin with launch_archiver. Up to 17 the reaper launches it, too: each of the two places is an
action of its own, for when the archiver's last start is 10 s ago.

Source: postmaster.c: LaunchMissingBackgroundProcesses(), process_pm_child_exit();
15: PgArchStartupAllowed(), reaper().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.machine import Actor
from pglife_spec.postgres.actions.effects import crash, forget, fork
from pglife_spec.postgres.actions.reaping import open_server
from pglife_spec.postgres.state.children import LIFE
from pglife_spec.postgres.state.postmaster import (
    ALIVE,
    BETWEEN_EVENTS,
    FATAL_ERROR,
    FORK_FAILS,
    PENDING,
    REAPING,
    state_is,
)
from pglife_spec.postgres.words import PM, ArchiveMode, Kind, Life
from pglife_spec.postgres.words.parameters import ARCHIVE_MODE
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import REPAIR_STARTUP_EXIT_IN_CRASH

ARCHIVER = LIFE[Kind.ARCHIVER]
#: pmState and archive_mode let the archiver run.
ALLOWED = ((ARCHIVE_MODE != ArchiveMode.OFF) & state_is(PM.PM_RUN)) | (
    (ARCHIVE_MODE == ArchiveMode.ALWAYS) & state_is(PM.PM_RECOVERY, PM.PM_HOT_STANDBY)
)


@action(
    Actor.POSTMASTER,
    "postmaster.c: LaunchMissingBackgroundProcesses()",
    "PR-07",
    "AR-01",
    "AR-06",
    "INV-34",
)
def launch_archiver() -> Step:
    """The postmaster launches a missing archiver in PM_RUN, with archive_mode = always in
    PM_RECOVERY and PM_HOT_STANDBY as well.

    It waits until 10 s after the last start, which the model need not say: any time may pass
    before a step.
    """
    return Step(
        when=[BETWEEN_EVENTS, ~FORK_FAILS, ALLOWED, ARCHIVER == Life.ABSENT],
        then=[fork(Kind.ARCHIVER, ALLOWED)],
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: process_pm_child_exit()",
    "RP-18",
    "PR-07",
    "AR-08",
    life=(Life.EXITED_0, Life.EXITED_1, Life.CRASHED),
)
def reap_archiver(life: Life) -> Step:
    """The postmaster reaps the archiver: exit codes 0 and 1 are fine, any other status is a
    crash."""
    return Step(
        when=[ALIVE, ARCHIVER == life],
        then=[
            REAPING.becomes(True),
            forget(Kind.ARCHIVER, life),
            crash(Kind.ARCHIVER) if life is Life.CRASHED else (),
        ],
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: reaper()",
    "PR-07",
    "AR-06",
    life=(Life.EXITED_0, Life.EXITED_1),
)
def reap_and_replace_archiver(life: Life) -> Step:
    """15: where the archiver may run and its last start is 10 s ago, the reaper replaces it at
    once."""
    return Step(
        when=[
            ALIVE,
            has(Feature.REAPER_FORKS_CHILDREN),
            ~FORK_FAILS,
            ALLOWED,
            ARCHIVER == life,
        ],
        then=[REAPING.becomes(True), forget(Kind.ARCHIVER, life), fork(Kind.ARCHIVER, ALLOWED)],
    )


@action(Actor.POSTMASTER, "postmaster.c: reaper()", "TR17-04", "PR-07", "AR-06")
def reap_startup_and_launch_archiver() -> Step:
    """15: when recovery is over and the archiver's last start is 10 s ago, the reaper launches it
    with the other background processes."""
    return Step(
        when=[
            ALIVE,
            has(Feature.REAPER_FORKS_CHILDREN),
            ~FORK_FAILS,
            ~PENDING,
            ~(REPAIR_STARTUP_EXIT_IN_CRASH & FATAL_ERROR & state_is(PM.PM_WAIT_BACKENDS)),
            ARCHIVE_MODE != ArchiveMode.OFF,
            ARCHIVER == Life.ABSENT,
            LIFE[Kind.STARTUP] == Life.EXITED_0,
        ],
        then=[
            REAPING.becomes(True),
            forget(Kind.STARTUP, Life.EXITED_0),
            open_server(Kind.ARCHIVER),
        ],
    )


ACTIONS = [
    *launch_archiver,
    *reap_archiver,
    *reap_and_replace_archiver,
    *reap_startup_and_launch_archiver,
]
