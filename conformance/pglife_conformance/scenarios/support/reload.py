"""A reload with an invalid line: each process that reads the file logs one complaint.

Source: guc.c: ProcessConfigFile().
"""

import signal
from collections import Counter
from collections.abc import Iterable

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.kinds import Kind

_COMPLAINT = "contains errors; no changes were applied$"
_QUIET_S = 0.3


def expect_each_to_reload(cluster: Cluster, twice: Iterable[int] = ()) -> None:
    """At each of two reloads every child reads the file once, and SIGUSR1 causes no second read.

    Args:
        cluster: the cluster.
        twice: pids whose complaint appears twice in the log, as the logger's on its own stderr.
    """
    with (cluster.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write("does_not_exist = 'every process complains of this line'\n")
    for _ in range(2):
        _expect_complaints(cluster, Counter([*twice, *(kid.pid for kid in cluster.children())]))


def _expect_complaints(cluster: Cluster, wanted: Counter[int]) -> None:
    then = cluster.since()
    cluster.reload()

    def found() -> Counter[int | None]:
        records = then.log(matching=_COMPLAINT)
        return Counter(record.pid for record in records if record.pid != cluster.pid)

    def all_found() -> bool:
        return found() == wanted

    cluster.wait_for("a line of each process", all_found, describe=lambda: str(found()))
    # SIGUSR1 wakes a process, which then checks its pending flags. A logger would rotate its file.
    for child in cluster.children():
        if child.kind is not Kind.LOGGER:
            cluster.signal_child(child, signal.SIGUSR1)
    cluster.expect_still("no other line", all_found, _QUIET_S)
