"""A cluster under test, and what one can do to it: the verbs of every scenario.

Begin with   Cluster; README.md has an example.
Owns         the verbs, in PostgreSQL's words. Each tells the recorders first.
Leaves out   looking and waiting (watching.py), clients (session.py), pins (pins.py), the end
             (teardown.py).
Source       what a client and an operator have: sockets, signals, files, exit status.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation, ProgramTooSlow
from pglife_conformance.cluster.client import PROTOCOL_3_0, Client, ServerMessage
from pglife_conformance.cluster.family import family_when_running, is_complete
from pglife_conformance.cluster.postmaster import Postmaster
from pglife_conformance.cluster.session import Outcome, Session
from pglife_conformance.cluster.teardown import continue_stopped
from pglife_conformance.cluster.template import Template, setting_lines
from pglife_conformance.cluster.watching import Watcher
from pglife_conformance.events import (
    FAST,
    Connect,
    Recorder,
    ReloadRequest,
    RunPgCtl,
    ShutdownMode,
    ShutdownRequest,
    SignalChild,
    SignalPostmaster,
    Start,
    Startup,
    WriteFile,
)
from pglife_conformance.observation.control_file import ControlState, parse_control_state
from pglife_conformance.observation.kinds import Kind, as_kind
from pglife_conformance.observation.log import LogRecord, LogTail
from pglife_conformance.observation.pid_file import PidFile, PidFileStatus, read_pid_file
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

Found = TypeVar("Found")

READY_LINE = "database system is ready to accept connections"
COLLECTED_LOG = "postgresql.log"

_PMSTATE_LINE = re.compile(r"updating PMState from (PM_\w+) to (PM_\w+)")


class Cluster:
    """One data directory and, most of the time, the server on it."""

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
        self.scale = scale
        self.settings: dict[str, str] = {}
        self.directory = run.place_for("c", target.user)
        self.data = self.directory / "data"
        self.socket_directory = self.directory / "s"
        self.socket_directory.mkdir(mode=0o700)
        target.user.owns(self.socket_directory)
        self.stderr = self.directory / "stderr"
        self.stderr.touch()
        target.user.owns(self.stderr)
        template.copy_to(self.data, target.user)
        self.watcher = Watcher(self.data, LogTail(self.stderr), scale)
        self.watcher.also_watch(self.stderr)
        self.postmaster_pids: set[int] = set()
        self.was_killed = False
        self.made_at = time.time()
        """Before its first process; for those who look for what is left of it."""
        self._sessions: list[Session] = []
        self.at_end: list[Callable[[], None]] = []
        """Done before the end: pins let go, commands that sleep."""
        self.configure(unix_socket_directories=str(self.socket_directory))
        if settings:
            self.configure(**settings)

    # Configuration.

    def configure(self, **settings: object) -> None:
        """Write settings into postgresql.conf; a running server hears of them by reload()."""
        words = {name: _word(value) for name, value in settings.items()}
        if words.get("logging_collector") == "on":
            words |= {"log_filename": COLLECTED_LOG, "log_rotation_age": "0"}
            self.watcher.log.follow(self.data / "log" / COLLECTED_LOG)
        if "cluster_name" in words:
            self.watcher.cluster_name = words["cluster_name"]
        if words.get("listen_addresses"):
            words.setdefault("port", str(free_port()))
        self.settings |= words
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write(setting_lines(words))

    def write_file(self, name: str, text: str = "") -> Path:
        """A file in the data directory, owned by the server's user (standby.signal, ...)."""
        self.watcher.stimulus(WriteFile(name))
        path = self.data / name
        path.write_text(text, encoding="utf-8")
        self.target.user.owns(path)
        return path

    # Starting.

    def start(
        self,
        *,
        wait: bool = True,
        args: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start `postgres` itself, with more `args` and `env`; `wait` for all its family."""
        mark = self.mark()
        self.watcher.stimulus(Start(self.target.version.major, dict(self.settings)))
        with self.stderr.open("ab") as stderr:
            process = self.target.start(
                Program.POSTGRES,
                ["-D", str(self.data), *args],
                run_id=self.run.id,
                stdout=stderr.fileno(),
                stderr=stderr.fileno(),
                env=env,
            )
        self.adopt(Postmaster(process.pid, process))
        if wait:
            self.expect_ready(since=mark, within=deadlines.START_LIMIT)

    def adopt(self, postmaster: Postmaster) -> None:
        """Take this process for the postmaster from now on."""
        self.run.note_postmaster(postmaster.pid)
        self.postmaster_pids.add(postmaster.pid)
        self.watcher.attach(postmaster)

    def expect_ready(
        self, *, since: int = 0, within: float = deadlines.CRASH_RESTART_LIMIT
    ) -> LogRecord:
        """Wait for the ready line after `since`, the pid file's `ready`, and the whole family."""
        wanted = family_when_running(self.target.version.major, self.settings)

        def ready() -> LogRecord | None:
            if not self.is_running():
                raise self.watcher.failure("a server that gets ready", self.watcher.summary())
            if self.pid_file_status() is not PidFileStatus.READY:
                return None
            record = self.find_log(f"^{READY_LINE}$", since=since)
            return record if record and is_complete(self.watcher.kids, wanted) else None

        return self.wait_for("the server to be ready with its whole family", ready, within)

    # Requests to the postmaster.

    def request_shutdown(self, mode: ShutdownMode) -> None:
        """Ask for a smart, fast or immediate shutdown by signal; does not wait (SH-01)."""
        self.watcher.stimulus(ShutdownRequest(mode))
        self._postmaster().send(mode.signal)

    def reload(self, **settings: object) -> None:
        """Change settings, then SIGHUP; does not wait."""
        if settings:
            self.configure(**settings)
        words = {name: _word(value) for name, value in settings.items()}
        self.watcher.stimulus(ReloadRequest(words))
        self._postmaster().send(signal.SIGHUP)

    def signal_postmaster(self, number: signal.Signals) -> None:
        """Any other signal."""
        self.watcher.stimulus(SignalPostmaster(number))
        if number in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV):
            self.was_killed = True
        self._postmaster().send(number)

    def restart(self, mode: ShutdownMode = FAST) -> None:
        """Stop and start again, waiting for both."""
        self.request_shutdown(mode)
        self.expect_exit(code=0)
        self.start()

    def pg_ctl(self, *args: str, within: float = PROGRAM_LIMIT_S, **env: str) -> Finished:
        """Run pg_ctl on this cluster and wait for it; a server it has started becomes ours."""
        return self.finish_pg_ctl(self.begin_pg_ctl(*args, **env), within)

    def begin_pg_ctl(self, *args: str, **env: str) -> RunningProgram:
        """Start pg_ctl on this cluster and do not wait; finish_pg_ctl() does."""
        self.watcher.stimulus(RunPgCtl(args))
        words = [*args, "-D", str(self.data)]
        program = self.target.begin(Program.PG_CTL, words, run_id=self.run.id, env=env)
        self.at_end.append(program.abandon)
        return program

    def finish_pg_ctl(self, program: RunningProgram, within: float = PROGRAM_LIMIT_S) -> Finished:
        """Wait for a pg_ctl that was begun; a server it has started becomes ours."""
        try:
            done = program.finish(within * self.scale)
        except ProgramTooSlow as problem:
            raise self.watcher.failure("pg_ctl comes to its end", str(problem)) from None
        pid_file = self.pid_file()
        pid = pid_file.pid if pid_file is not None else None
        if pid is not None and pid > 0 and pid not in self.postmaster_pids:
            self.adopt(Postmaster(pid))
        self.watcher.look()
        return done

    def run_postgres(self, *args: str, within: float = PROGRAM_LIMIT_S) -> Finished:
        """Run `postgres` to its end beside the server: for starts that must fail (CR-50)."""
        where = ["-D", str(self.data)]
        try:
            return self.target.run(
                Program.POSTGRES, [*where, *args], run_id=self.run.id, limit_s=within * self.scale
            )
        except ProgramTooSlow as problem:
            raise self.watcher.failure("postgres comes to its end", str(problem)) from None

    # The postmaster, seen.

    @property
    def pid(self) -> int:
        """The postmaster's pid."""
        return self._postmaster().pid

    def is_running(self) -> bool:
        """The postmaster has not ended."""
        return self.watcher.look().exit_code is None

    def expect_exit(self, code: int = 0, within: float = deadlines.SHUTDOWN_LIMIT) -> None:
        """Wait for the postmaster's end and check its exit status."""
        self.wait_for(
            "the postmaster's exit", lambda: self._postmaster().exit_code() is not None, within
        )
        found = self.watcher.look().exit_code
        if found != code:
            raise self.watcher.failure(
                f"exit status {code} of the postmaster", f"exit status {found}"
            )

    def pid_file(self) -> PidFile | None:
        """postmaster.pid, by line; None without one."""
        return read_pid_file(self.data)

    def pid_file_status(self) -> PidFileStatus | None:
        """Line 8."""
        pid_file = self.pid_file()
        return pid_file.status if pid_file is not None else None

    def controldata_state(self) -> ControlState:
        """What pg_controldata calls the "Database cluster state"."""
        done = self.target.run(Program.PG_CONTROLDATA, ["-D", str(self.data)], run_id=self.run.id)
        state = parse_control_state(done.out)
        if state is None:
            raise self.watcher.failure("a state from pg_controldata", done.out + done.err)
        return state

    # Children.

    def children(self, kind: Kind | str | None = None) -> list[Child]:
        """Living children as of now, oldest first; of one kind if it is named."""
        wanted = None if kind is None else as_kind(kind)
        kids = self.watcher.look().kids
        return [kid for kid in kids if kid.is_alive and wanted in (None, kid.kind)]

    def child(self, kind: Kind | str, within: float = deadlines.REACTION_LIMIT) -> Child:
        """The first child of this kind; waited for."""
        return self.wait_for(
            f"a child of kind {as_kind(kind)}",
            lambda: next(iter(self.children(kind)), None),
            within,
        )

    def child_with_pid(self, pid: int) -> Child:
        """The child with this pid, dead or alive but not yet reaped."""
        return self.wait_for(
            f"a child with pid {pid}",
            lambda: next((kid for kid in self.watcher.look().kids if kid.pid == pid), None),
            deadlines.REACTION_LIMIT,
        )

    def signal_child(self, child: Child | Kind | str, number: signal.Signals) -> Child:
        """Send a signal to one child (and not to its group); returns the child it went to."""
        found = child if isinstance(child, Child) else self.child(child)
        self.watcher.stimulus(SignalChild(found, number))
        stat = read_stat(found.pid)
        if stat is None or stat.start_time != found.start_time:
            raise self.watcher.failure(f"child {found} alive, to signal it", "it has gone")
        os.kill(found.pid, number)
        return found

    def crash(self, child: Child | Kind | str, number: signal.Signals = signal.SIGKILL) -> Child:
        """Kill a child with a deadly signal and wait for its end (not for what follows)."""
        found = self.signal_child(child, number)
        self.expect_death(found)
        return found

    def expect_death(self, child: Child, within: float = deadlines.REACTION_LIMIT) -> None:
        """Wait until this child has ended, reaped or not."""

        def ended() -> bool:
            kids = self.watcher.kids
            return not any(kid.key == child.key and kid.is_alive for kid in kids)

        self.wait_for(f"the end of {child}", ended, within)

    # The log.

    def mark(self) -> int:
        """Where the log stands now; for the `since` of others."""
        self.watcher.look()
        return len(self.watcher.log.records)

    def log(self, since: int = 0) -> list[LogRecord]:
        """The records written after this mark."""
        self.watcher.look()
        return self.watcher.records(since)

    def find_log(self, pattern: str, since: int = 0) -> LogRecord | None:
        """The first record whose message matches (re.search), if there is one."""
        search = re.compile(pattern).search
        return next((record for record in self.log(since) if search(record.message)), None)

    def expect_log(
        self, pattern: str, since: int = 0, within: float = deadlines.REACTION_LIMIT
    ) -> LogRecord:
        """Wait for a record whose message matches."""
        return self.wait_for(
            f"a log line matching {pattern!r}", lambda: self.find_log(pattern, since), within
        )

    def expect_no_log(self, pattern: str, since: int = 0) -> None:
        """No record so far matches."""
        found = self.find_log(pattern, since)
        if found is not None:
            raise self.watcher.failure(f"no log line matching {pattern!r}", str(found))

    def pmstates(self, since: int = 0) -> list[tuple[str, str]]:
        """The steps of pmState that the log tells (18, PM-01)."""
        found = (_PMSTATE_LINE.search(record.message) for record in self.log(since))
        return [(step[1], step[2]) for step in found if step is not None]

    def pmstate(self) -> str | None:
        """The present pmState as far as the log tells."""
        steps = self.pmstates()
        return steps[-1][1] if steps else None

    def expect_pmstate(self, name: str, within: float = deadlines.REACTION_LIMIT) -> None:
        """Wait until the log says that this is the state."""
        self.wait_for(
            f"pmState {name}",
            lambda: self.pmstate() == name,
            within,
            describe=lambda: f"pmState {self.pmstate()}",
        )

    # Clients.

    def session(
        self,
        *,
        user: str = "postgres",
        database: str = "postgres",
        protocol: int = PROTOCOL_3_0,
        tcp: bool = False,
        parameters: Mapping[str, str] | None = None,
    ) -> Session:
        """A client that must be admitted; a context manager."""
        session = self.attempt(
            user=user, database=database, protocol=protocol, tcp=tcp, parameters=parameters
        )
        if session.outcome is not Outcome.ADMITTED:
            told = session.refusal if session.refusal is not None else session.outcome.value
            raise self.watcher.failure("a new client is admitted", str(told))
        return session

    def attempt(
        self,
        *,
        user: str = "postgres",
        database: str = "postgres",
        protocol: int = PROTOCOL_3_0,
        tcp: bool = False,
        within: float = deadlines.ANSWER_LIMIT,
        parameters: Mapping[str, str] | None = None,
    ) -> Session:
        """A client that tries to get in; `outcome` says what became of it."""
        session = self._new_session(Startup.PACKET, tcp)
        packet = {"user": user, "database": database, **(parameters or {})}
        session.introduce(packet, protocol, within * self.scale)
        return session

    def refusal_of_new_client(
        self, *, user: str = "postgres", database: str = "postgres", tcp: bool = False
    ) -> ServerMessage:
        """What a new client is told that is not let in."""
        session = self.attempt(user=user, database=database, tcp=tcp)
        if session.refusal is None:
            raise self.watcher.failure("a new client is refused", session.outcome.value)
        return session.refusal

    def silent_client(self, *, tcp: bool = False, wait_for_child: bool = True) -> Session:
        """A client that connects and says nothing. Its `child` is the child forked for it."""
        before = {kid.key for kid in self.watcher.look().kids}
        session = self._new_session(Startup.NOTHING, tcp)
        if wait_for_child:

            def born() -> Child | None:
                kids = reversed(self.watcher.kids)
                return next(
                    (k for k in kids if k.key not in before and k.kind is Kind.UNKNOWN), None
                )

            session.child_before_packet = self.wait_for(
                "a child for a silent client", born, deadlines.REACTION_LIMIT
            )
        return session

    def raw_client(self, *, tcp: bool = False) -> Client:
        """Only a connection; whoever uses it tells the recorders."""
        if tcp:
            address: Path | tuple[str, int] = ("127.0.0.1", int(self.settings["port"]))
        else:
            address = self.socket_directory / f".s.PGSQL.{self.settings.get('port', '5432')}"
        return Client(address, deadlines.ANSWER_LIMIT * self.scale)

    def _new_session(self, startup: Startup, tcp: bool) -> Session:
        number = len(self._sessions)
        self.watcher.stimulus(Connect(number, startup, tcp))
        session = Session(self, self.raw_client(tcp=tcp), number)
        self._sessions.append(session)
        return session

    # Waiting, recording, ending.

    def wait_for(
        self,
        name: str,
        predicate: Callable[[], Found | None],
        within: float = deadlines.REACTION_LIMIT,
        *,
        describe: Callable[[], str] | None = None,
    ) -> Found:
        """Wait until the predicate gives something; `name` completes "expected ..."."""
        return self.watcher.wait_for(name, predicate, within, describe=describe)

    def expect_still(
        self, name: str, predicate: Callable[[], bool], for_s: float = deadlines.SETTLED
    ) -> None:
        """The predicate holds now and for a while: for claims that nothing happens."""

        def broken() -> bool:
            return not predicate()

        try:
            self.wait_for(name, broken, for_s)
        except Expectation:
            return
        raise self.watcher.failure(name, self.watcher.summary())

    def record(self, recorder: Recorder) -> None:
        """Tell this recorder, too, of every stimulus and observation from now on."""
        self.watcher.recorders.append(recorder)

    def let_go_of_everything(self) -> None:
        """Pins released, clients gone, nothing stopped any more."""
        for action in reversed(self.at_end):
            action()
        self.at_end.clear()
        continue_stopped(self)
        for session in self._sessions:
            session.vanish()

    def _postmaster(self) -> Postmaster:
        if self.watcher.postmaster is None:
            raise AssertionError("this cluster has never been started")
        return self.watcher.postmaster


def _word(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
