"""How long the checkpointer sleeps: until it has something to do by the clock.

Source       rules CK-01, SG-11; checkpointer.c: CheckpointerMain().
"""

from __future__ import annotations

import signal
import time

import pytest

from pglife_conformance.claims import claim
from pglife_conformance.cluster import Cluster
from pglife_conformance.needs import Need
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.sleeping import sleep_ms


@claim(
    "CK-01",
    "SG-11",
    source="checkpointer.c: CheckpointerMain()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL],
)
@pytest.mark.parametrize(
    ("checkpoint_timeout", "archive_timeout"), [(30, 0), (30, 20), (30, 40)], ids=str
)
def test_checkpointer_sleeps_for_the_rest_of_its_time(
    stopped_cluster: Cluster, checkpoint_timeout: int, archive_timeout: int
) -> None:
    """Woken amid its sleep, it sleeps until the next checkpoint or switch is due, not longer."""
    cluster = stopped_cluster
    cluster.configure(checkpoint_timeout=checkpoint_timeout, archive_timeout=archive_timeout)
    began = int(time.time())
    cluster.start()
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    limit_s = min(checkpoint_timeout, archive_timeout or checkpoint_timeout)
    woken_at = 0

    def elapsed_s() -> int | None:
        nonlocal woken_at
        found = sleep_ms(checkpointer.pid)
        if found is not None and found % 1000 == 0 and 0 < found < 1000 * limit_s:
            return limit_s - found // 1000
        if woken_at != (now := int(time.time())):
            woken_at = now
            cluster.signal_child(checkpointer, signal.SIGUSR1)
        return None

    slept = cluster.wait_for(
        "a sleep for the rest", elapsed_s, describe=lambda: f"{sleep_ms(checkpointer.pid)} ms"
    )
    # It counts whole seconds, from its own beginning on.
    assert slept <= int(time.time()) - began
