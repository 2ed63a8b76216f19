"""Reservations exclude other processes; segments belong to the process that made them."""

import os
import socket
import subprocess
import sys
import time

import pytest

from pglife_conformance.observation.leftovers import left_segments_of
from pglife_conformance.system import reservations
from pglife_conformance.system.reservations import free_port, reserve

_ASK = "from pglife_conformance.system.reservations import reserve; print(reserve({!r}))"


def answer_of_another_process(name: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _ASK.format(name)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_name_is_reserved_for_one_process() -> None:
    name = f"test-{os.getpid()}"
    assert answer_of_another_process(name) == "True"
    assert reserve(name)
    assert reserve(name)
    assert answer_of_another_process(name) == "False"


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(5)]
    assert len(set(ports)) == len(ports)
    assert {answer_of_another_process(f"port-{port}") for port in ports} == {"False"}


def test_a_port_with_a_listener_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        monkeypatch.setattr(reservations, "_PORTS", range(port, port + 1))
        monkeypatch.setattr(reservations, "_held", {})
        with pytest.raises(OSError, match="no port is free"):
            free_port()


def test_a_segment_older_than_the_server_is_not_its_own() -> None:
    """Its maker had the same pid, and was killed before it could remove the segment."""
    import ctypes

    began = time.time()
    child = os.fork()
    libc = ctypes.CDLL(None, use_errno=True)
    if child == 0:
        os._exit(0 if libc.shmget(0, 4096, 0o1600) >= 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    left = left_segments_of({child}, began)
    try:
        assert [segment.creator for segment in left] == [child]
        assert left_segments_of({child}, time.time() + 5.0) == []
    finally:
        for segment in left:
            segment.remove()
    assert left_segments_of({child}, began) == []


def test_a_segment_whose_maker_lives_is_not_left_behind() -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    ident = libc.shmget(0, 4096, 0o1600)
    assert ident >= 0
    try:
        assert ident not in {found.shmid for found in left_segments_of({os.getpid()}, 0.0)}
    finally:
        libc.shmctl(ident, 0, None)
