"""Shutdown: smart, fast, immediate, with and without a session; what clients hear.

Source       rules SH-01 to SH-14, SE-20 to SE-32; postmaster.c: process_pm_shutdown_request().
"""

from __future__ import annotations

import pytest

from pglife_conformance.claims import claim
from pglife_conformance.client import Ending
from pglife_conformance.cluster import Cluster
from pglife_conformance.needs import Need
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pins import pin_wait_backends
from pglife_conformance.refusals import (
    ADMIN_SHUTDOWN,
    CANNOT_CONNECT_NOW,
    SHUTTING_DOWN,
    TERMINATED_BY_ADMINISTRATOR,
    TERMINATED_BY_IMMEDIATE,
)

SOURCE = "postmaster.c: process_pm_shutdown_request()"


@claim("SH-02", "SH-10", "SH-11", "SH-13", source=SOURCE, needs=[Need.CONTROL_FILE])
@pytest.mark.parametrize("mode", ["smart", "fast"])
def test_ordered_shutdown_ends_clean(cluster: Cluster, mode: str) -> None:
    """A smart or fast shutdown without sessions ends with status 0 and a clean control file."""
    mark = cluster.mark()
    cluster.request_shutdown(mode)
    cluster.expect_exit(code=0)
    cluster.expect_log(f"^received {mode} shutdown request$", since=mark)
    assert cluster.log()[-1].message == "database system is shut down"
    assert cluster.pid_file() is None
    assert cluster.controldata_state() is ControlState.SHUT_DOWN


@claim("SH-07", "SH-10", source=SOURCE, needs=[Need.CONTROL_FILE])
def test_immediate_shutdown_writes_no_checkpoint(cluster: Cluster) -> None:
    """An immediate shutdown exits 0 at once and leaves recovery to the next start."""
    mark = cluster.mark()
    cluster.request_shutdown("immediate")
    cluster.expect_exit(code=0)
    cluster.expect_no_log("^(shutting down|checkpoint starting)", since=mark)
    assert cluster.controldata_state() is ControlState.IN_PRODUCTION


@claim("SH-04", "SH-02", "SE-32", source=SOURCE)
def test_smart_shutdown_waits_for_sessions(cluster: Cluster) -> None:
    """A smart shutdown refuses new clients at once and ends when the last session has left."""
    with cluster.session() as session:
        mark = cluster.mark()
        cluster.request_shutdown("smart")
        cluster.expect_log("^received smart shutdown request$", since=mark)
        refusal = cluster.refusal_of_new_client()
        assert (refusal.sqlstate, refusal.message) == (CANNOT_CONNECT_NOW, SHUTTING_DOWN)
        assert session.query("select 1") == [("1",)]
        assert cluster.is_running()
        assert cluster.pid_file_status() is PidFileStatus.STOPPING
    cluster.expect_exit(code=0)


@claim("SE-20", "SH-06", source="tcop/postgres.c: ProcessInterrupts()")
def test_fast_shutdown_tells_sessions(cluster: Cluster) -> None:
    """A fast shutdown ends an idle session with FATAL 57P01 and the administrator's text."""
    session = cluster.session()
    cluster.request_shutdown("fast")
    told = session.expect_farewell()
    assert told is not None
    assert (told.severity, told.sqlstate) == ("FATAL", ADMIN_SHUTDOWN)
    assert told.message == TERMINATED_BY_ADMINISTRATOR
    assert session.ending is Ending.END_OF_FILE
    cluster.expect_exit(code=0)


@claim("SE-23", source="tcop/postgres.c: quickdie()")
def test_immediate_shutdown_warns_sessions_at_best(cluster: Cluster) -> None:
    """An immediate shutdown ends a session with a WARNING 57P01, or with nothing at all."""
    session = cluster.session()
    cluster.request_shutdown("immediate")
    told = session.expect_farewell()
    if told is not None:
        assert (told.severity, told.sqlstate) == ("WARNING", ADMIN_SHUTDOWN)
        assert told.message == TERMINATED_BY_IMMEDIATE
    cluster.expect_exit(code=0)


@claim("SH-03", "SE-32", source=SOURCE)
def test_fast_shutdown_held_by_a_stopped_session_yields_to_immediate(cluster: Cluster) -> None:
    """While a fast shutdown waits for a session, new clients are refused; immediate ends it."""
    mark = cluster.mark()
    with pin_wait_backends(cluster):
        assert cluster.refusal_of_new_client().message == SHUTTING_DOWN
        cluster.request_shutdown("immediate")
        cluster.expect_log("^received immediate shutdown request$", since=mark)
    cluster.expect_exit(code=0)
