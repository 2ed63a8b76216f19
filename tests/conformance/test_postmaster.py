"""The exit status of a postmaster, also of one that is being debugged."""

import os
import signal
import subprocess

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.hold.ptrace import detach, seize
from pglife_conformance.watching.postmaster import Postmaster


@pytest.mark.parametrize(("how", "code"), [("exit 3", 3), ("kill -9 $$", -9)])
def test_exit_code_is_that_of_the_process(how: str, code: int) -> None:
    process = subprocess.Popen(["sh", "-c", f"read line; {how}"], stdin=subprocess.PIPE)
    postmaster = Postmaster(process.pid, process)
    assert postmaster.exit_code() is None
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert [postmaster.exit_code(), postmaster.exit_code(), process.returncode] == [code] * 3


def test_exit_code_leaves_a_ptrace_stop_to_the_tracer() -> None:
    process = subprocess.Popen(["sleep", "60"])
    postmaster = Postmaster(process.pid, process)
    try:
        seize(process.pid, "a process")
    except Inconclusive as problem:
        process.kill()
        pytest.skip(f"no debugger is allowed here: {problem.observed}")
    os.kill(process.pid, signal.SIGUSR1)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert postmaster.exit_code() is None
    seen = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG)
    assert seen is not None
    assert (seen.si_code, seen.si_status) == (os.CLD_TRAPPED, signal.SIGUSR1)
    detach(process.pid, signal.SIGUSR1)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert postmaster.exit_code() == -signal.SIGUSR1
