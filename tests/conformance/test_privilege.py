"""The user that servers run as, and what it can read."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pglife_conformance.system.privilege import (
    ServerUser,
    can_be_counted,
    counted_user,
    server_user,
)

OTHER_ID = 65534

# Each row: mode of the directory, mode of the file, whether another user can read it.
MODES = [(0o755, 0o644, True), (0o711, 0o644, True), (0o700, 0o644, False), (0o755, 0o640, False)]


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A directory that other users can reach, if its parents can be opened."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    return tmp_path


@pytest.mark.parametrize(("directory", "file", "reads"), MODES)
def test_what_another_user_reads(reachable: Path, directory: int, file: int, reads: bool) -> None:
    inner = reachable / "inner"
    inner.mkdir()
    path = inner / "file"
    path.touch()
    path.chmod(file)
    inner.chmod(directory)
    other_user = ServerUser(uid=OTHER_ID, gid=OTHER_ID, is_other=True)
    assert other_user.can_read([path]) is reads
    assert ServerUser(os.getuid(), os.getgid(), is_other=False).can_read([path])


def run_as(user: ServerUser, way: str, keep_reading: bool, *command: str) -> str:
    """The output of a command that runs as this user, in one of the two ways."""
    words = user.by_exec(keep_reading) if way == "exec" else []
    if words is None:
        pytest.skip("no setpriv(1) that could be used, or signals that are ignored")
    done = subprocess.run(
        [*words, *command],
        preexec_fn=user.becoming(keep_reading) if way == "fork" else None,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    return done.stdout


WAYS = pytest.mark.parametrize("way", ["fork", "exec"])


@WAYS
def test_an_ordinary_user_stays_itself(way: str) -> None:
    user = ServerUser(os.getuid(), os.getgid(), is_other=False)
    assert int(run_as(user, way, True, "id", "-u")) == os.getuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
@WAYS
@pytest.mark.parametrize("keep_reading", [True, False])
def test_root_becomes_the_server_user_and_keeps_reading_on_request(
    tmp_path: Path, keep_reading: bool, way: str
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "file").write_text("secret", encoding="ascii")
    user = server_user()
    assert user.is_other
    script = f"id -u; id -G; cat {secret}/file; touch {secret}/other"
    said = run_as(user, way, keep_reading, "/bin/sh", "-c", script)
    content = ["secret"] if keep_reading else []
    assert said.split() == [str(user.uid), str(user.gid), *content]
    assert not (secret / "other").exists()


def test_a_user_with_a_limit_at_start_needs_a_forked_child() -> None:
    assert replace(server_user(), limit_at_start=3).by_exec(keep_reading=False) is None


def test_the_interpreter_is_what_is_asked_about() -> None:
    assert ServerUser(os.getuid(), os.getgid(), is_other=False).can_read([Path(sys.executable)])


_FORKS_UNTIL_IT_FAILS = """
import os, signal
made = 0
try:
    while made < 9:
        if os.fork() == 0:
            signal.pause()
        made += 1
except BlockingIOError:
    print(made, flush=True)
os.killpg(0, signal.SIGKILL)
"""


def test_a_limit_counts_the_processes_of_one_server_alone() -> None:
    user = server_user()
    if not can_be_counted(user):
        pytest.skip("neither root nor user namespaces that count apart")
    for limit in (1, 3):
        counted = replace(counted_user(user), limit_at_start=limit)
        done = subprocess.run(
            [sys.executable, "-c", _FORKS_UNTIL_IT_FAILS],
            preexec_fn=counted.becoming(keep_reading=counted.is_other),
            process_group=0,
            stdout=subprocess.PIPE,
            check=False,
        )
        assert int(done.stdout) == limit - 1
