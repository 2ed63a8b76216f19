"""The older names of what expect/lines.py and expect/since.py hold; scenarios are moving."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import SupportsIndex

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.lines import ABNORMAL as ABNORMAL
from pglife_conformance.expect.lines import DEAD_END as DEAD_END
from pglife_conformance.expect.lines import READY_LINE as READY_LINE
from pglife_conformance.expect.lines import REINITIALIZING as REINITIALIZING
from pglife_conformance.expect.lines import SHUT_DOWN as SHUT_DOWN
from pglife_conformance.expect.lines import SIGKILL_ROUND as SIGKILL_ROUND
from pglife_conformance.expect.lines import STARTUP_FAILED as STARTUP_FAILED
from pglife_conformance.expect.lines import TERMINATING as TERMINATING
from pglife_conformance.expect.lines import exited_line as exited_line
from pglife_conformance.expect.lines import killed_line as killed_line
from pglife_conformance.expect.lines import name_in_log as name_in_log
from pglife_conformance.expect.lines import quoted as quoted
from pglife_conformance.expect.since import Since, expect_complete
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.observation.processes import Child


class Before(Since):
    """`cluster.since()`."""

    @classmethod
    def of(cls, cluster: Cluster) -> Before:
        """`cluster.since()`."""
        return cls(cluster)


def _since(cluster: Cluster, since: SupportsIndex) -> Since:
    return since if isinstance(since, Since) else Since(cluster, since.__index__())


def postmaster_records(cluster: Cluster, since: SupportsIndex = 0) -> list[LogRecord]:
    """`then.postmaster_records()`."""
    return _since(cluster, since).postmaster_records()


def postmaster_lines(
    cluster: Cluster, since: SupportsIndex = 0, *, launcher_aside: bool = False
) -> list[str]:
    """`then.postmaster_lines()`."""
    return _since(cluster, since).postmaster_lines(launcher_aside=launcher_aside)


def expect_postmaster_lines(
    cluster: Cluster, expected: list[str], since: SupportsIndex, *, launcher_aside: bool = False
) -> None:
    """`then.expect_postmaster_lines()`."""
    _since(cluster, since).expect_postmaster_lines(expected, launcher_aside=launcher_aside)


def expect_pmstates(
    cluster: Cluster, expected: list[tuple[str, str]], since: SupportsIndex
) -> None:
    """`then.expect_pmstates()`."""
    _since(cluster, since).expect_pmstates(expected)


def expect_crash_restart(
    cluster: Cluster, before: Since, death: str | list[str], *, recovers: bool = True
) -> None:
    """`then.expect_crash_restart()`."""
    before.expect_crash_restart(death, recovers=recovers)


def was_too_slow(cluster: Cluster, since: SupportsIndex) -> bool:
    """`then.was_too_slow()`."""
    return _since(cluster, since).was_too_slow()


def expect_family(cluster: Cluster, extra: Counter[Kind] | None = None) -> None:
    """`cluster.expect_complete()`."""
    expect_complete(cluster, extra)


def expect_undisturbed(
    cluster: Cluster, before: Since, *, said: list[str] | None = None, gone: Iterable[Child] = ()
) -> None:
    """`then.expect_undisturbed()`."""
    before.expect_undisturbed(said=said or (), gone=gone)


def expect_abnormal_end(
    cluster: Cluster, since: SupportsIndex, said: list[str], *, shut_down_by: str = ABNORMAL
) -> None:
    """`then.expect_abnormal_exit()`."""
    _since(cluster, since).expect_abnormal_exit(said, reason=shut_down_by)
