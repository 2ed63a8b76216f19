"""A state of the model in which the postmaster waits. Begin with held_state()."""

from collections.abc import Mapping

from pglife_spec.lang.expr import Value
from pglife_spec.meanings.python.program import Program
from pglife_spec.postgres.state.children import COUNT, LIFE
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    CONNS_ALLOWED,
    FATAL_ERROR,
    LISTENING,
    PID_FILE,
    SHUTDOWN,
    STARTUP_STATUS,
    STATE,
)
from pglife_spec.postgres.state.shared import CONTROL, RECOVERED
from pglife_spec.postgres.words import PM, Control, Kind, Life, PidFile, Shutdown, StartupStatus

_AFTER_CHECKPOINT = (PM.PM_WAIT_IO_WORKERS, PM.PM_WAIT_CHECKPOINTER, PM.PM_WAIT_DEAD_END)


def held_state(
    program: Program,
    pm: PM,
    shutdown: Shutdown,
    children: Mapping[tuple[Kind, Life], int],
    *,
    fatal: bool,
) -> int:
    """The state in which the postmaster has handled all that came before.

    Args:
        program: the model under one configuration.
        pm: pmState, by the name that the release gives it.
        shutdown: the strongest request so far.
        children: how many children of each kind there are in each state of their lives.
        fatal: whether a child has crashed.
    """
    is_starting = (Kind.STARTUP, Life.RUNNING) in children
    was_shut_down = pm in _AFTER_CHECKPOINT and not fatal
    if shutdown is not Shutdown.NoShutdown:
        pid_file = PidFile.STOPPING
    else:
        pid_file = PidFile.STARTING if is_starting and not fatal else PidFile.READY
    values: dict[str, Value] = dict(program.unpack(program.initial[0]))
    values |= {
        STATE.name: pm,
        SHUTDOWN.name: shutdown,
        FATAL_ERROR.name: fatal,
        PID_FILE.name: pid_file,
        LISTENING.name: pm is not PM.PM_WAIT_DEAD_END,
        CONNS_ALLOWED.name: (pm, shutdown) != (PM.PM_RUN, Shutdown.SmartShutdown),
        STARTUP_STATUS.name: (
            StartupStatus.STARTUP_RUNNING if is_starting else StartupStatus.STARTUP_NOT_RUNNING
        ),
        CONTROL.name: Control.SHUT_DOWN if was_shut_down else Control.IN_PRODUCTION,
        RECOVERED.name: not is_starting,
        ABORT_TIMER.name: fatal and not is_starting,
    }
    for (kind, life), number in children.items():
        if kind in LIFE:
            values[LIFE[kind].name] = life
        else:
            values[COUNT[kind, life].name] = number
    return program.pack(values)
