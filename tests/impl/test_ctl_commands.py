"""pg_ctl, initdb, postgres and pg_controldata: messages and exit codes."""

import os
import signal
import socket
from pathlib import Path

import pytest
from pm_server import Cluster, run

# Arguments, exit code, first line of stderr; {d} is a data directory without a server.
REFUSALS: list[tuple[str, int, str]] = [
    ("", 1, "pg_ctl: no operation specified"),
    ("frob -D {d}", 1, 'pg_ctl: unrecognized operation mode "frob"'),
    ("stop -m hard -D {d}", 1, 'pg_ctl: unrecognized shutdown mode "hard"'),
    ("stop", 1, "pg_ctl: no database directory specified and environment variable PGDATA unset"),
    ("stop -D {d}", 1, 'pg_ctl: PID file "{d}/postmaster.pid" does not exist'),
    ("reload -D {d}", 1, 'pg_ctl: PID file "{d}/postmaster.pid" does not exist'),
    ("promote -D {d}", 1, 'pg_ctl: PID file "{d}/postmaster.pid" does not exist'),
    ("logrotate -D {d}", 1, 'pg_ctl: PID file "{d}/postmaster.pid" does not exist'),
    ("stop -D {d}/none", 1, 'pg_ctl: directory "{d}/none" does not exist'),
    ("status -D {d}/none", 4, 'pg_ctl: directory "{d}/none" does not exist'),
    ("status -D {d}/base", 4, 'pg_ctl: directory "{d}/base" is not a database cluster directory'),
    ("kill TERM", 1, "pg_ctl: missing arguments for kill mode"),
    ("kill FROB 1", 1, 'pg_ctl: unrecognized signal name "FROB"'),
    ("kill TERM 4194999", 1, "pg_ctl: could not send signal 15 (PID: 4194999): No such process"),
    ("start more -D {d}", 1, 'pg_ctl: too many command-line arguments (first is "more")'),
    ("start -z -D {d}", 1, "pg_ctl: invalid option -- 'z'"),
    ("start -D", 1, "pg_ctl: option requires an argument -- 'D'"),
]


@pytest.mark.parametrize(("typed", "code", "line"), REFUSALS, ids=lambda v: str(v)[:30])
def test_what_pg_ctl_refuses(cluster: Cluster, typed: str, code: int, line: str) -> None:
    words = typed.format(d=cluster.data).split()
    done = run("pg_ctl", *words)
    assert (done.returncode, done.stderr.split("\n")[0]) == (code, line.format(d=cluster.data))
    assert done.stdout == ""


def test_the_life_of_a_server_by_pg_ctl(cluster: Cluster) -> None:
    data, log = str(cluster.data), str(cluster.log_path)

    def ctl(*words: str) -> tuple[int, str]:
        done = run("pg_ctl", "-D", data, *words)
        return done.returncode, done.stdout

    assert ctl("status") == (3, "pg_ctl: no server running\n")
    code, said = ctl("-l", log, "start", "-o", "-c work_mem=8MB")
    assert code == 0
    assert said.startswith("waiting for server to start...")
    assert said.endswith(" done\nserver started\n")
    pid = int(cluster.pid_line(1))
    cluster.seen.add(pid)
    code, said = ctl("status")
    assert code == 0
    assert said.split("\n")[0] == f"pg_ctl: server is running (PID: {pid})"
    assert said.split("\n")[1].endswith(
        f'pglife_impl.commands.postgres "-D" "{data}" "-c" "work_mem=8MB"'
    )
    assert ctl("reload") == (0, "server signaled\n")
    code, said = ctl("-l", log, "restart", "-m", "i")
    assert code == 0
    assert "server stopped\n" in said
    assert said.endswith("server started\n")
    cluster.seen.add(int(cluster.pid_line(1)))
    assert "work_mem=8MB" in (cluster.data / "postmaster.opts").read_text()
    code, said = ctl("stop", "-m", "smart")
    assert (code, said.endswith(" done\nserver stopped\n")) == (0, True)
    assert cluster.control_state() == "shut down"


def test_start_on_a_running_server_fails(cluster: Cluster) -> None:
    cluster.start()
    done = run("pg_ctl", "-D", str(cluster.data), "-l", str(cluster.home / "log2"), "start")
    assert done.returncode == 1
    assert done.stdout.endswith(" stopped waiting\n")
    assert done.stderr.split("\n")[:3] == [
        "pg_ctl: another server might be running; trying to start server anyway",
        "pg_ctl: could not start server",
        "Examine the log output.",
    ]


def test_a_smart_stop_that_times_out_hints_at_fast(cluster: Cluster) -> None:
    cluster.start()
    cluster.connect().ready()
    client = cluster.connect().ready()
    done = run("pg_ctl", "-D", str(cluster.data), "stop", "-m", "smart", "-t", "1")
    assert done.returncode == 1
    assert done.stdout.endswith(" failed\n")
    assert done.stderr.split("\n")[0] == "pg_ctl: server does not shut down"
    assert done.stderr.split("\n")[1].startswith('HINT: The "-m fast" option')
    # The request stays in force; the postmaster may receive it after pg_ctl has timed out.
    cluster.wait(lambda: cluster.pid_line(8) == "stopping", "the request is taken")
    client.close()
    assert cluster.exit_code() == 0


def test_stop_without_wait_returns_at_once(cluster: Cluster) -> None:
    cluster.start()
    done = run("pg_ctl", "-D", str(cluster.data), "-W", "stop")
    assert (done.returncode, done.stdout) == (0, "server shutting down\n")
    assert cluster.exit_code() == 0


def test_promote_needs_a_standby(cluster: Cluster) -> None:
    cluster.start()
    done = run("pg_ctl", "-D", str(cluster.data), "promote")
    expected = "pg_ctl: cannot promote server; server is not in standby mode\n"
    assert (done.returncode, done.stderr) == (1, expected)
    assert not (cluster.data / "promote").exists()


def test_stop_with_a_stale_pid_file_fails(cluster: Cluster) -> None:
    cluster.start()
    cluster.signal(signal.SIGKILL)
    cluster.exit_code()
    stale = cluster.pid_line(1)
    assert run("pg_ctl", "-D", str(cluster.data), "status").returncode == 3
    stop = run("pg_ctl", "-D", str(cluster.data), "stop")
    assert stop.stderr == f"pg_ctl: could not send stop signal (PID: {stale}): No such process\n"
    cluster.wait(cluster.every_child_has_exited, "the children have noticed, too")
    cluster.start(until_ready=False)
    cluster.wait_ready(times=2)
    assert "database system was interrupted; last known up at" in cluster.log()


# --- postgres -------------------------------------------------------------------------------

# Options, exit code, a line of stderr.
BAD_SETTINGS: list[tuple[str, int, str]] = [
    ("-c foo=1", 1, 'FATAL:  unrecognized configuration parameter "foo"'),
    ("-c port=abc", 1, 'FATAL:  invalid value for parameter "port": "abc"'),
    (
        "-c port=70000",
        1,
        'FATAL:  70000 is outside the valid range for parameter "port" (1 .. 65535)',
    ),
    (
        "-c authentication_timeout=0",
        1,
        'FATAL:  0 s is outside the valid range for parameter "authentication_timeout"'
        " (1 s .. 600 s)",
    ),
    ("-c wal_level=x", 1, 'FATAL:  invalid value for parameter "wal_level": "x"'),
    ("-c wal_level=x", 1, "HINT:  Available values: minimal, replica, logical."),
    ("-c fsync=perhaps", 1, 'FATAL:  parameter "fsync" requires a Boolean value'),
    (
        "-c shared_buffers=1x",
        1,
        'HINT:  Valid units for this parameter are "B", "kB", "MB", "GB", and "TB".',
    ),
    ("-c server_version=3", 1, 'FATAL:  parameter "server_version" cannot be changed'),
    ("-c foo", 1, "FATAL:  -c foo requires a value"),
    ("--foo", 1, "FATAL:  --foo requires a value"),
    ("extra", 1, 'postgres: invalid argument: "extra"'),
    ("-c log_destination=abc", 1, 'DETAIL:  Unrecognized key word: "abc".'),
    (
        "-c superuser_reserved_connections=100",
        1,
        'postgres: "superuser_reserved_connections" (100) plus "reserved_connections" (0)'
        ' must be less than "max_connections" (100)',
    ),
    (
        "-c wal_level=minimal",
        1,
        'FATAL:  WAL streaming ("max_wal_senders" > 0) requires "wal_level" to be'
        ' "replica" or "logical"',
    ),
    (
        "-c wal_level=minimal -c max_wal_senders=0 -c archive_mode=on",
        1,
        'FATAL:  WAL archival cannot be enabled when "wal_level" is "minimal"',
    ),
    ("-C nosuch", 1, 'FATAL:  unrecognized configuration parameter "nosuch"'),
]


@pytest.mark.parametrize(("typed", "code", "line"), BAD_SETTINGS, ids=lambda v: str(v)[:40])
def test_postgres_refuses_invalid_settings(
    cluster: Cluster, typed: str, code: int, line: str
) -> None:
    done = run("postgres", "-D", str(cluster.data), *typed.split())
    assert done.returncode == code
    assert any(said.endswith(line) for said in done.stderr.splitlines()), done.stderr
    assert "Traceback" not in done.stderr
    assert not (cluster.data / "postmaster.pid").exists()


BAD_FILES: list[tuple[str, str]] = [
    ("foo = 1", 'unrecognized configuration parameter "foo" in file "{f}" line {n}'),
    ("= 3", 'syntax error in file "{f}" line {n}, near token "="'),
    ("port", 'syntax error in file "{f}" line {n}, near end of line'),
    ("port = 5432 5433", 'syntax error in file "{f}" line {n}, near token "5433"'),
    ("io_workers = 99", '99 is outside the valid range for parameter "io_workers" (1 .. 32)'),
    ("include 'nowhere.conf'", 'could not open configuration file "{d}/nowhere.conf": No such'),
]


@pytest.mark.parametrize(("text", "line"), BAD_FILES, ids=lambda v: str(v)[:30])
def test_postgres_refuses_invalid_files(cluster: Cluster, text: str, line: str) -> None:
    conf = cluster.data / "postgresql.conf"
    number = len(conf.read_text().splitlines()) + 1
    cluster.configure(text)
    done = run("postgres", "-D", str(cluster.data))
    assert done.returncode == 1
    assert line.format(f=conf, n=number, d=cluster.data) in done.stderr
    assert f'FATAL:  configuration file "{conf}" contains errors' in done.stderr


@pytest.mark.parametrize("name", ["postgresql.conf", "global/pg_control"])
def test_a_missing_file_ends_the_start_with_2(cluster: Cluster, name: str) -> None:
    (cluster.data / name).unlink()
    done = run("postgres", "-D", str(cluster.data))
    assert done.returncode == 2
    assert done.stderr.startswith("postgres: could not ")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("perms", "has invalid permissions"),
        ("version", "database files are incompatible with server"),
        ("no version", "is not a valid data directory"),
        ("control", "incorrect checksum in control file"),
    ],
)
def test_a_damaged_data_directory_is_refused(cluster: Cluster, damage: str, words: str) -> None:
    match damage:
        case "perms":
            cluster.data.chmod(0o755)
        case "version":
            (cluster.data / "PG_VERSION").write_text("12\n")
        case "no version":
            (cluster.data / "PG_VERSION").unlink()
        case _:
            path = cluster.data / "global" / "pg_control"
            content = bytearray(path.read_bytes())
            content[20] ^= 1
            path.write_bytes(content)
    done = run("postgres", "-D", str(cluster.data))
    assert done.returncode == 1
    assert words in done.stderr


def test_without_a_socket_the_server_does_not_start(cluster: Cluster) -> None:
    done = run("postgres", "-D", str(cluster.data), "-k", str(cluster.home / "missing"))
    assert done.returncode == 1
    assert "FATAL:" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("database system is shut down")
    assert not (cluster.data / "postmaster.pid").exists()


def test_a_tcp_port_in_use_is_reported(cluster: Cluster) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("postgres", "-D", str(cluster.data), "-h", "127.0.0.1", "-p", str(port))
    assert done.returncode == 1
    said = done.stderr
    assert 'could not bind IPv4 address "127.0.0.1": Address already in use' in said
    assert f"HINT:  Is another postmaster already running on port {port}?" in said
    assert 'WARNING:  could not create listen socket for "127.0.0.1"' in said
    assert "FATAL:  could not create any TCP/IP sockets" in said
    assert said.splitlines()[-1].endswith("database system is shut down")


@pytest.mark.parametrize(
    ("name", "shown"), [("port", "5432"), ("fsync", "off"), ("max_connections", "100")]
)
def test_option_capital_c_prints_a_setting(cluster: Cluster, name: str, shown: str) -> None:
    done = run("postgres", "-D", str(cluster.data), "-C", name)
    assert (done.returncode, done.stdout) == (0, f"{shown}\n")


@pytest.mark.parametrize("program", ["postgres", "pg_ctl", "initdb"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be refused as root")
def test_root_is_refused(program: str, tmp_path: Path) -> None:
    done = run(program, "-D", str(tmp_path / "d"), as_root=True)
    assert done.returncode == 1
    assert "root" in done.stderr.splitlines()[0]
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("program", ["postgres", "pg_ctl", "initdb", "pg_controldata"])
def test_programs_print_their_version(program: str) -> None:
    done = run(program, "--version")
    assert (done.returncode, done.stdout) == (0, f"{program} (PostgreSQL) 18.6 (pglife)\n")


def test_initdb_needs_an_empty_directory(cluster: Cluster) -> None:
    done = run("initdb", "-D", str(cluster.data))
    assert done.returncode == 1
    assert f'directory "{cluster.data}" exists but is not empty' in done.stderr


def test_pg_controldata_aligns_its_values(cluster: Cluster) -> None:
    done = run("pg_controldata", str(cluster.data))
    assert done.returncode == 0
    assert "Database cluster state:               shut down\n" in done.stdout
    missing = run("pg_controldata", str(cluster.home / "none"))
    assert missing.returncode == 1
    assert missing.stderr.startswith('pg_controldata: error: could not open file "')
