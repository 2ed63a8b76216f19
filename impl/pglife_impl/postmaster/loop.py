"""The postmaster's process: start, server loop, exit.

Begin with run(), then Postmaster.run_once(). What an event leads to is decided in decide.py and
performed in perform.py.

Source: postmaster.c: PostmasterMain(), ServerLoop(); rules ST-03..08, SL-01..11, SG-01..08.
"""

import gc
import os
import re
import shlex
import signal
import socket
import stat
import sys
import time
from importlib import import_module

# Imported for their effect: each registers its roles before the first fork.
import pglife_impl.backend.main
import pglife_impl.roles  # noqa: F401
from pglife_impl import SERVER_VERSION, ImplError
from pglife_impl.base.exits import EXIT_FATAL, ProcExit
from pglife_impl.base.words import Level, PidStatus
from pglife_impl.config.guc import Gucs
from pglife_impl.data_directory.lockfile import Line, LockError, LockFiles, shmem_key
from pglife_impl.log import elog
from pglife_impl.net import hba
from pglife_impl.net.sockets import NoSockets, Sockets, fds
from pglife_impl.os import signals, titles
from pglife_impl.os.reap import dead_children
from pglife_impl.postmaster.decide import carry_out, decide
from pglife_impl.postmaster.events import (
    ChildExited,
    ConnectionArrived,
    Event,
    Initialized,
    IterationEnded,
    LockFileLost,
    LoggerWanted,
    PmSignalsSeen,
    ReapingDone,
    ReloadRequested,
    ShutdownRequested,
)
from pglife_impl.postmaster.launch import sleep_time
from pglife_impl.postmaster.perform import Performer, remove_quietly
from pglife_impl.postmaster.settings import config_of, sizes_of
from pglife_impl.postmaster.state import PmState, Shutdown
from pglife_impl.process.world import World
from pglife_impl.shmem.segment import Shmem

RECHECK_LOCK_FILE_S = 60
TOUCH_SOCKETS_S = 58 * 60
PAUSE_AFTER_ACCEPT_FAILURE_S = 0.1
SQL_LIBRARY = "pglife_sql"


class StartError(ImplError):
    """A file that the configuration names is missing or unusable."""


def run(gucs: Gucs, data_directory: str, arguments: list[str]) -> int:
    """Run a postmaster in a data directory until it exits.

    Returns:
        The exit code.
    """
    os.chdir(data_directory)
    # New files are readable by the group if the directory is (ST-01).
    os.umask(0o027 if os.stat(".").st_mode & stat.S_IRGRP else 0o077)
    locks = LockFiles()
    try:
        locks.take_data_directory(data_directory)
    except LockError as e:
        elog.log(Level.FATAL, e.message, hint=e.hint)
        clean_up(locks, None)
        return EXIT_FATAL
    port = gucs.integer("port")
    locks.put_line(Line.PORT, str(port))
    sockets = Sockets(port, data_directory, locks)
    try:
        preload_libraries(gucs)
        postmaster = Postmaster(make_world(gucs, data_directory, locks, sockets))
        postmaster.start(arguments)
        while True:
            postmaster.run_once()
    except ProcExit as end:
        return end.code
    except LockError as e:
        elog.log(Level.FATAL, e.message, hint=e.hint)
        return EXIT_FATAL
    except (NoSockets, StartError) as e:
        elog.log(Level.FATAL, str(e))
        return EXIT_FATAL
    finally:
        clean_up(locks, sockets)


def preload_libraries(gucs: Gucs) -> None:
    """Import the modules of shared_preload_libraries, so that all children share their pages.

    DIFFERS: the only library is `pglife_sql`, the SQL parser, which initdb's configuration names.
    Without it each session imports the parser at its first statement, and forks are cheaper.
    """
    for name in gucs.text("shared_preload_libraries").split(","):
        if name.strip() == SQL_LIBRARY:
            for module in ("simple", "extended"):  # tens of megabytes: only if asked for
                import_module(f"pglife_impl.session.protocol.{module}")
        elif name.strip():
            raise StartError(f'could not access file "{name.strip()}": No such file or directory')


def make_world(gucs: Gucs, data_directory: str, locks: LockFiles, sockets: Sockets) -> World:
    """Make what children inherit."""
    elog.log(Level.DEBUG1, 'registering background worker "logical replication launcher"')
    key, ident = shmem_key(0)
    shmem = Shmem(sizes_of(gucs), 0)
    locks.put_line(Line.SHMEM_KEY, f"{key:9d} {ident:9d}")
    return World(
        gucs=gucs,
        data_directory=data_directory,
        locks=locks,
        sockets=sockets,
        shmem=shmem,
        death_pipe=os.pipe(),
    )


def clean_up(locks: LockFiles, sockets: Sockets | None) -> None:
    """Remove sockets, then lock files, the pid file last; then log the last line (SH-11, SH-12)."""
    if locks.external_pid_file:
        remove_quietly(locks.external_pid_file)
    if sockets is not None:
        sockets.unlink_all()
    if locks.paths:
        locks.unlink_all()
        elog.log(Level.LOG, "database system is shut down")


class Postmaster:
    """The postmaster's state, its performer of requests, and the flags that signals set."""

    def __init__(self, world: World) -> None:
        self.world = world
        config = config_of(world.gucs)
        self.pm = PmState(config)
        self.performer = Performer(world, config)
        self.listeners: dict[int, socket.socket] = {}
        # A signal handler only sets one of these and the latch (SV-21).
        self.pending_shutdown = Shutdown.NO
        self.pending_reload = False
        self.pending_child_exit = False
        self.pending_pmsignal = False
        self.last_recheck = self.last_touch = time.monotonic()

    def start(self, arguments: list[str]) -> None:
        """Start, from the signal handlers to the first children (ST-03).

        Raises:
            NoSockets: no socket could be opened.
            LockError: another server holds a socket.
            StartError: pg_hba.conf cannot be used.
        """
        titles.name_command()
        self.install_handlers()
        for leftover in ("promote", "logrotate", "current_logfiles"):
            remove_quietly(leftover)  # TF-04
        self.handle(LoggerWanted())
        elog.log(Level.LOG, f"starting PostgreSQL {describe_build()}")
        gucs, sockets, locks = self.world.gucs, self.world.sockets, self.world.locks
        sockets.open_all(gucs.text("listen_addresses"), gucs.text("unix_socket_directories"))
        locks.put_line(Line.SOCKET_DIRECTORY, sockets.first_directory)
        locks.put_line(Line.LISTEN_ADDRESS, sockets.first_address)
        write_options_file(arguments, self.world.data_directory)
        locks.external_pid_file = write_external_pid_file(gucs)
        self.world.catalog.refresh()
        self.load_hba(gucs.text("hba_file"))
        locks.put_line(Line.STATUS, PidStatus.STARTING.value)
        self.listeners = fds(sockets.opened)
        for fd in self.listeners:
            self.world.wait_set.add(fd)
        # In a child the garbage collector would write to every page that it shares with us.
        gc.freeze()
        self.handle(Initialized())

    def load_hba(self, path: str) -> None:
        """Load pg_hba.conf. Without it no client could authenticate, so the start fails."""
        try:
            self.world.hba = hba.load(path)
        except hba.HbaError as e:
            elog.log(Level.LOG, str(e))
            raise StartError(f"could not load {path}") from e

    def install_handlers(self) -> None:
        """Handlers only set flags; the loop decides (SG-01..08)."""
        signals.install(
            {
                signal.SIGTERM: lambda: self.note_shutdown(Shutdown.SMART),
                signal.SIGINT: lambda: self.note_shutdown(Shutdown.FAST),
                signal.SIGQUIT: lambda: self.note_shutdown(Shutdown.IMMEDIATE),
                signal.SIGHUP: self.note_reload,
                signal.SIGCHLD: self.note_child_exit,
                signal.SIGUSR1: self.note_pmsignal,
                signal.SIGUSR2: None,
                signal.SIGALRM: None,
                signal.SIGPIPE: None,
                signal.SIGTTIN: None,
                signal.SIGTTOU: None,
                signal.SIGXFSZ: None,
            }
        )
        signals.unblock_all()

    def note_shutdown(self, mode: Shutdown) -> None:
        """SIGTERM, SIGINT or SIGQUIT arrived; the strongest pending one counts (SG-08)."""
        self.pending_shutdown = max(self.pending_shutdown, mode)
        self.world.latch.set()

    def note_reload(self) -> None:
        """SIGHUP arrived."""
        self.pending_reload = True
        self.world.latch.set()

    def note_child_exit(self) -> None:
        """SIGCHLD arrived."""
        self.pending_child_exit = True
        self.world.latch.set()

    def note_pmsignal(self) -> None:
        """SIGUSR1 arrived."""
        self.pending_pmsignal = True
        self.world.latch.set()

    # --- the loop ---------------------------------------------------------------------------

    def run_once(self) -> None:
        """One iteration: wait, handle events, launch missing children, check timers (SL-01).

        DIFFERS: no_accept_after_wait_dead_end. PostgreSQL forks for the connections of this
        iteration even if the state has become PM_WAIT_DEAD_END, and sends those children no signal.
        """
        ready = self.world.wait_set.wait(sleep_time(self.pm, time.time()))
        for fd in ready:
            if fd == self.world.latch.fd:
                self.world.latch.reset()
            self.serve_flags()
            if fd in self.listeners and self.pm.listening:
                self.accept(self.listeners[fd])
        self.handle(IterationEnded())
        self.check_timers()

    def serve_flags(self) -> None:
        """Serve pending requests in this order: shutdown, reload, zombies, pmsignals (MM-08)."""
        if self.pending_shutdown:
            mode, self.pending_shutdown = self.pending_shutdown, Shutdown.NO
            self.handle(ShutdownRequested(mode))
        if self.pending_reload:
            self.pending_reload = False
            self.handle(ReloadRequested())
        if self.pending_child_exit:
            self.pending_child_exit = False
            self.reap()
        if self.pending_pmsignal:
            self.pending_pmsignal = False
            self.handle(
                PmSignalsSeen(
                    self.world.shmem.take_pmsignals(),
                    os.path.exists("logrotate"),
                    os.path.exists("promote"),
                )
            )

    def reap(self) -> None:
        """Reap all zombies, then run the state machine once (RP-01)."""
        elog.log(Level.DEBUG4, "reaping dead processes")
        for pid, status in dead_children():
            child = self.pm.children.get(pid)
            flag = self.world.shmem.slot_flag(child.slot) if child is not None else None
            self.handle(ChildExited(pid, status, flag))
        self.handle(ReapingDone())

    def accept(self, listener: socket.socket) -> None:
        """Accept one connection (SL-11); the client may have closed it already."""
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as e:
            # Probably out of descriptors: the socket stays readable, so do not spin.
            elog.log(Level.LOG, f"could not accept new connection: {e.strerror}")
            time.sleep(PAUSE_AFTER_ACCEPT_FAILURE_S)
            return
        self.handle(ConnectionArrived(client))
        client.close()

    def handle(self, event: Event) -> None:
        """Decide about an event, and perform what was decided."""
        decision = decide(self.pm, event, self.performer.config, time.time())
        self.pm = carry_out(decision, self.performer.perform)

    def check_timers(self) -> None:
        """Once a minute recheck the pid file, once an hour touch the sockets (SL-09, SL-10)."""
        now = time.monotonic()
        if now - self.last_recheck >= RECHECK_LOCK_FILE_S:
            self.last_recheck = now
            if not self.world.locks.still_ours():
                self.handle(LockFileLost())
        if now - self.last_touch >= TOUCH_SOCKETS_S:
            self.last_touch = now
            self.world.locks.touch_sockets()


def describe_build() -> str:
    """The version line; PostgreSQL names its compiler where this names the interpreter."""
    machine = os.uname()
    python = ".".join(str(part) for part in sys.version_info[:3])
    bits = sys.maxsize.bit_length() + 1
    return (
        f"{SERVER_VERSION} on {machine.machine}-{machine.sysname.lower()},"
        f" run by {sys.implementation.name} {python}, {bits}-bit"
    )


def write_options_file(arguments: list[str], data_directory: str) -> None:
    """Write the command line to postmaster.opts, for pg_ctl restart and status.

    DIFFERS: PostgreSQL writes each argument between quotation marks as it is, for a shell that then
    expands `$` and backquotes and ends the argument at a quotation mark; and it writes a relative
    directory, which means another place when pg_ctl restart runs elsewhere.
    """
    is_directory = [False, *(word == "-D" for word in arguments)]
    quoted = " ".join(
        f'"{_escaped(data_directory if named and not os.path.isabs(word) else word)}"'
        for word, named in zip(arguments, is_directory, strict=False)
    )
    program = shlex.join([sys.executable, "-m", "pglife_impl.commands.postgres"])
    with open("postmaster.opts", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{program} {quoted}".rstrip() + "\n")


def _escaped(argument: str) -> str:
    """An argument as a shell must read it between quotation marks."""
    return re.sub(r'([\\"$`])', r"\\\1", argument)


def write_external_pid_file(gucs: Gucs) -> str:
    """Write external_pid_file, if it is set. clean_up() removes it.

    Returns:
        Its path, or "".
    """
    path = gucs.text("external_pid_file")
    if not path:
        return ""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        os.chmod(path, 0o644)
    except OSError as e:
        elog.write(f'postgres: could not write external PID file "{path}": {e.strerror}\n')
    return path
