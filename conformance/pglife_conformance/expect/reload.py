"""A reload that each process obeys by itself, seen by what each complains of.

Begin with   expect_each_to_reload().
Owns         the line that nobody can read without a word.
Leaves out   what a reload changes (scenarios).
Source       SG-02; guc.c: ProcessConfigFile().
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.kinds import Kind

_COMPLAINT = "contains errors; no changes were applied"
_QUIET_S = 0.3


def expect_each_to_reload(cluster: Cluster, twice: Iterable[int] = ()) -> None:
    """At each of two reloads every child reads the file at once, and not again when it is woken.

    Args:
        twice: pids whose line is read twice, as the logger's on its own stderr.
    """
    with (cluster.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write("does_not_exist = 'but is complained of by each who reads this'\n")
    for _ in range(2):
        _expect_complaints(cluster, Counter([*twice, *(kid.pid for kid in cluster.children())]))


def _expect_complaints(cluster: Cluster, wanted: Counter[int]) -> None:
    mark = cluster.mark()
    cluster.reload()

    def told() -> Counter[int]:
        records = (r for r in cluster.log(mark) if r.message.endswith(_COMPLAINT))
        return Counter(record.pid for record in records if record.pid != cluster.pid)

    def all_told() -> bool:
        return told() == wanted

    cluster.wait_for("a line of each process", all_told, describe=lambda: str(told()))
    # Whoever is woken, for nothing, looks at what it has pending. To a logger it would be no noise.
    for child in cluster.children():
        if child.kind is not Kind.LOGGER:
            cluster.signal_child(child, signal.SIGUSR1)
    cluster.expect_still("no other line", all_told, _QUIET_S)
