"""A state of the model in which the postmaster waits. Begin with held_state()."""

from collections.abc import Mapping

from pglife_spec.lang.expr import Value
from pglife_spec.meanings.python.program import Program
from pglife_spec.postgres.state.children import COUNT, LIFE
from pglife_spec.postgres.state.io_pool import IN_FILE, WANTED
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
from pglife_spec.postgres.state.shared import CONTROL, RECOVERED, REDO, REPLAY, SIGNAL_FILE
from pglife_spec.postgres.words import PM, Control, Kind, Life, PidFile, Shutdown, StartupStatus
from pglife_spec.postgres.words.recovery import Replay

_IN_RECOVERY = (PM.PM_RECOVERY, PM.PM_HOT_STANDBY)
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
    in_recovery = pm in _IN_RECOVERY
    is_starting = (Kind.STARTUP, Life.RUNNING) in children
    control = Control.IN_ARCHIVE_RECOVERY if in_recovery else Control.IN_PRODUCTION
    if pm in _AFTER_CHECKPOINT and not fatal:
        control = Control.SHUT_DOWN
    if shutdown is not Shutdown.NoShutdown:
        pid_file = PidFile.STOPPING
    else:
        pid_file = PidFile.STARTING if is_starting and not fatal else PidFile.READY
    if in_recovery:
        pid_file = PidFile.STANDBY if pm is PM.PM_RECOVERY else PidFile.READY
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
        CONTROL.name: control,
        RECOVERED.name: not is_starting,
        IN_FILE.name: program.config.params["io_workers"],
        WANTED.name: program.config.params["io_workers"],
        REDO.name: in_recovery,
        SIGNAL_FILE.name: in_recovery,
        REPLAY.name: Replay.READABLE if pm is PM.PM_HOT_STANDBY else Replay.INCONSISTENT,
        ABORT_TIMER.name: fatal and not is_starting,
    }
    for (kind, life), number in children.items():
        if kind in LIFE:
            values[LIFE[kind].name] = life
        else:
            values[COUNT[kind, life].name] = number
    return program.pack(values)
