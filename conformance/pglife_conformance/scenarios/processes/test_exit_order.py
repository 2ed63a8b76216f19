"""The order of a process's exit hooks, each of which is called once.

At debug3 each process logs its exit hooks: before_shmem_exit, on_shmem_exit, then its own. exit()
calls proc_exit_prepare() again, by the one hook in the C library, which finds no hook left.
Source: ipc.c: proc_exit(), proc_exit_prepare(), shmem_exit(), atexit_callback(), on_exit_reset().
"""

import re
import signal

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import pin_smart_pending
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.signals.test_optional_processes import parallel_worker

PROC_EXIT = "ipc.c: proc_exit()"
NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL, Need.SQL_FUNCTIONS]

_HOOKS = re.compile(
    r"(?P<what>shmem_exit|proc_exit|exit)\((?P<code>-?\d+)\)"
    r"(?:: (?P<count>\d+) (?P<when>before_shmem_exit |on_shmem_exit |)callbacks to make)?"
)
_EXITED = re.compile(r"[(]PID (\d+)[)] exited with exit code (\d)$")

SHARED = ["shmem_exit before_shmem_exit", "shmem_exit on_shmem_exit"]
ONCE_MORE = [f"{step} -1 nothing" for step in [*SHARED, "proc_exit"]]


def steps_with(code: int) -> list[str]:
    """The steps that a process logs when it exits with this code."""
    return [*(f"{step} {code}" for step in [*SHARED, "proc_exit", "exit"]), *ONCE_MORE]


def steps_of(cluster: Cluster, since: Since | None = None) -> dict[int, list[str]]:
    """The exit steps that each process has logged, in order."""
    steps: dict[int, list[str]] = {}
    for record in (since or cluster.all_log()).log():
        found = _HOOKS.fullmatch(record.message)
        if found is None or record.pid is None:
            continue
        words = f"{found['what']} {found['when'] or ''}".strip() + f" {found['code']}"
        if found["code"] == "-1" and found["count"] == "0":
            words += " nothing"
        steps.setdefault(record.pid, []).append(words)
    return steps


def codes_logged(cluster: Cluster) -> dict[int, int]:
    """The exit code of each child, as the postmaster logs it."""
    found = (_EXITED.search(r.message) for r in cluster.log() if r.pid == cluster.pid)
    return {int(match[1]): int(match[2]) for match in found if match is not None}


@claim("SG-42", source=PROC_EXIT, needs=NEEDS)
@settings(log_min_messages="debug3")
def test_every_process_exits_in_the_same_order(cluster: Cluster) -> None:
    """Every process that exits with 0 or 1 calls each exit hook once, in the same order.

    Sessions, refused clients, parallel workers, background processes and the postmaster.
    """
    with parallel_worker(cluster) as (session, worker):
        cluster.end_child(session.child, signal.SIGTERM)
        cluster.expect_death(worker)
    cluster.session().close()
    silent = cluster.silent_client()
    silent.disconnect()
    cluster.expect_death(silent.child)
    cluster.refusal_of_new_client(user="nobody")
    background = {kid.pid for kid in cluster.children()}
    with pin_smart_pending(cluster):
        cluster.refusal_of_new_client()
    cluster.expect_exit(code=0)
    codes = codes_logged(cluster)
    found = steps_of(cluster)
    assert set(found) >= {*codes, *background, cluster.pid}
    wrong = {
        pid: steps
        for pid, steps in found.items()
        if steps
        not in ([steps_with(codes[pid])] if pid in codes else [steps_with(0), steps_with(1)])
    }
    assert wrong == {}
    assert set(codes.values()) == {0, 1}
    assert found[cluster.pid] == steps_with(0)


@claim("CR-20 SG-42", source="ipc.c: shmem_exit()", needs=[*NEEDS, Need.CRASH_INJECTION])
@settings(log_min_messages="debug3")
def test_postmaster_calls_its_shared_memory_hooks_after_a_crash(cluster: Cluster) -> None:
    """After a crash the postmaster calls only its shared-memory hooks, once, with code 1.

    The children that it sent QUIT call no hook.
    """
    children = {kid.pid for kid in cluster.children()}
    then = cluster.since()
    cluster.crash(Kind.WALWRITER)
    then.expect_ready()
    found = steps_of(cluster, then)
    assert found.pop(cluster.pid) == [f"{step} 1" for step in SHARED]
    assert children & set(found) == set()
    then = cluster.since()
    cluster.stop()
    assert steps_of(cluster, then)[cluster.pid] == steps_with(0)
