"""The checkpointer: the shutdown checkpoint, and its exit.

Source: access/transam/xlog.c: ShutdownXLOG(); postmaster/checkpointer.c.
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import in_, ite
from pglife_spec.lang.machine import Actor, when
from pglife_spec.postgres.state.children import CHECKPOINTER_MAY_EXIT, LIFE
from pglife_spec.postgres.state.shared import CONTROL, RECOVERED, XLOG_IS_SHUTDOWN
from pglife_spec.postgres.words import Control, Kind, Life
from pglife_spec.postgres.words.releases import Feature, has

CHECKPOINTER = LIFE[Kind.CHECKPOINTER]


@action(Actor.CHILD, "xlog.c: ShutdownXLOG()", "SH-14", "SH-15", "CK-06")
def checkpointer_begins_shutdown_checkpoint() -> Step:
    """The checkpointer begins the shutdown checkpoint and writes "shutting down" to the control
    file."""
    return Step(
        when=[
            CHECKPOINTER == Life.CHECKPOINTING,
            RECOVERED,
            CONTROL == Control.IN_PRODUCTION,
        ],
        then=[CONTROL.becomes(Control.SHUTTING_DOWN)],
    )


@action(Actor.CHILD, "checkpointer.c: CheckpointerMain()", "SH-13", "CK-06", "PG-09", "RC-18")
def checkpointer_finishes_shutdown_checkpoint() -> Step:
    """The checkpointer finishes the shutdown checkpoint and writes "shut down" to the control
    file: 18 reports it and waits for SIGUSR2 unless that has come before, 15 exits with 0."""
    ready = ~RECOVERED | in_(CONTROL, Control.SHUTTING_DOWN, Control.SHUT_DOWN)
    return Step(
        when=[CHECKPOINTER == Life.CHECKPOINTING, ready],
        then=[
            CONTROL.becomes(ite(RECOVERED, Control.SHUT_DOWN, Control.SHUT_DOWN_IN_RECOVERY)),
            when(
                has(Feature.CHECKPOINTER_OUTLIVES_WAL),
                [
                    XLOG_IS_SHUTDOWN.becomes(True),
                    CHECKPOINTER.becomes(
                        ite(CHECKPOINTER_MAY_EXIT, Life.EXITED_0, Life.XLOG_SHUT_DOWN)
                    ),
                ],
                CHECKPOINTER.becomes(Life.EXITED_0),
            ),
        ],
    )


@action(Actor.CHILD, "checkpointer.c: CheckpointerMain()", "TR18-28", "CK-07", "SG-11")
def checkpointer_exits_at_sigusr2() -> Step:
    """18: at SIGUSR2 the checkpointer exits with 0."""
    return Step(
        when=[has(Feature.CHECKPOINTER_OUTLIVES_WAL), CHECKPOINTER == Life.TERMINATING],
        then=[CHECKPOINTER.becomes(Life.EXITED_0)],
    )


ACTIONS = [
    *checkpointer_begins_shutdown_checkpoint,
    *checkpointer_finishes_shutdown_checkpoint,
    *checkpointer_exits_at_sigusr2,
]
