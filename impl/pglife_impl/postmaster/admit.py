"""Whether a new connection gets a session.

Source: postmaster.c: canAcceptConnections(), BackendStartup(); rules CN-01..07, CN-10, CN-30.
"""

import socket

from pglife_impl.base.cac import Cac
from pglife_impl.base.kinds import Kind
from pglife_impl.postmaster.requests import Fork, ReportForkFailure
from pglife_impl.postmaster.state import PM, PmState, Shutdown
from pglife_impl.postmaster.step import Deciding, Step


def can_accept_connections(pm: PmState) -> Cac:
    """The answer to a new connection; the first condition that matches decides."""
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


def connection_arrived(step: Step, client: socket.socket) -> Deciding[None]:
    """Fork a backend if there is a slot for it, otherwise a dead-end child (CN-10, CN-30)."""
    cac = can_accept_connections(step.pm)
    slot = step.pm.take_slot(Kind.BACKEND) if cac is Cac.OK else None
    if slot is not None:
        fork = Fork(Kind.BACKEND, slot, cac, client)
    else:
        refusal = Cac.TOO_MANY if cac is Cac.OK else cac
        fork = Fork(Kind.DEAD_END_BACKEND, None, refusal, client)
    failure = yield from step.perform_fork(fork)
    if failure is not None:
        step.ask(ReportForkFailure(client, failure.error))
