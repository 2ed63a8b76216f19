"""Who may connect at this moment.

Begin with   can_accept_connections().
Owns         the answer a newcomer gets before anything is known of him.
Leaves out   limits and rights after authentication (admission.py).
Source       postmaster.c: canAcceptConnections(), BackendStartup(); rules CN-01..07, CN-30.
"""

from __future__ import annotations

from pglife_impl.base.cac import Cac
from pglife_impl.postmaster.state import PM, PmState, Shutdown
from pglife_impl.postmaster.step import Step


def can_accept_connections(pm: PmState) -> Cac:
    """The first condition that matches decides."""
    if pm.state not in (PM.RUN, PM.HOT_STANDBY):
        if pm.shutdown > Shutdown.NO:
            return Cac.SHUTDOWN
        if not pm.fatal_error and pm.state is PM.STARTUP:
            return Cac.STARTUP
        if not pm.fatal_error and pm.state is PM.RECOVERY:
            return Cac.NOT_HOT_STANDBY
        return Cac.RECOVERY
    if not pm.conns_allowed:
        return Cac.SHUTDOWN
    return Cac.OK


def connection_arrived(step: Step) -> None:
    """A session if there is a slot for it, else a dead-end child (CN-10, CN-30)."""
    step.fork_for_client(can_accept_connections(step.pm))
