"""Sessions of psql and psycopg on a running server.

test_session_loop.py tests a session without a process; these tests need one: libpq's view of the
protocol, signals, titles, two sessions at a time.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from pm_server import DEADLINE_S, LOOK_AGAIN_S, PORT, Cluster, command_line

PSQL = shutil.which("psql")


@pytest.fixture(scope="module")
def server(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One server for all tests here, with the SQL parser preloaded as initdb configures it."""
    made = Cluster(template, tmp_path_factory.mktemp("s"))
    made.configure("shared_preload_libraries = 'pglife_sql'", "max_connections = 20")
    try:
        yield made.start()
    finally:
        made.destroy()


Connect = Callable[..., psycopg.Connection]


@pytest.fixture
def connect(server: Cluster) -> Iterator[Connect]:
    """Open sessions; they are closed after the test."""
    opened: list[psycopg.Connection] = []

    def open_one(**parameters: str) -> psycopg.Connection:
        where = {"host": str(server.home), "port": str(PORT), "dbname": "postgres"}
        wanted = {**where, "user": "postgres", **parameters}
        opened.append(psycopg.connect(**wanted, autocommit=True))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(LOOK_AGAIN_S)


def state_of(watcher: psycopg.Connection, pid: int) -> tuple[str, str] | None:
    row = watcher.execute(
        "select state, query from pg_stat_activity where pid = %s", (pid,)
    ).fetchone()
    return None if row is None else (row[0], row[1])


def in_background(connection: psycopg.Connection, query: str) -> tuple[threading.Thread, list[str]]:
    """Run a query in a thread; the list receives its SQLSTATE."""
    outcome: list[str] = []

    def run() -> None:
        try:
            connection.execute(query)
            outcome.append("00000")
        except psycopg.Error as problem:
            outcome.append(problem.sqlstate or "")

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


@pytest.mark.skipif(PSQL is None, reason="needs psql")
@pytest.mark.parametrize(
    ("arguments", "code", "output", "complaint"),
    [
        (["-Atc", "select 1; select 2"], 0, "1\n2\n", ""),
        (["-Atc", "select 1", "-c", "show server_version_num"], 0, "1\n180006\n", ""),
        (["-c", "select nope"], 1, "", 'ERROR:  column "nope" does not exist\nLINE 1: select nope'),
        (["-c", "select 1 as a, null as b"], 0, " a | b \n---+---\n 1 | \n(1 row)\n\n", ""),
        (["-U", "mallory", "-c", ""], 2, "", 'FATAL:  role "mallory" does not exist'),
        (["-d", "nowhere", "-c", ""], 2, "", 'FATAL:  database "nowhere" does not exist'),
    ],
)
def test_psql_works_as_with_postgresql(
    server: Cluster, arguments: list[str], code: int, output: str, complaint: str
) -> None:
    """Results, errors with their position, exit codes."""
    where = ["-X", "-h", str(server.home), "-p", str(PORT), "-U", "postgres", "-d", "postgres"]
    done = subprocess.run(
        [str(PSQL), *where, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, output)
    assert complaint in done.stderr
    assert bool(complaint) == bool(done.stderr)


def test_values_survive_every_kind_of_binding(connect: Connect) -> None:
    """Client-side, server-side, prepared and binary parameters."""
    connection = connect()
    values = (1, "a'b", 2.5, None, True)
    query = "select %s::int, %s::text, %s::float8, %s::text, %s::bool"
    assert psycopg.ClientCursor(connection).execute(query, values).fetchone() == values
    for _ in range(8):  # psycopg uses a named statement from the sixth on
        assert connection.execute(query, values).fetchone() == values
    assert connection.execute(query, values, binary=True).fetchone() == values
    found = connection.execute("select g from generate_series(1, 5) g where g = any(%s)", ([2, 9],))
    assert found.fetchall() == [(2,)]


def test_nested_psycopg_transactions_are_savepoints(connect: Connect) -> None:
    """An error in an inner block rolls back only that block."""
    connection = connect()
    with connection.transaction():
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("select 1/0")
        assert connection.execute("select 2").fetchone() == (2,)
    assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


def test_a_pipeline_ends_at_its_first_error(connect: Connect) -> None:
    """The rest of the pipeline is skipped up to Sync."""
    connection = connect()

    def pipeline() -> None:
        with connection.pipeline():
            for query in ("select 1", "select 1/0", "select 2"):
                connection.execute(query)

    with pytest.raises(psycopg.errors.DivisionByZero):
        pipeline()
    assert connection.execute("select 3").fetchone() == (3,)


@pytest.mark.parametrize(
    "query",
    [
        "select pg_sleep(60)",
        "select count(*) from generate_series(1, 3000) a, generate_series(1, 3000) b",
    ],
)
def test_a_cancel_request_ends_a_statement(connect: Connect, query: str) -> None:
    """A sleeping or computing statement ends with 57014; the session continues (SE-31)."""
    connection, watcher = connect(), connect()
    pid = connection.info.backend_pid
    thread, outcome = in_background(connection, query)
    until(lambda: state_of(watcher, pid) == ("active", query), "the statement runs")
    connection.cancel()
    thread.join(DEADLINE_S)
    assert outcome == ["57014"]
    assert connection.execute("select 1").fetchone() == (1,)


def test_a_cancel_request_with_a_wrong_key_does_nothing(server: Cluster, connect: Connect) -> None:
    """It is only logged (CN-44)."""
    connection = connect()
    pid = connection.info.backend_pid
    thread, outcome = in_background(connection, "select pg_sleep(0.3)")
    client = server.connect(silent=True)
    client.socket.sendall(b"\0\0\0\x10\x04\xd2\x16\x2e" + pid.to_bytes(4, "big") + b"nope")
    server.wait(
        lambda: f"wrong key in cancel request for process {pid}" in server.log(), "it is logged"
    )
    thread.join(DEADLINE_S)
    assert outcome == ["00000"]


@pytest.mark.parametrize("how", ["pg_terminate_backend", "SIGTERM"])
@pytest.mark.parametrize("query", ["select pg_sleep(60)", None])
def test_a_terminated_session_gets_57p01_and_disappears(
    connect: Connect, how: str, query: str | None
) -> None:
    """Busy or idle; its row of pg_stat_activity disappears (SE-20, SE-30, SE-49)."""
    connection, watcher = connect(), connect()
    pid = connection.info.backend_pid
    if query is None:
        # Not in a thread: the session is idle before its first statement too.
        connection.execute("select 1")
        assert state_of(watcher, pid) == ("idle", "select 1")
    else:
        thread, outcome = in_background(connection, query)
        until(lambda: state_of(watcher, pid) == ("active", query), "it is active")
    if how == "SIGTERM":
        os.kill(pid, signal.SIGTERM)
    else:
        limit_ms = int(DEADLINE_S * 1000)
        assert watcher.execute(f"select {how}({pid}, {limit_ms})").fetchone() == (True,)
    until(lambda: state_of(watcher, pid) is None, "its row is gone")
    if query is None:
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("select 1")
    else:
        thread.join(DEADLINE_S)
        assert outcome == ["57P01"]


def test_title_and_state_agree(connect: Connect) -> None:
    """Both show idle, in transaction, aborted and active (TI-20, TI-32, SE-03..06)."""
    connection, watcher = connect(), connect()
    pid = connection.info.backend_pid
    for query, state in (
        ("select 1", "idle"),
        ("begin", "idle in transaction"),
        ("select 1/0", "idle in transaction (aborted)"),
        ("rollback", "idle"),
    ):
        in_background(connection, query)[0].join(DEADLINE_S)
        assert state_of(watcher, pid) == (state, query)
        assert command_line(pid) == f"postgres: postgres postgres [local] {state}"
    thread, _ = in_background(connection, "select pg_sleep(60)")
    title = "postgres: postgres postgres [local] SELECT"
    until(lambda: command_line(pid) == title, "the title is SELECT")
    connection.cancel()
    thread.join(DEADLINE_S)


def test_background_processes_are_listed_without_a_state(connect: Connect) -> None:
    """pg_stat_activity has a row for each (SE-02, TI-02..14)."""
    rows = (
        connect()
        .execute(
            "select backend_type, state, pid from pg_stat_activity where backend_type <>"
            " 'client backend' order by backend_type"
        )
        .fetchall()
    )
    kinds = {row[0] for row in rows}
    assert {"checkpointer", "background writer", "walwriter", "autovacuum launcher"} <= kinds
    assert {"logical replication launcher", "io worker"} <= kinds
    assert {row[1] for row in rows} == {None}
    assert all(command_line(row[2]).startswith("postgres: ") for row in rows)


def test_a_new_role_and_its_limits_apply_to_other_sessions(connect: Connect) -> None:
    """Connection limit, privileges and NOLOGIN (CN-35..37, SE-43)."""
    admin = connect()
    admin.execute("create user bob connection limit 1")
    try:
        bob = connect(user="bob")
        assert bob.execute("select current_user").fetchone() == ("bob",)
        assert bob.info.parameter_status("is_superuser") == "off"
        with pytest.raises(psycopg.OperationalError, match='too many connections for role "bob"'):
            connect(user="bob")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bob.execute("select pg_terminate_backend(%s)", (admin.info.backend_pid,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bob.execute("select pg_reload_conf()")
    finally:
        admin.execute("alter role bob nologin")
    with pytest.raises(psycopg.OperationalError, match='role "bob" is not permitted to log in'):
        connect(user="bob")


def test_a_reload_changes_settings_of_sessions(server: Cluster, connect: Connect) -> None:
    """The new value applies when the session is next idle (SG-28)."""
    connection = connect()
    server.configure("work_mem = '6MB'")
    assert connection.execute("select pg_reload_conf()").fetchone() == (True,)
    until(lambda: connection.execute("show work_mem").fetchone() == ("6MB",), "it has been read")


def test_options_of_the_startup_packet(connect: Connect) -> None:
    """Valid ones set session values, invalid ones refuse it (process_startup_options())."""
    connection = connect(options="-c statement_timeout=77077 --work-mem=1MB")
    shown = connection.execute(
        "select current_setting('statement_timeout'), current_setting('work_mem')"
    ).fetchone()
    assert shown == ("77077ms", "1MB")
    for options, complaint in (
        ("-c nope=1", 'unrecognized configuration parameter "nope"'),
        ("-x", "invalid command-line argument for server process: -x"),
        ("-c port=1", 'parameter "port" cannot be changed without restarting the server'),
    ):
        with pytest.raises(psycopg.OperationalError, match=complaint):
            connect(options=options)


def test_a_client_lost_during_a_statement_ends_the_session(connect: Connect) -> None:
    """client_connection_check_interval detects the loss (SE-45, TO-07)."""
    connection, watcher = connect(), connect()
    pid = connection.info.backend_pid
    connection.execute("set client_connection_check_interval = '50ms'")
    connection.pgconn.send_query(b"select pg_sleep(60)")
    until(lambda: (state_of(watcher, pid) or ("",))[0] == "active", "it runs")
    os.dup2(os.open(os.devnull, os.O_RDWR), connection.fileno())
    until(lambda: state_of(watcher, pid) is None, "its row is gone")
    assert watcher.execute("select 1").fetchone() == (1,)
