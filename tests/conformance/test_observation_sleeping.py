"""How long a process means to sleep, as its system call shows it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pglife_conformance.observation.sleeping import sleep_ms, sleeps_without_end

from .until import until


@contextmanager
def waiting(call: str) -> Iterator[int]:
    """The pid of a program that is in that call of an epoll object, or will be soon."""
    code = f"import select; print(flush=True); select.epoll().{call}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        yield program.pid
        program.kill()


@pytest.mark.parametrize("seconds", [30, 2_000_000])
def test_a_sleep_with_a_timeout_has_its_length(seconds: int) -> None:
    with waiting(f"poll({seconds})") as pid:
        until(lambda: sleep_ms(pid) == seconds * 1000)
        assert not sleeps_without_end(pid)


def test_a_sleep_without_end_has_none() -> None:
    with waiting("poll()") as pid:
        until(lambda: sleeps_without_end(pid))
        assert sleep_ms(pid) is None


def test_another_system_call_is_no_sleep() -> None:
    with waiting("close(); import time; time.sleep(60)") as pid:
        assert sleep_ms(pid) is None
        assert not sleeps_without_end(pid)


def test_a_process_that_has_exited_does_not_sleep() -> None:
    with waiting("poll()") as pid:
        pass
    assert sleep_ms(pid) is None
    assert not sleeps_without_end(pid)
