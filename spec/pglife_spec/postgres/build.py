"""The whole machine, put together.

Begin with   build().
"""

from __future__ import annotations

from functools import cache

from pglife_spec.lang.expr import Expr, in_
from pglife_spec.lang.machine import Machine
from pglife_spec.postgres import children, state
from pglife_spec.postgres.actions import admission, birth, faults, reaping, requests
from pglife_spec.postgres.claims import CLAIMS
from pglife_spec.postgres.properties import PROPERTIES
from pglife_spec.postgres.words import PM, Control, Exit, Life, PidFile, Shutdown, StartupStatus


def initial_conditions() -> tuple[Expr, ...]:
    """Before the first fork: the pid file is there, the last end was clean or it was not."""
    false = (
        state.FATAL_ERROR,
        state.ABORT_CLOCK,
        state.REAPING,
        state.FAST_TOO,
        state.RELOAD,
        state.FORK_FAILS,
        state.SCARCE,
        state.LAST_ACCEPT,
        state.RECOVERY_STARTED,
        state.XLOG_IS_SHUTDOWN,
        state.REDO,
        state.RECOVERED,
        state.TAINTED,
        state.FORKED_LATE,
        state.ROUND,
        state.TWO_ROUNDS,
    )
    return (
        state.STATE == PM.PM_INIT,
        state.SHUTDOWN == Shutdown.NoShutdown,
        state.REQUEST == Shutdown.NoShutdown,
        state.CONNS_ALLOWED == True,  # noqa: E712 - an expression, not a comparison
        state.STARTUP_STATUS == StartupStatus.STARTUP_NOT_RUNNING,
        state.EXIT == Exit.ALIVE,
        state.PID_FILE == PidFile.STARTING,
        in_(state.CONTROL, Control.SHUT_DOWN, Control.IN_PRODUCTION),
        *(var == False for var in false),  # noqa: E712
        *(var == Life.ABSENT for var in state.LIFE.values()),
        *(var == 0 for var in state.COUNT.values()),
    )


@cache
def build() -> Machine:
    """PostgreSQL's postmaster and its children, versions 15 and 18."""
    return Machine(
        name="postmaster",
        variables=state.VARIABLES,
        params=state.PARAMS,
        assumptions=state.ASSUMPTIONS,
        init=initial_conditions(),
        actions=(
            *birth.ACTIONS,
            *admission.ACTIONS,
            *children.ACTIONS,
            *requests.ACTIONS,
            *reaping.ACTIONS,
            *faults.ACTIONS,
        ),
        claims=CLAIMS,
        properties=PROPERTIES,
    )
