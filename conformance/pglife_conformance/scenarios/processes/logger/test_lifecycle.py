"""The logger: it is forked first, exits last, and its exit is never a crash.

Source: postmaster/syslogger.c, postmaster.c: process_pm_child_exit(), process_pm_pmsignal().
"""

import signal
from pathlib import Path

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import COLLECTED_LOG, Cluster
from pglife_conformance.expect.lines import killed_line
from pglife_conformance.hold.pin import pin_wait_backends, pin_wait_backends_after_crash
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child, children_of
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.signals import each_signal

START = "syslogger.c: SysLogger_Start()"
REAPER = "postmaster.c: process_pm_child_exit()"
NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.LOGGER]


def log_file(cluster: Cluster) -> Path:
    """Where the logger writes."""
    return cluster.data / "log" / COLLECTED_LOG


def crash_idle_logger(cluster: Cluster, number: signal.Signals = signal.SIGKILL) -> Child:
    """Kill the logger while it is idle.

    A line that it has read from its pipe and not yet written would be lost, and the log excerpt
    would have a gap.
    """
    logger = cluster.child(Kind.LOGGER)
    cluster.expect_idle(cluster.pid, logger)
    return cluster.crash(logger, number)


@claim("LG-01 ST-03 PR-12", source=START, needs=NEEDS)
@settings(logging_collector="on")
def test_logger_is_the_first_child(cluster: Cluster) -> None:
    """The logger is forked first; the old stderr names the new log directory."""
    # As the kernel has them: start times are coarse, and pids wrap.
    assert children_of(cluster.pid)[0] == cluster.child(Kind.LOGGER).pid
    line = cluster.find_log("^redirecting log output to logging collector process$")
    assert line is not None
    assert line.pid == cluster.pid
    assert line.hint == 'Future log output will appear in directory "log".'
    assert cluster.stderr.read_text().count("LOG:") == 1
    assert log_file(cluster).exists()


@claim("LG-01 PR-12", source=START, needs=NEEDS)
def test_no_logger_without_the_setting(cluster: Cluster) -> None:
    """Without logging_collector there is no logger and stderr has the log."""
    cluster.expect_complete()
    assert cluster.children(Kind.LOGGER) == []
    cluster.expect_no_log("redirecting log output")


@claim("RP-08 RP-19 CR-44 LG-02", source=REAPER, needs=[*NEEDS, Need.CRASH_INJECTION])
@settings(logging_collector="on")
@each_signal(signal.SIGKILL, signal.SIGSEGV)
def test_killed_logger_is_replaced_and_named(cluster: Cluster, number: signal.Signals) -> None:
    """A logger killed by a signal is replaced; the new logger writes the log line, and this is no
    crash."""
    before = cluster.since()
    victim = crash_idle_logger(cluster, number)
    cluster.child(Kind.LOGGER, other_than=victim)
    line = killed_line(cluster, victim, number)
    before.expect_log(f"^system logger process [(]PID {victim.pid}[)] was")
    before.expect_undisturbed(said=[line], gone=[victim])
    cluster.expect_complete()


@claim("LG-04 RP-19", source=REAPER, needs=[*NEEDS, Need.CRASH_INJECTION])
@settings(logging_collector="on")
def test_logger_is_replaced_during_a_shutdown(cluster: Cluster) -> None:
    """A logger killed while a fast shutdown waits is replaced, and the shutdown is clean."""
    with pin_wait_backends(cluster):
        victim = crash_idle_logger(cluster)
        cluster.child(Kind.LOGGER, other_than=victim)
    cluster.expect_exit(code=0)


@claim("LG-04 LG-02 CR-25", source=REAPER, needs=[*NEEDS, Need.CRASH_INJECTION])
@settings(logging_collector="on")
def test_logger_is_replaced_during_a_crash(cluster: Cluster) -> None:
    """A logger killed while the postmaster waits after a crash is replaced, and survives the
    restart."""
    then = cluster.since()
    with pin_wait_backends_after_crash(cluster):
        victim = crash_idle_logger(cluster)
        new = cluster.child(Kind.LOGGER, other_than=victim)
    then.expect_ready()
    assert [kid.key for kid in cluster.children(Kind.LOGGER)] == [new.key]
    line = killed_line(cluster, victim)
    assert [r.message for r in then.log() if "system logger" in r.message] == [line]


@claim("SG-21 LG-06", source="syslogger.c: SysLoggerMain()", needs=NEEDS)
@settings(logging_collector="on")
def test_usr1_makes_the_logger_open_its_file_anew(cluster: Cluster) -> None:
    """SIGUSR1 makes the logger reopen its file: a file that was renamed is created again."""
    before = cluster.since()
    path = log_file(cluster)
    path.rename(path.with_name("old"))
    cluster.signal_child(Kind.LOGGER, signal.SIGUSR1)
    cluster.expect_file(path)
    before.expect_undisturbed()


@claim("SG-21 SG-02", source="syslogger.c: SysLoggerMain()", needs=NEEDS)
@settings(logging_collector="on")
def test_reload_may_move_the_log(cluster: Cluster) -> None:
    """The logger obeys a reload: with another log_filename it writes to that file."""
    before = cluster.since()
    with (cluster.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write("log_filename = 'elsewhere.log'\n")
    cluster.reload()
    cluster.expect_file("log/elsewhere.log")
    cluster.expect_only(*before.kids)


@claim("TF-02 CT-14", source="syslogger.c: CheckLogrotateSignal()", needs=[*NEEDS, Need.PG_CTL])
@settings(logging_collector="on")
def test_pg_ctl_logrotate_rotates(cluster: Cluster) -> None:
    """pg_ctl logrotate creates a file; the postmaster removes it, sends SIGUSR1 to the logger."""
    before = cluster.since()
    path = log_file(cluster)
    path.rename(path.with_name("old"))
    done = cluster.pg_ctl("logrotate")
    assert (done.code, done.out) == (0, "server signaled to rotate log file\n")
    cluster.expect_file(path)
    cluster.expect_no_file("logrotate")
    before.expect_undisturbed()


@claim("TF-02 CT-14 PG-05", source="postmaster.c: process_pm_pmsignal()", needs=[Need.PG_CTL])
def test_logrotate_without_a_logger_does_nothing(cluster: Cluster) -> None:
    """Without a logger the file `logrotate` stays, and nothing else happens."""
    before = cluster.since()
    assert cluster.pg_ctl("logrotate").code == 0
    trigger = cluster.data / "logrotate"
    cluster.expect_still("the file there", trigger.exists, 0.2)
    before.expect_undisturbed()


@claim("TF-04 RC-13", source="postmaster.c: PostmasterMain()")
def test_leftover_trigger_files_are_removed_at_start(stopped_cluster: Cluster) -> None:
    """A start removes the files `logrotate` and `promote` of an earlier run."""
    cluster = stopped_cluster
    paths = [cluster.write_file(name) for name in ("logrotate", "promote")]
    cluster.start()
    assert [path.exists() for path in paths] == [False, False]
