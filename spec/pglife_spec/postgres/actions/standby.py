"""What only the postmaster of a standby does: launch and reap what the startup process wants.

Begin with launch_walreceiver; then operator_promotes.

Source: postmaster.c: LaunchMissingBackgroundProcesses(), process_pm_child_exit().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import Expr
from pglife_spec.lang.machine import Actor
from pglife_spec.postgres.actions.effects import Effects, crash, forget, fork
from pglife_spec.postgres.state.children import LIFE
from pglife_spec.postgres.state.history import PROMOTED
from pglife_spec.postgres.state.postmaster import (
    ALIVE,
    BETWEEN_EVENTS,
    FORK_FAILS,
    PROMOTE_REQUEST,
    REAPING,
    SHUTDOWN,
    WAL_RECEIVER_REQUESTED,
    state_is,
)
from pglife_spec.postgres.state.shared import CONTROL, PROMOTE_FILE
from pglife_spec.postgres.words import Control, Kind, Life, Shutdown
from pglife_spec.postgres.words.kinds import KINDS, REPLICATION


def _launch(kind: Kind, wanted: Expr, then: Effects = ()) -> Step:
    here = state_is(*KINDS[kind].launched)
    orderly = SHUTDOWN <= Shutdown.SmartShutdown
    return Step(
        when=[wanted, BETWEEN_EVENTS, ~FORK_FAILS, here, orderly, LIFE[kind] == Life.ABSENT],
        then=[fork(kind, here & orderly), then],
    )


@action(Actor.POSTMASTER, "postmaster.c: LaunchMissingBackgroundProcesses()", "PR-08", "INV-43")
def launch_walreceiver() -> Step:
    """The postmaster launches the walreceiver that the startup process has asked for, in a smart
    shutdown, too."""
    done = (WAL_RECEIVER_REQUESTED.becomes(False),)
    return _launch(Kind.WAL_RECEIVER, WAL_RECEIVER_REQUESTED, done)


@action(Actor.POSTMASTER, "postmaster.c: LaunchMissingBackgroundProcesses()", "PR-10", "INV-42")
def launch_slotsync_worker() -> Step:
    """The postmaster launches a missing slotsync worker in PM_HOT_STANDBY.

    It waits 10 s after the last start, which the model need not say.
    """
    return _launch(Kind.SLOTSYNC_WORKER, KINDS[Kind.SLOTSYNC_WORKER].wanted)


@action(
    Actor.POSTMASTER,
    "postmaster.c: process_pm_child_exit()",
    "PR-08",
    "PR-10",
    "RP-15",
    kind=REPLICATION,
    life=(Life.EXITED_0, Life.EXITED_1, Life.CRASHED),
)
def reap_replication_process(kind: Kind, life: Life) -> Step:
    """The postmaster reaps the walreceiver or the slotsync worker: exit codes 0 and 1 are fine, any
    other status is a crash."""
    return Step(
        when=[ALIVE, LIFE[kind] == life],
        then=[
            REAPING.becomes(True),
            forget(kind, life),
            crash(kind) if life is Life.CRASHED else (),
        ],
    )


@action(Actor.OPERATOR, "pg_ctl.c: do_promote(); xlogfuncs.c: pg_promote()", "TF-01", "RC-14")
def operator_promotes() -> Step:
    """The operator, or a session, writes the file promote and sends SIGUSR1 to the postmaster."""
    return Step(
        when=[ALIVE, CONTROL == Control.IN_ARCHIVE_RECOVERY, ~PROMOTE_FILE],
        then=[PROMOTE_FILE.becomes(True), PROMOTE_REQUEST.becomes(True), PROMOTED.becomes(True)],
    )


ACTIONS = [
    *launch_walreceiver,
    *launch_slotsync_worker,
    *reap_replication_process,
    *operator_promotes,
]
