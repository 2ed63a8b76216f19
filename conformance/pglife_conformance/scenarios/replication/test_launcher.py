"""The logical replication launcher: when it runs, when it is replaced, how long it sleeps."""

import signal
import time

from pglife_conformance.base.needs import SIGNALS, SQL
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.lines import exited_line
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.sleeping import expect_sleep

LAUNCHER_MS = 180_000


@claim("BG-25", source="launcher.c: ApplyLauncherMain()", needs=SQL)
def test_logical_replication_launcher_sleeps_for_three_minutes(cluster: Cluster) -> None:
    """Without subscriptions the launcher sleeps for three minutes."""
    launcher = cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER)
    expect_sleep(cluster, str(launcher), launcher.pid, LAUNCHER_MS)


RESTART_INTERVAL_S = 5


@claim("BG-25 PR-14", source="launcher.c: ApplyLauncherRegister()", needs=SIGNALS)
@settings(max_logical_replication_workers="0")
def test_no_logical_replication_launcher_without_workers(cluster: Cluster) -> None:
    """With max_logical_replication_workers = 0 the launcher is never registered."""
    cluster.expect_complete()
    assert not cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER)


@claim("BG-12 PR-14 BG-06", source="postmaster.c: maybe_start_bgworkers()", needs=SIGNALS)
def test_logical_replication_launcher_is_replaced_after_five_seconds(cluster: Cluster) -> None:
    """A launcher that exited 1 is replaced after its restart interval, five seconds."""
    before = cluster.since()
    began = time.monotonic()
    victim = cluster.end_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    new = cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER, within=4 * RESTART_INTERVAL_S)
    assert new.key != victim.key
    assert time.monotonic() - began >= RESTART_INTERVAL_S
    cluster.expect_complete()
    before.expect_undisturbed(said=[exited_line(cluster, victim, 1)], gone=[victim])
