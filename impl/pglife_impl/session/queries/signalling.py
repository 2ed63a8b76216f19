"""Functions that act on processes: cancel, terminate, reload, rotate, sleep.

Begin with terminate_backend().
Source: storage/ipc/signalfuncs.c; utils/adt/misc.c: pg_sleep(); rule SE-43.
"""

import signal
from enum import Enum, auto

from pglife_impl.base.ids import Pid
from pglife_impl.base.kinds import Attached, info
from pglife_impl.data_directory.catalog import has_privileges_of
from pglife_impl.protocol import SqlState
from pglife_impl.protocol.report import error, warning
from pglife_impl.session.queries.run import Run

SIGNAL_BACKEND = "pg_signal_backend"
POLL_S = 0.1
MILLISECONDS = 1000.0


class Permission(Enum):
    """Whether a session may signal a process."""

    GRANTED = auto()
    NOT_A_BACKEND = auto()
    NEEDS_SUPERUSER = auto()
    NEEDS_ROLE = auto()


def permission_to_signal(run: Run, pid: Pid) -> Permission:
    """Decide as pg_signal_backend() does; auxiliary processes are not backends."""
    context = run.session.context
    target = context.activity_of(pid) if pid > 0 else None
    if target is None or info(target.kind).attached in (Attached.NO, Attached.AUXILIARY):
        return Permission.NOT_A_BACKEND
    if run.session.settings.superuser:
        return Permission.GRANTED
    # A process without a role, like the autovacuum launcher, counts as a superuser's.
    if target.superuser or not target.user:
        return Permission.NEEDS_SUPERUSER
    catalog = context.catalog
    catalog.refresh()
    for role in (target.user, SIGNAL_BACKEND):
        if has_privileges_of(catalog.roles, context.user, role):
            return Permission.GRANTED
    return Permission.NEEDS_ROLE


def _signal(run: Run, pid: Pid, signum: signal.Signals, action: str, noun: str) -> bool:
    context = run.session.context
    match permission_to_signal(run, pid):
        case Permission.NOT_A_BACKEND:
            text = f"PID {pid} is not a PostgreSQL backend process"
            run.session.output.notice(warning(SqlState.WARNING, text))
            return False
        case Permission.NEEDS_SUPERUSER:
            raise error(
                SqlState.INSUFFICIENT_PRIVILEGE,
                f"permission denied to {action}",
                detail=f"Only roles with the SUPERUSER attribute may {noun} of roles with the"
                " SUPERUSER attribute.",
            )
        case Permission.NEEDS_ROLE:
            raise error(
                SqlState.INSUFFICIENT_PRIVILEGE,
                f"permission denied to {action}",
                detail=f"Only roles with privileges of the role whose {_OBJECT[action]} is being"
                f' {_PAST[action]} or with privileges of the "{SIGNAL_BACKEND}" role may'
                f" {_VERB[action]} this {_OBJECT[action]}.",
            )
        case Permission.GRANTED:
            if context.signal_backend(pid, signum):
                return True
            text = f"could not send signal to process {pid}: No such process"
            run.session.output.notice(warning(SqlState.WARNING, text))
            return False


_CANCEL = "cancel query"
_TERMINATE = "terminate process"
_OBJECT = {_CANCEL: "query", _TERMINATE: "process"}
_PAST = {_CANCEL: "canceled", _TERMINATE: "terminated"}
_VERB = {_CANCEL: "cancel", _TERMINATE: "terminate"}


def cancel_backend(run: Run, pid: Pid) -> bool:
    """pg_cancel_backend(pid)."""
    return _signal(run, pid, signal.SIGINT, _CANCEL, "cancel queries")


def terminate_backend(run: Run, pid: Pid, timeout_ms: int = 0) -> bool:
    """pg_terminate_backend(pid, timeout): with a timeout, wait until the process has exited."""
    if timeout_ms < 0:
        raise error(SqlState.NUMERIC_VALUE_OUT_OF_RANGE, '"timeout" must not be negative')
    sent = _signal(run, pid, signal.SIGTERM, _TERMINATE, "terminate processes")
    if not sent or timeout_ms == 0:
        return sent
    session = run.session
    deadline = session.interrupts.clock() + timeout_ms / MILLISECONDS
    while True:
        if not session.context.signal_backend(pid, 0):
            return True
        remaining = deadline - session.interrupts.clock()
        if remaining <= 0:
            break
        session.interrupts.sleep(min(POLL_S, remaining))
    unit = "millisecond" if timeout_ms == 1 else "milliseconds"
    text = f"backend with PID {pid} did not terminate within {timeout_ms} {unit}"
    session.output.notice(warning(SqlState.WARNING, text))
    return False


def sleep(run: Run, seconds: float) -> str:
    """pg_sleep(seconds): other wake-ups do not end the sleep, interrupts do."""
    session = run.session
    deadline = session.interrupts.clock() + seconds
    while True:
        remaining = deadline - session.interrupts.clock()
        if not remaining > 0:
            return ""
        session.interrupts.sleep(remaining)


def reload_conf(run: Run) -> bool:
    """pg_reload_conf()."""
    _superuser_only(run, "pg_reload_conf")
    if run.session.context.request_reload():
        return True
    text = "failed to send signal to postmaster: No such process"
    run.session.output.notice(warning(SqlState.WARNING, text))
    return False


def rotate_logfile(run: Run) -> bool:
    """pg_rotate_logfile(): asks the postmaster (PG-05)."""
    _superuser_only(run, "pg_rotate_logfile")
    session = run.session
    if not session.settings.gucs.get("logging_collector"):
        text = "rotation not possible because log collection not active"
        session.output.notice(warning(SqlState.WARNING, text))
        return False
    session.context.request_log_rotation()
    return True


def _superuser_only(run: Run, function: str) -> None:
    if not run.session.settings.superuser:
        raise error(SqlState.INSUFFICIENT_PRIVILEGE, f"permission denied for function {function}")


def is_in_recovery(run: Run) -> bool:
    """pg_is_in_recovery()."""
    return run.session.context.in_recovery
