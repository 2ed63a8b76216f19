"""pg_ctl: a restart that leaves the server down, a start that fails and succeeds, and signals to
processes that are not the server (W7 to W11)."""

import os
import signal

import pytest

from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.standby import ALONE, READ_ONLY_LINE
from pglife_conformance.events import FAST
from pglife_conformance.expect.symptom import Answer, expect_answer
from pglife_conformance.pytest.claims import Defect, claim, settings
from pglife_conformance.scenarios.startup.test_start_refused import process_of_the_servers_user
from pglife_conformance.targets.base import Finished, Program

PG_CTL = [Need.PG_CTL, Need.OS_SIGNALS]
LIVES = "it lives"

STOPPED = r"waiting for server to shut down\.+ done\nserver stopped\n"
NOT_STARTED = r"waiting for server to start\.+ stopped waiting\npg_ctl: could not start server\n"
LEFT_DOWN = Answer(
    summary="pg_ctl restart stops the server and cannot start it",
    pattern=f"1: {STOPPED}{NOT_STARTED}Examine the log output.\\n",
)
RESTARTED = rf"0: {STOPPED}waiting for server to start\.+ done\nserver started\n"
SAYS_AT_TARGET = Answer(
    summary="pg_ctl start exits 0 although the server could not start",
    pattern=r"0: waiting for server to start\.+ done\n"
    r"server shut down because of recovery target settings\n",
)
STRANGER_KILLED = Answer(
    summary="pg_ctl stop has killed a process that is no server",
    pattern=f"killed by {int(signal.SIGINT)}",
)
KILLED_ITSELF = Answer(
    summary="pg_ctl kill has signalled its own process group",
    pattern=f"exit status -{int(signal.SIGTERM)}",
)


def said(done: Finished) -> str:
    """Exit status and output of a program."""
    return f"{done.code}: {done.out}{done.err}"


@claim(
    "CT-11",
    source="postmaster.c: CreateOptsFile(); pg_ctl.c: read_post_opts()",
    needs=PG_CTL,
    defects=[Defect(Finding.W7, LEFT_DOWN)],
)
def test_restart_passes_on_what_start_has_passed(stopped_cluster: Cluster) -> None:
    """pg_ctl restart starts the server with the options that it had, also if they contain a
    quotation mark or a dollar sign."""
    cluster = stopped_cluster
    log = ["-l", str(cluster.stderr)]
    done = cluster.pg_ctl("start", *log, "-o", r"-c search_path=\"\$user\",public")
    assert done.code == 0
    expect_answer(said(cluster.pg_ctl("restart", *log)), RESTARTED)
    with cluster.session() as session:
        assert session.query("show search_path") == [('"$user",public',)]


@claim(
    "CT-11",
    source="postmaster.c: CreateOptsFile(); pg_ctl.c: do_start()",
    needs=PG_CTL,
    defects=[Defect(Finding.W8, LEFT_DOWN)],
)
def test_restart_from_another_directory(stopped_cluster: Cluster) -> None:
    """pg_ctl restart with the full path of the data directory restarts a server that was started
    with a relative one, wherever pg_ctl runs."""
    cluster = stopped_cluster
    log = ["-l", str(cluster.stderr)]
    program = cluster.target.begin(
        Program.PG_CTL,
        ["start", "-D", cluster.data.name, *log],
        run_id=cluster.run.id,
        cwd=str(cluster.data.parent),
    )
    assert cluster.finish_pg_ctl(program).code == 0
    expect_answer(said(cluster.pg_ctl("restart", *log)), RESTARTED)


@claim(
    *("CT-06", "CT-07"),
    source="pg_ctl.c: wait_for_postmaster_start()",
    needs=[*PG_CTL, Need.STANDBY],
    defects=[Defect(Finding.W9, SAYS_AT_TARGET, since=18)],
)
@pytest.mark.unmonitored("the model has no standbys")
@settings(**ALONE)
def test_start_of_a_standby_that_fails(stopped_cluster: Cluster) -> None:
    """pg_ctl start exits 1 when a standby that was shut down before cannot start."""
    cluster = stopped_cluster
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$")
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
    cluster.configure(shared_buffers="nonsense")
    done = cluster.pg_ctl("start", "-l", str(cluster.stderr))
    cluster.expect_log("contains errors$")
    expect_answer(said(done), f"1: {NOT_STARTED}Examine the log output.\\n")


@claim(
    "CT-17",
    source="pg_ctl.c: do_stop()",
    needs=PG_CTL,
    defects=[Defect(Finding.W10, STRANGER_KILLED)],
)
@pytest.mark.unmonitored("the pid file is written by another")
def test_stop_spares_a_process_that_is_no_server(cluster: Cluster) -> None:
    """pg_ctl stop signals no other process that has the pid of a server that has died."""
    path = cluster.data / "postmaster.pid"
    _, *rest = path.read_text(encoding="utf-8").splitlines()
    cluster.signal_postmaster(signal.SIGKILL)
    cluster.expect_exit(code=None)
    cluster.expect_no_process()
    with process_of_the_servers_user(cluster) as stranger:
        cluster.write_file("postmaster.pid", "\n".join([str(stranger), *rest, ""]))
        # Not Cluster.pg_ctl(), which takes the process in the pid file for the server.
        words = ["stop", "-D", str(cluster.data), "-m", "fast", "-t", "1"]
        cluster.target.run(Program.PG_CTL, words, run_id=cluster.run.id)
        found = os.waitid(os.P_PID, stranger, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        expect_answer(LIVES if found is None else f"killed by {found.si_status}", LIVES)


@claim(
    "CT-16",
    source="pg_ctl.c: main(), do_kill()",
    needs=PG_CTL,
    defects=[Defect(Finding.W11, KILLED_ITSELF)],
)
@pytest.mark.parametrize("word", ["postgres", "0"])
def test_kill_takes_a_pid_only(stopped_cluster: Cluster, word: str) -> None:
    """pg_ctl kill with anything but a pid sends no signal and exits 1."""
    done = stopped_cluster.pg_ctl("kill", "TERM", word)
    expect_answer(f"exit status {done.code}", "exit status 1")
