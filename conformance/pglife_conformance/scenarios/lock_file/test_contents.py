"""postmaster.pid: when it is stale, what may stand in its place, how its lines are written.

Begin with try_to_start(): a start that fails right after the lock file, for lack of a socket.
Source: miscinit.c: CreateLockFile(), AddToDataDirLockFile(), checkDataDir(), ValidatePgVersion().
"""

import os
import signal
import stat
import subprocess

import pytest

from pglife_conformance.base.deadlines import START_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import SMART
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.startup.test_start_refused import (
    SHUT_DOWN,
    expect_refused,
    process_of_the_servers_user,
)
from pglife_conformance.targets.base import Finished, Program

LOCK = "miscinit.c: CreateLockFile()"
NO_SOCKET = "FATAL:  no socket created for listening\n"


def try_to_start(cluster: Cluster, script: str, **env: str) -> Finished:
    """Run a shell script whose arguments are the command that starts the server; its stderr."""
    cluster.configure(unix_socket_directories="")
    target = cluster.target
    words = [*target.command(Program.POSTGRES), "-D", str(cluster.data)]
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *words],
        env=target.environment(cluster.run.id) | {"DATA": str(cluster.data), **env},
        preexec_fn=target.user.becoming(target.keeps_reading),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=START_LIMIT * cluster.scale,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@claim("SH-43", source=LOCK)
@pytest.mark.parametrize("sign", ["", "-"], ids=["postmaster", "single user"])
@pytest.mark.parametrize("start", ['exec "$@"', '"$@"; exit $?'], ids=["own pid", "its parent's"])
def test_own_and_parents_pid_are_stale(stopped_cluster: Cluster, start: str, sign: str) -> None:
    """A lock file with the new postmaster's own pid or its parent's is stale."""
    cluster = stopped_cluster
    done = try_to_start(cluster, f'echo "{sign}$$" > "$DATA/postmaster.pid"; {start}')
    assert done.code == 1
    assert NO_SOCKET in done.err
    assert "lock file" not in done.err
    assert cluster.pid_file() is None


@claim("SH-43 CT-05", source=LOCK)
@pytest.mark.parametrize("is_named", [True, False], ids=["named", "another"])
def test_pid_of_the_grandparent_is_stale(stopped_cluster: Cluster, is_named: bool) -> None:
    """The pid in PG_GRANDPARENT_PID, which pg_ctl sets, is stale too; no other one is."""
    cluster = stopped_cluster
    with process_of_the_servers_user(cluster) as pid:
        cluster.write_file("postmaster.pid", f"{pid}\n")
        named = str(pid if is_named else pid + 1)
        done = try_to_start(cluster, 'exec "$@"', PG_GRANDPARENT_PID=named)
    assert done.code == 1
    assert (NO_SOCKET in done.err) == is_named
    assert ('lock file "postmaster.pid" already exists' in done.err) != is_named
    assert (cluster.pid_file() is None) == is_named


@claim("SH-43 SH-44", source=LOCK)
def test_lock_file_that_cannot_be_opened(stopped_cluster: Cluster) -> None:
    """A lock file that exists and cannot be opened ends the start with 1 and stays."""
    path = stopped_cluster.data / "postmaster.pid"
    path.symlink_to("postmaster.pid")
    done = stopped_cluster.run_postgres()
    assert done.code == 1
    fatal = 'FATAL:  could not open lock file "postmaster.pid": Too many levels of symbolic links\n'
    assert fatal in done.err
    assert SHUT_DOWN not in done.err
    assert path.is_symlink()


@claim("SH-43 SH-44", source=LOCK, needs=[Need.DATA_DIRECTORY_CHECKS])
def test_lock_file_that_is_a_directory(stopped_cluster: Cluster) -> None:
    """A directory in place of the lock file ends the start with 1."""
    path = stopped_cluster.data / "postmaster.pid"
    path.mkdir()
    done = stopped_cluster.run_postgres()
    assert done.code == 1
    assert 'FATAL:  could not read lock file "postmaster.pid": Is a directory\n' in done.err
    assert path.is_dir()


@claim("SH-43", source=LOCK)
@pytest.mark.parametrize("exists", [False, True], ids=["new", "stale"])
def test_directory_that_cannot_be_written(stopped_cluster: Cluster, exists: bool) -> None:
    """In a directory where no file can be created or removed the start fails with 1."""
    cluster = stopped_cluster
    if exists:
        cluster.write_file("postmaster.pid", "-2000000000\n")
    cluster.data.chmod(0o500)
    done = cluster.run_postgres()
    cluster.data.chmod(0o700)
    assert done.code == 1
    failed = "could not remove old lock file" if exists else "could not create lock file"
    assert f'FATAL:  {failed} "postmaster.pid": Permission denied\n' in done.err
    assert SHUT_DOWN not in done.err
    assert (cluster.data / "postmaster.pid").exists() == exists


@claim(
    "SH-40 ST-01",
    source="miscinit.c: CreateLockFile(), checkDataDir()",
    needs=[Need.DATA_DIRECTORY_CHECKS],
)
@pytest.mark.parametrize(("directory", "file"), [(0o700, 0o600), (0o750, 0o640)], ids=oct)
def test_files_are_as_open_as_the_directory(
    stopped_cluster: Cluster, directory: int, file: int
) -> None:
    """Lock files are readable by the group only if the data directory is."""
    cluster = stopped_cluster
    cluster.data.chmod(directory)
    cluster.start()
    names = [cluster.data / "postmaster.pid", cluster.socket_directory / ".s.PGSQL.5432.lock"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in names] == [file, file]
    with cluster.session() as session:
        assert session.query("show data_directory_mode") == [(f"{directory:04o}",)]


@claim("SH-40 SH-46", source="miscinit.c: CreateLockFile()")
def test_lock_file_of_the_socket(cluster: Cluster) -> None:
    """The socket's lock file has the first five lines of postmaster.pid and no more."""
    cluster.expect_pid_file(PidFileStatus.READY)
    path = cluster.socket_directory / ".s.PGSQL.5432.lock"
    lines = path.read_text(encoding="utf-8").splitlines()
    ours = cluster.pid_file()
    assert ours is not None
    assert lines == [*ours.lines[:4], str(cluster.socket_directory)]
    assert lines[0] == str(cluster.pid)
    assert lines[1] == str(cluster.data)


@claim("SH-40", source="miscinit.c: AddToDataDirLockFile()")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ["", "", "", "", "", ""]),
        ("one\ntwo\n", ["one", "two", "", "", "", ""]),
        ("one\n\ntwo\n3\n4\n5\nready\n", ["one", "", "two", "3", "4", "5"]),
        ("1\n2\n3\n4\n5\n6\nready   \nnine\n", ["1", "2", "3", "4", "5", "6", "nine"]),
    ],
    ids=["alone", "short", "whole", "longer"],
)
def test_status_is_line_8_whatever_the_file_has(
    cluster: Cluster, before: str, after: list[str]
) -> None:
    """A new status replaces line 8 only; missing lines before it are filled in.

    The file never gets shorter: every status is as long as `starting`.
    """
    with cluster.session():
        path = cluster.data / "postmaster.pid"
        path.write_text(f"{cluster.pid}\n{before}", encoding="utf-8")
        cluster.request_shutdown(SMART)
        wanted = [str(cluster.pid), *after[:6], PidFileStatus.STOPPING.value, *after[6:]]

        def lines() -> list[str]:
            return path.read_text(encoding="utf-8").splitlines()

        cluster.wait_for("the status", lambda: "stopping" in " ".join(lines()))
        assert [line.rstrip() for line in lines()] == [line.rstrip() for line in wanted]
    cluster.expect_exit(code=0)
    assert not path.exists()


@claim(
    "SH-40 SH-12",
    source="miscinit.c: AddToDataDirLockFile(), UnlinkLockFiles()",
    needs=[Need.DATA_DIRECTORY_CHECKS],
)
def test_status_of_a_missing_lock_file(cluster: Cluster) -> None:
    """Without the file a shutdown logs an error and goes on; the file is not created again."""
    then = cluster.since()
    (cluster.data / "postmaster.pid").unlink()
    cluster.stop()
    missing = 'could not open file "postmaster.pid": No such file or directory'
    assert then.messages("LOG", matching="could not") == [missing]
    assert then.messages(matching="could not") == [missing]
    assert cluster.pid_file() is None


# Data directories. The configuration lies elsewhere; else its absence would be reported first.


@claim("ST-01", source="miscinit.c: checkDataDir()", needs=[Need.DATA_DIRECTORY_CHECKS])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", 'data directory "{}" does not exist'),
        ("file", 'specified data directory "{}" is not a directory'),
        ("file/below", 'could not read permissions of directory "{}": Not a directory'),
        ("/", 'data directory "{}" has wrong ownership'),
    ],
    ids=["missing", "file", "below a file", "another user's"],
)
def test_invalid_data_directory(stopped_cluster: Cluster, name: str, message: str) -> None:
    """A data directory must exist, be a directory, and belong to the server's user."""
    cluster = stopped_cluster
    (cluster.directory / "file").touch()
    # Joining an absolute path ("/") gives that path.
    path = cluster.directory / name
    done = cluster.run_postgres("-c", f"data_directory={path}")
    assert done.code == 1
    assert f"FATAL:  {message.format(path)}\n" in done.err
    assert SHUT_DOWN not in done.err
    assert cluster.pid_file() is None


@claim("ST-02", source="miscinit.c: ValidatePgVersion()", needs=[Need.DATA_DIRECTORY_CHECKS])
@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (None, 'File "{}" is missing.'),
        ("", 'File "{}" does not contain valid data.'),
        ("eighteen\n", 'File "{}" does not contain valid data.'),
    ],
    ids=["missing", "empty", "no number"],
)
def test_invalid_version_file(stopped_cluster: Cluster, text: str | None, detail: str) -> None:
    """PG_VERSION must exist and begin with a number; else the start fails with 1."""
    cluster = stopped_cluster
    path = cluster.data / "PG_VERSION"
    path.unlink() if text is None else path.write_text(text, encoding="ascii")
    done = expect_refused(cluster, 1, f'FATAL:  "{cluster.data}" is not a valid data directory\n')
    assert f"DETAIL:  {detail.format(path)}\n" in done.err
    assert ("HINT:  You might need to initdb.\n" in done.err) == (text is not None)


@claim("ST-02", source="miscinit.c: ValidatePgVersion()", needs=[Need.DATA_DIRECTORY_CHECKS])
def test_version_file_that_cannot_be_opened(stopped_cluster: Cluster) -> None:
    """A PG_VERSION that exists and cannot be opened is named, and the start fails with 1."""
    path = stopped_cluster.data / "PG_VERSION"
    path.unlink()
    path.symlink_to("PG_VERSION")
    fatal = f'FATAL:  could not open file "{path}": Too many levels of symbolic links\n'
    expect_refused(stopped_cluster, 1, fatal)


@claim("ST-02", source="miscinit.c: ValidatePgVersion()", needs=[Need.DATA_DIRECTORY_CHECKS])
def test_only_the_major_version_counts(stopped_cluster: Cluster) -> None:
    """Only the first number in PG_VERSION is compared."""
    cluster = stopped_cluster
    text = f"{cluster.major}.99 of these\n"
    (cluster.data / "PG_VERSION").write_text(text, encoding="ascii")
    done = try_to_start(cluster, 'exec "$@"')
    assert done.code == 1
    assert NO_SOCKET in done.err


# Single-user mode.


@claim("SH-43 SH-40 CT-15", source=LOCK, needs=[Need.SINGLE_USER])
def test_single_user_server_has_the_lock(stopped_cluster: Cluster) -> None:
    """A standalone backend writes its pid negated and no status, and blocks a postmaster."""
    cluster, target = stopped_cluster, stopped_cluster.target
    path = cluster.data / "postmaster.pid"
    with subprocess.Popen(
        [*target.command(Program.POSTGRES), "--single", "-D", str(cluster.data), "postgres"],
        env=target.environment(cluster.run.id),
        preexec_fn=target.user.becoming(target.keeps_reading),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.write("select 17 as answer\n")
            server.stdin.flush()
            while "answer" not in server.stdout.readline():
                assert server.poll() is None
            lines = path.read_text(encoding="utf-8").splitlines()
            assert lines[:2] == [str(-server.pid), str(cluster.data)]
            assert lines[3:6] == ["5432", "", ""]
            assert len(lines) == 7
            assert all(word.isdigit() for word in lines[6].split())
            done = cluster.run_postgres()
            assert done.code == 1
            hint = f"HINT:  Is another postgres (PID {server.pid}) running in data directory "
            assert hint in done.err
            status = target.run(Program.PG_CTL, ["status", "-D", str(cluster.data)]).out
            assert status == f"pg_ctl: single-user server is running (PID: {server.pid})\n"
            _, err = server.communicate(timeout=START_LIMIT * cluster.scale)
        finally:
            server.send_signal(signal.SIGKILL)
    assert server.returncode == os.EX_OK
    assert f"NOTICE:  {SHUT_DOWN}\n" in err
    assert not path.exists()
