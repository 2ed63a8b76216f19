"""A cluster under test, and what one can do to it: the verbs of every scenario.

Begin with Cluster; conformance/README.md has an example. Each verb that does something reports it
to the recorders first. What a cluster inherits: clients (clients.py), children, files and named
waits (watching/server.py). What it returns from since(): the log (expect/excerpt.py) and crash
cycles (expect/since.py).
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import ProgramTooSlow
from pglife_conformance.base.ids import Pid
from pglife_conformance.cluster.clients import Clients
from pglife_conformance.cluster.template import Template, setting_lines
from pglife_conformance.events import (
    FAST,
    LetOthersConnect,
    Recorder,
    ReloadRequest,
    RunPgCtl,
    ShutdownMode,
    ShutdownRequest,
    SignalChild,
    SignalPostmaster,
    Start,
    WriteFile,
)
from pglife_conformance.expect.children import POOL_GROWS_SINCE
from pglife_conformance.expect.lines import READY_LINE as READY_LINE
from pglife_conformance.expect.since import Since, expect_complete
from pglife_conformance.observation.control_file import (
    ControlState,
    parse_control_state,
    read_control_state,
)
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.log import LogRecord, LogTail
from pglife_conformance.observation.processes import Child, read_stat
from pglife_conformance.system.reservations import free_port
from pglife_conformance.system.run import Run
from pglife_conformance.targets.base import (
    PROGRAM_LIMIT_S,
    Finished,
    Program,
    RunningProgram,
    Target,
)
from pglife_conformance.watching.postmaster import Postmaster
from pglife_conformance.watching.watcher import Watcher

COLLECTED_LOG = "postgresql.log"
SIGHUP_RECEIVED = "received SIGHUP, reloading configuration files"


class Cluster(Clients):
    """One data directory and, most of the time, the server on it.

    Args:
        target: the server under test.
        template: the data directory to copy.
        run: the run that the cluster's files and processes belong to.
        scale: factor for all deadlines.
        settings: configuration, as for configure().
    """

    def __init__(
        self,
        target: Target,
        template: Template,
        run: Run,
        *,
        scale: float = 1.0,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.target = target
        self.run = run
        self.settings: dict[str, str] = {}
        directory = run.place_for("c", target.user)
        socket_directory = directory / "s"
        socket_directory.mkdir(mode=0o700)
        target.user.chown(socket_directory)
        self.stderr = directory / "stderr"
        self.stderr.touch()
        target.user.chown(self.stderr)
        template.copy_to(directory / "data", target.user)
        watcher = Watcher(
            directory / "data",
            LogTail(self.stderr),
            scale,
            major=target.version.major,
            settings=self.settings,
        )
        watcher.also_watch(self.stderr)
        super().__init__(directory, watcher, socket_directory, scale)
        self.was_killed = False
        self.at_end: list[Callable[[], None]] = []
        """Called before the cluster's end: releases of pins, ends of sleeping commands."""
        self.configure(unix_socket_directories=str(socket_directory))
        if settings:
            self.configure(**settings)

    # Configuration.

    def configure(self, **settings: object) -> None:
        """Append settings to postgresql.conf; a running server reads them at reload().

        Booleans are written as on and off. With listen_addresses a free port is chosen. A pool of
        io workers that can grow gets io_workers as its least and its greatest number.
        """
        words = {name: _word(value) for name, value in settings.items()}
        if words.get("logging_collector") == "on":
            words |= {"log_filename": COLLECTED_LOG, "log_rotation_age": "0"}
            self.watcher.log.follow(self.data / "log" / COLLECTED_LOG)
        if "cluster_name" in words:
            self.watcher.cluster_name = words["cluster_name"]
        if words.get("listen_addresses"):
            words.setdefault("port", str(free_port()))
        self.settings |= words
        if "io_workers" in words and self.target.version.major >= POOL_GROWS_SINCE:
            number = words.pop("io_workers")
            words |= {"io_min_workers": number, "io_max_workers": number}
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write(setting_lines(words))

    def write_file(self, name: str, text: str = "") -> Path:
        """Write a file in the data directory, owned by the server's user; return its path."""
        self.watcher.stimulus(WriteFile(name))
        path = self.data / name
        path.write_text(text, encoding="utf-8")
        self.target.user.chown(path)
        return path

    def let_others_connect(self) -> None:
        """From now on clients may connect that are not the suite's: a standby, a subscription."""
        self.watcher.stimulus(LetOthersConnect())

    # Starting.

    def start(
        self, *, wait: bool = True, args: tuple[str, ...] = (), env: Mapping[str, str] | None = None
    ) -> None:
        """Start `postgres` itself.

        Args:
            wait: whether to wait until it is ready and has all its children.
            args: more arguments.
            env: more environment.
        """
        then = self.since()
        self.watcher.stimulus(Start(self.major, dict(self.settings)))
        with self.stderr.open("ab") as stderr:
            process = self.target.start(
                Program.POSTGRES,
                ["-D", str(self.data), *args],
                run_id=self.run.id,
                stdout=stderr.fileno(),
                stderr=stderr.fileno(),
                env=env,
            )
        self.adopt(Postmaster(Pid(process.pid), process))
        if wait:
            then.expect_ready(within=deadlines.START_LIMIT)

    def adopt(self, postmaster: Postmaster) -> None:
        """Take this process as the postmaster from now on."""
        self.run.note_postmaster(postmaster.pid)
        self.watcher.attach(postmaster)

    def expect_complete(self, extra: Counter[Kind] | None = None) -> None:
        """Wait until exactly the background processes of a primary in PM_RUN live, and `extra`."""
        expect_complete(self, extra)

    # Requests to the postmaster.

    def request_shutdown(self, mode: ShutdownMode, *, logged: bool = False) -> None:
        """Request a shutdown by signal (SH-01).

        Args:
            mode: smart, fast or immediate.
            logged: whether to wait until the postmaster has logged that it received the request.
        """
        then = self.since()
        self.watcher.stimulus(ShutdownRequest(mode))
        self._postmaster().send(mode.signal)
        if logged:
            then.expect_line(f"received {mode} shutdown request")

    def stop(self, mode: ShutdownMode = FAST) -> None:
        """Request a shutdown, and wait until the postmaster has exited with 0."""
        self.request_shutdown(mode)
        self.expect_exit(code=0)

    def reload(self, **settings: object) -> None:
        """Change settings as configure() does, then send SIGHUP to the postmaster."""
        if settings:
            self.configure(**settings)
        words = {name: _word(value) for name, value in settings.items()}
        self.watcher.stimulus(ReloadRequest(words))
        self._postmaster().send(signal.SIGHUP)

    def reload_and_wait(self, **settings: object) -> None:
        """Do what reload() does, and wait until the postmaster has logged it."""
        then = self.since()
        self.reload(**settings)
        then.expect_line(SIGHUP_RECEIVED)

    def signal_postmaster(self, number: signal.Signals) -> None:
        """Send another signal to the postmaster."""
        self.watcher.stimulus(SignalPostmaster(number))
        if number in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV):
            self.was_killed = True
        self._postmaster().send(number)

    def restart(self, mode: ShutdownMode = FAST) -> None:
        """Stop the server and start it again, waiting for both."""
        self.stop(mode)
        self.start()

    def pg_ctl(self, *args: str, within: float = PROGRAM_LIMIT_S, **env: str) -> Finished:
        """Run pg_ctl on this cluster, and adopt a server that it has started.

        Args:
            args: its arguments, without -D.
            within: the deadline in seconds.
            env: more environment.

        Raises:
            Expectation: it has not exited within the deadline.
        """
        return self.finish_pg_ctl(self.begin_pg_ctl(*args, **env), within)

    def begin_pg_ctl(self, *args: str, **env: str) -> RunningProgram:
        """Start pg_ctl on this cluster; finish_pg_ctl() waits for it."""
        self.watcher.stimulus(RunPgCtl(args))
        words = [*args, "-D", str(self.data)]
        program = self.target.begin(Program.PG_CTL, words, run_id=self.run.id, env=env)
        self.at_end.append(program.abandon)
        return program

    def finish_pg_ctl(self, program: RunningProgram, within: float = PROGRAM_LIMIT_S) -> Finished:
        """Wait for pg_ctl to exit, and adopt a server that it has started."""
        try:
            done = program.finish(within * self.scale)
        except ProgramTooSlow as problem:
            raise self.watcher.failure("pg_ctl exits", str(problem)) from None
        pid_file = self.pid_file()
        pid = pid_file.pid if pid_file is not None else None
        if pid is not None and pid > 0 and pid not in self.watcher.postmaster_pids:
            self.adopt(Postmaster(pid))
        self.watcher.look()
        return done

    def run_postgres(self, *args: str, within: float = PROGRAM_LIMIT_S) -> Finished:
        """Run `postgres` on this data directory and wait for its exit: a start that must fail."""
        where = ["-D", str(self.data)]
        try:
            return self.target.run(
                Program.POSTGRES, [*where, *args], run_id=self.run.id, limit_s=within * self.scale
            )
        except ProgramTooSlow as problem:
            raise self.watcher.failure("postgres exits", str(problem)) from None

    # Children.

    def signal_child(self, child: Child | Kind | str, number: signal.Signals) -> Child:
        """Send a signal to one child (not to its process group), and return the child.

        Raises:
            Expectation: the child has exited.
        """
        found = child if isinstance(child, Child) else self.child(child)
        self.watcher.stimulus(SignalChild(found, number))
        stat = read_stat(found.pid)
        if stat is None or stat.start_time != found.start_time:
            raise self.watcher.failure(f"child {found} alive, to signal it", "it has exited")
        os.kill(found.pid, number)
        return found

    def end_child(self, child: Child | Kind | str, number: signal.Signals) -> Child:
        """Send a child a signal that makes it exit, wait for its exit, and return it."""
        found = self.signal_child(child, number)
        self.expect_death(found)
        return found

    def crash(self, child: Child | Kind | str, number: signal.Signals = signal.SIGKILL) -> Child:
        """Kill a child with this signal, wait for its exit, and return it."""
        return self.end_child(child, number)

    # The log and the control file.

    def since(self, record: LogRecord | None = None) -> Since:
        """What happens from now on, or since this record, which is the excerpt's first.

        `with cluster.since() as then: cluster.reload()`, then `then.expect_log(...)`.
        """
        return Since(self, None if record is None else record.index)

    def after(self, record: LogRecord) -> Since:
        """What happens after this record."""
        return Since(self, record.index + 1)

    def all_log(self) -> Since:
        """The whole log."""
        return Since(self, 0)

    def controldata_state(self) -> ControlState:
        """The "Database cluster state" that pg_controldata prints, or that the file itself has."""
        if not self.target.has_program(Program.PG_CONTROLDATA):
            return read_control_state(self.data)
        done = self.target.run(Program.PG_CONTROLDATA, ["-D", str(self.data)], run_id=self.run.id)
        state = parse_control_state(done.out)
        if state is None:
            raise self.watcher.failure("a state from pg_controldata", done.out + done.err)
        return state

    # Recording, ending.

    def record(self, recorder: Recorder) -> None:
        """Report each stimulus and observation to this recorder too, from now on."""
        self.watcher.recorders.append(recorder)

    def release_everything(self) -> None:
        """Release pins, continue stopped processes, disconnect all clients."""
        for action in reversed(self.at_end):
            action()
        self.at_end.clear()
        self.watcher.continue_stopped()
        self._disconnect_all()

    # The whole log: the commonest readings of all_log().

    def log(
        self, *levels: str, pid: Pid | None = None, matching: str | None = None
    ) -> list[LogRecord]:
        """All records, or those of these levels, of this process, with a message that matches."""
        return self.all_log().log(*levels, pid=pid, matching=matching)

    def find_log(self, pattern: str) -> LogRecord | None:
        """The first record whose message matches (re.search), if there is one."""
        return self.all_log().find_log(pattern)

    def expect_log(self, pattern: str, within: float = deadlines.REACTION_LIMIT) -> LogRecord:
        """Wait for a record whose message matches (re.search), and return it."""
        return self.all_log().expect_log(pattern, within)

    def expect_no_log(self, pattern: str) -> None:
        """No record so far matches (re.search)."""
        self.all_log().expect_no_log(pattern)

    def expect_ready(self, within: float = deadlines.CRASH_RESTART_LIMIT) -> LogRecord:
        """Wait until the server is ready, or has been since its first start, with all children."""
        return self.all_log().expect_ready(within)

    def pmstate(self) -> str | None:
        """The present pmState according to the log (18)."""
        steps = self.all_log().pmstates()
        return steps[-1][1] if steps else None

    def expect_pmstate(self, name: str, within: float = deadlines.REACTION_LIMIT) -> None:
        """Wait until the log says that pmState is `name` (18)."""
        self.wait_for(
            f"pmState {name}",
            lambda: self.pmstate() == name,
            within,
            describe=lambda: f"pmState {self.pmstate()}",
        )


MakeCluster = Callable[..., Cluster]
"""The fixture of this name: a function that makes clusters, not started, with these settings."""


def _word(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
