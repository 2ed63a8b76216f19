"""The children of a process, with real forks: births, deaths in order, stopped, zombies."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import (
    ChildTable,
    RunState,
    children_of,
    read_stat,
    read_title,
)

from .until import until


def fork_child() -> int:
    """A child that waits to be killed."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return pid


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Three children of ours."""
    pids = [fork_child() for _ in range(3)]
    yield pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def look_until(table: ChildTable, condition: Callable[[dict[int, RunState]], bool]) -> None:
    until(lambda: condition({kid.pid: kid.state for kid in table.look()[0]}))


def test_births_are_seen_in_order(children: list[int]) -> None:
    table = ChildTable(os.getpid())
    kids, births, deaths = table.look()
    assert [kid.pid for kid in births if kid.pid in children] == children
    assert kids == births
    assert not deaths
    assert table.look()[1] == ()
    table.close()


def test_a_zombie_is_a_child_until_it_is_reaped(children: list[int]) -> None:
    table = ChildTable(os.getpid())
    table.look()
    os.kill(children[1], signal.SIGKILL)
    look_until(table, lambda states: states[children[1]] is RunState.ZOMBIE)
    os.waitpid(children[1], 0)
    kids, _, deaths = table.look()
    assert children[1] not in [kid.pid for kid in kids]
    assert [death.child.pid for death in deaths] == [children[1]]
    table.close()


def test_deaths_come_in_the_order_of_the_ends(children: list[int]) -> None:
    table = ChildTable(os.getpid())
    table.look()
    for pid in (children[2], children[0]):
        os.kill(pid, signal.SIGKILL)
        look_until(table, lambda states, pid=pid: states[pid] is RunState.ZOMBIE)
    for pid in (children[0], children[2]):
        os.waitpid(pid, 0)
    _, _, deaths = table.look()
    assert [death.child.pid for death in deaths] == [children[2], children[0]]
    table.close()


def test_stopped_and_continued(children: list[int]) -> None:
    table = ChildTable(os.getpid())
    os.kill(children[0], signal.SIGSTOP)
    look_until(table, lambda states: states[children[0]] is RunState.STOPPED)
    os.kill(children[0], signal.SIGCONT)
    look_until(table, lambda states: states[children[0]] is RunState.RUNNING)
    table.close()


def test_a_child_without_a_title_of_postgres_is_unknown(children: list[int]) -> None:
    table = ChildTable(os.getpid())
    kinds = {kid.pid: kid.kind for kid in table.look()[0]}
    assert {kinds[pid] for pid in children} == {Kind.UNKNOWN}
    table.close()


def test_children_without_help_of_the_kernel(children: list[int]) -> None:
    from pglife_conformance.observation.processes import _children_by_scan

    assert set(children) <= set(_children_by_scan(os.getpid()))
    assert children_of(os.getpid()) == _children_by_scan(os.getpid())


def test_a_missing_process_has_no_stat() -> None:
    pid = fork_child()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert read_stat(pid) is None
    assert read_title(pid) == ""
    assert children_of(pid) == []
