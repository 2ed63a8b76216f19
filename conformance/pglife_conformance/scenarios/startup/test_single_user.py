"""Signals to a single-user server, which has no postmaster.

Source: tcop/postgres.c: PostgresMain(), die(), interactive_getc().
"""

import contextlib
import signal
import subprocess
from collections.abc import Iterator

import pytest

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.pytest.claims import claim
from pglife_conformance.targets.base import Program

MAIN = "postgres.c: PostgresMain()"
NEEDS = [Need.SINGLE_USER]
END_ORDERS = [signal.SIGTERM, signal.SIGQUIT]
MOMENTS = {"idle": "", "busy": "select pg_sleep(600)"}


class SingleUser:
    """A single-user server with its input, its output and its log."""

    def __init__(self, cluster: Cluster, server: subprocess.Popen[str]) -> None:
        self.cluster = cluster
        self.server = server

    def answer(self, sql: str, name: str) -> str:
        """Send a statement that returns one column, and return its value."""
        self.send(sql)
        assert self.server.stdout is not None
        for line in self.server.stdout:
            if f"{name} = " in line:
                return line.split('"')[1]
        raise AssertionError(f"no answer, exit code {self.server.wait()}")

    def send(self, sql: str) -> None:
        """Write a line to the input of the server."""
        assert self.server.stdin is not None
        self.server.stdin.write(f"{sql}\n")
        self.server.stdin.flush()

    def wait_until_idle(self) -> None:
        """Wait until the server sleeps: it reads its input or runs pg_sleep()."""
        self.cluster.expect_idle(Pid(self.server.pid))

    def end(self) -> tuple[int, str]:
        """Wait for the exit; return the exit code and the log."""
        _, log = self.server.communicate(timeout=30 * self.cluster.scale)
        return self.server.returncode, log


@contextlib.contextmanager
def single_user(cluster: Cluster) -> Iterator[SingleUser]:
    """Start a single-user server, and wait for its first answer."""
    target = cluster.target
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
        try:
            found = SingleUser(cluster, server)
            assert found.answer("select 17 as answer", "answer") == "17"
            yield found
        finally:
            server.kill()


@claim("SG-33 SH-25", source=MAIN, needs=NEEDS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("order", END_ORDERS, ids=lambda number: number.name)
def test_single_user_server_is_ended_by_signals(
    stopped_cluster: Cluster, order: signal.Signals, moment: str
) -> None:
    """SIGTERM and SIGQUIT shut a single-user server down, idle or busy, with exit code 1."""
    with single_user(stopped_cluster) as single:
        if MOMENTS[moment]:
            single.send(MOMENTS[moment])
        single.wait_until_idle()
        single.server.send_signal(order)
        code, log = single.end()
    assert code == 1
    assert "FATAL:  terminating connection due to administrator command\n" in log
    assert log.endswith("database system is shut down\n")
    assert not (stopped_cluster.data / "postmaster.pid").exists()


@claim("SG-33", source=MAIN, needs=NEEDS)
def test_int_cancels_the_statement_of_a_single_user_server(stopped_cluster: Cluster) -> None:
    """SIGINT cancels the statement of a single-user server. An idle one ignores it.
    Neither exits."""
    with single_user(stopped_cluster) as single:
        single.wait_until_idle()
        single.server.send_signal(signal.SIGINT)
        assert single.answer("select 18 as answer", "answer") == "18"
        single.send(MOMENTS["busy"])
        single.wait_until_idle()
        single.server.send_signal(signal.SIGINT)
        assert single.answer("select 19 as answer", "answer") == "19"
        code, log = single.end()
    assert code == 0
    assert log.count("ERROR:  canceling statement due to user request\n") == 1
    assert log.endswith("database system is shut down\n")


@claim("SG-33", source=MAIN, needs=NEEDS)
def test_single_user_server_obeys_a_reload(stopped_cluster: Cluster) -> None:
    """A single-user server reads the configuration after SIGHUP."""
    with single_user(stopped_cluster) as single:
        shown = single.answer("show statement_timeout", "statement_timeout")
        with (stopped_cluster.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write("statement_timeout = '4711s'\n")
        single.wait_until_idle()
        assert single.answer("show statement_timeout", "statement_timeout") == shown
        single.wait_until_idle()
        single.server.send_signal(signal.SIGHUP)
        # The server may reload while it reads this line; the next statement has the new value.
        single.send("select 1 as nothing")
        assert single.answer("show statement_timeout", "statement_timeout") == "4711s"
        code, _ = single.end()
    assert code == 0
