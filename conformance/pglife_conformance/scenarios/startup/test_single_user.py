"""What signals do to a server for a single user, which has no postmaster.

Source       rules SG-33, SH-25; tcop/postgres.c: PostgresMain(), die(), interactive_getc().
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.pytest.claims import claim
from pglife_conformance.targets.base import Program

MAIN = "postgres.c: PostgresMain()"
NEEDS = [Need.SINGLE_USER]
END_ORDERS = [signal.SIGTERM, signal.SIGQUIT]
MOMENTS = {"idle": "", "busy": "select pg_sleep(600)"}


class SingleUser:
    """A standalone backend, its terminal and its log."""

    def __init__(self, cluster: Cluster, server: subprocess.Popen[str]) -> None:
        self.cluster = cluster
        self.server = server

    def answer(self, sql: str, name: str) -> str:
        """The value of the column of this name, which is all that the statement gives."""
        self.say(sql)
        assert self.server.stdout is not None
        for line in self.server.stdout:
            if f"{name} = " in line:
                return line.split('"')[1]
        raise AssertionError(f"no answer, exit code {self.server.wait()}")

    def say(self, sql: str) -> None:
        """A line at the terminal."""
        assert self.server.stdin is not None
        self.server.stdin.write(f"{sql}\n")
        self.server.stdin.flush()

    def rest(self) -> None:
        """It waits: at its terminal, or in the statement that makes it."""
        self.cluster.expect_idle(self.server)

    def end(self) -> tuple[int, str]:
        """Its exit code, and all that it has logged."""
        _, log = self.server.communicate(timeout=30 * self.cluster.scale)
        return self.server.returncode, log


@contextlib.contextmanager
def single_user(cluster: Cluster) -> Iterator[SingleUser]:
    """A server for a single user that has answered."""
    target = cluster.target
    with subprocess.Popen(
        [*target.command(Program.POSTGRES), "--single", "-D", str(cluster.data), "postgres"],
        env=target.environment(cluster.run.id),
        preexec_fn=target.user.becoming(not target.user.can_read(target.paths_to_read())),
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


@claim("SG-33", "SH-25", source=MAIN, needs=NEEDS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("order", END_ORDERS, ids=lambda number: number.name)
def test_single_user_server_is_ended_by_signals(
    stopped_cluster: Cluster, order: signal.Signals, moment: str
) -> None:
    """TERM and QUIT end a single-user server with 1, after a checkpoint, whatever it does."""
    with single_user(stopped_cluster) as single:
        if MOMENTS[moment]:
            single.say(MOMENTS[moment])
        single.rest()
        single.server.send_signal(order)
        code, log = single.end()
    assert code == 1
    assert "FATAL:  terminating connection due to administrator command\n" in log
    assert log.endswith("database system is shut down\n")
    assert not (stopped_cluster.data / "postmaster.pid").exists()


@claim("SG-33", source=MAIN, needs=NEEDS)
def test_single_user_server_takes_int_for_a_cancel(stopped_cluster: Cluster) -> None:
    """INT cancels the statement of a single-user server, is nothing to one that has none, and
    neither ends it."""
    with single_user(stopped_cluster) as single:
        single.rest()
        single.server.send_signal(signal.SIGINT)
        assert single.answer("select 18 as answer", "answer") == "18"
        single.say(MOMENTS["busy"])
        single.rest()
        single.server.send_signal(signal.SIGINT)
        assert single.answer("select 19 as answer", "answer") == "19"
        code, log = single.end()
    assert code == 0
    assert log.count("ERROR:  canceling statement due to user request\n") == 1
    assert log.endswith("database system is shut down\n")


@claim("SG-33", source=MAIN, needs=NEEDS)
def test_single_user_server_obeys_a_reload(stopped_cluster: Cluster) -> None:
    """HUP lets a single-user server read the configuration before its next statement."""
    with single_user(stopped_cluster) as single:
        shown = single.answer("show statement_timeout", "statement_timeout")
        with (stopped_cluster.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write("statement_timeout = '4711s'\n")
        single.rest()
        assert single.answer("show statement_timeout", "statement_timeout") == shown
        single.rest()
        single.server.send_signal(signal.SIGHUP)
        # What it reads while it gets this line counts for the one after it at the latest.
        single.say("select 1 as nothing")
        assert single.answer("show statement_timeout", "statement_timeout") == "4711s"
        code, _ = single.end()
    assert code == 0
