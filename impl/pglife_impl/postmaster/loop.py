"""The postmaster: birth, the server loop, and the way out.

Begin with   run(), then Postmaster.turn().
Owns         the order of the start (ST-03), the pending flags, the clocks of the loop.
Leaves out   every decision (pm_decide.py) and every effect of one (perform.py).
Source       postmaster.c: PostmasterMain(), ServerLoop(); rules ST-03..08, SL-01..11, SG-01..08.
"""

from __future__ import annotations

import gc
import os
import shlex
import signal
import socket
import stat
import sys
import time
from collections import deque
from importlib import import_module

# Two imports for their effect: each registers its roles, before the first fork.
import pglife_impl.backend.main
import pglife_impl.roles  # noqa: F401
from pglife_impl import SERVER_VERSION, ImplError
from pglife_impl.base.exits import ProcExit
from pglife_impl.base.words import Level, PidStatus
from pglife_impl.config.guc import Gucs
from pglife_impl.data_directory.lockfile import Line, LockError, LockFiles, shmem_key
from pglife_impl.log import elog
from pglife_impl.net import hba
from pglife_impl.net.sockets import NoSockets, Sockets, fds
from pglife_impl.os import signals, titles
from pglife_impl.os.reap import dead_children
from pglife_impl.postmaster.decide import decide
from pglife_impl.postmaster.events import (
    Born,
    ChildExited,
    ConnectionArrived,
    Event,
    LockFileLost,
    LoggerWanted,
    PmSignalsSeen,
    ReapingDone,
    ReloadRequested,
    ShutdownRequested,
    TurnEnded,
)
from pglife_impl.postmaster.launch import sleep_time
from pglife_impl.postmaster.perform import Performer, remove_quietly
from pglife_impl.postmaster.settings import config_of, sizes_of
from pglife_impl.postmaster.state import PmState, Shutdown, newborn
from pglife_impl.process.world import World
from pglife_impl.shmem.segment import Shmem

RECHECK_LOCK_FILE_S = 60
TOUCH_SOCKETS_S = 58 * 60
PAUSE_AFTER_ACCEPT_FAILURE_S = 0.1
EXIT_FAILED_START = 1
SQL_LIBRARY = "pglife_sql"


class StartError(ImplError):
    """What a configuration file names is not there, or cannot be used."""


def run(gucs: Gucs, data_directory: str, arguments: list[str]) -> int:
    """Be the postmaster of that data directory; the exit code."""
    os.chdir(data_directory)
    # The group may read what we make if it may read the directory (ST-01).
    os.umask(0o027 if os.stat(".").st_mode & stat.S_IRGRP else 0o077)
    locks = LockFiles()
    try:
        locks.take_data_directory(data_directory)
    except LockError as e:
        elog.log(Level.FATAL, e.message, hint=e.hint)
        end_of_life(locks, None)
        return EXIT_FAILED_START
    port = gucs.integer("port")
    locks.put_line(Line.PORT, str(port))
    sockets = Sockets(port, data_directory, locks)
    try:
        preload_libraries(gucs)
        postmaster = Postmaster(make_world(gucs, data_directory, locks, sockets))
        postmaster.start(arguments)
        while True:
            postmaster.turn()
    except ProcExit as end:
        return end.code
    except (LockError, NoSockets, StartError) as e:
        elog.log(Level.FATAL, str(e), hint=getattr(e, "hint", ""))
        return EXIT_FAILED_START
    finally:
        end_of_life(locks, sockets)


def preload_libraries(gucs: Gucs) -> None:
    """shared_preload_libraries: what sessions will need, read once so that all share its pages.

    DIFFERS: the one library there is, `pglife_sql`, is the SQL parser, which initdb's configuration
    names. Without it each session reads the parser at its first statement, and forks are cheaper.
    """
    for name in gucs.text("shared_preload_libraries").split(","):
        if name.strip() == SQL_LIBRARY:
            for module in ("simple", "extended"):  # tens of megabytes: only if asked for
                import_module(f"pglife_impl.session.protocol.{module}")
        elif name.strip():
            raise StartError(f'could not access file "{name.strip()}": No such file or directory')


def make_world(gucs: Gucs, data_directory: str, locks: LockFiles, sockets: Sockets) -> World:
    """What children will inherit."""
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


def end_of_life(locks: LockFiles, sockets: Sockets | None) -> None:
    """SH-11, SH-12: sockets, then lock files, the pid file last; then the last line."""
    if locks.external_pid_file:
        remove_quietly(locks.external_pid_file)
    if sockets is not None:
        sockets.unlink_all()
    if locks.paths:
        locks.unlink_all()
        elog.log(Level.LOG, "database system is shut down")


class Postmaster:
    """State, hands and flags of the postmaster."""

    def __init__(self, world: World) -> None:
        self.world = world
        config = config_of(world.gucs)
        self.pm: PmState = newborn(config)
        self.performer = Performer(world, config)
        self.listeners: dict[int, socket.socket] = {}
        # SV-21: all that a handler does is set one of these and the latch.
        self.pending_shutdown = Shutdown.NO
        self.pending_reload = False
        self.pending_child_exit = False
        self.pending_pmsignal = False
        self.last_recheck = self.last_touch = time.monotonic()

    def start(self, arguments: list[str]) -> None:
        """ST-03, from the signal handlers to the first children."""
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
        write_options_file(arguments)
        locks.external_pid_file = write_external_pid_file(gucs)
        self.world.catalog.refresh()
        self.load_hba(gucs.text("hba_file"))
        locks.put_line(Line.STATUS, PidStatus.STARTING.value)
        self.listeners = fds(sockets.opened)
        for fd in self.listeners:
            self.world.wait_set.add(fd)
        # The collector would touch every page of the postmaster in every child.
        gc.freeze()
        self.handle(Born())

    def load_hba(self, path: str) -> None:
        """Without it nobody could come in, so there is no use in starting."""
        try:
            self.world.hba = hba.load(path)
        except hba.HbaError as e:
            elog.log(Level.LOG, str(e))
            raise StartError(f"could not load {path}") from e

    def install_handlers(self) -> None:
        """2.2. Handlers only set flags; the loop decides."""
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

    def note_shutdown(self, level: Shutdown) -> None:
        """SG-08: of several that come together the strongest counts."""
        self.pending_shutdown = max(self.pending_shutdown, level)
        self.world.latch.set()

    def note_reload(self) -> None:
        """SIGHUP."""
        self.pending_reload = True
        self.world.latch.set()

    def note_child_exit(self) -> None:
        """SIGCHLD."""
        self.pending_child_exit = True
        self.world.latch.set()

    def note_pmsignal(self) -> None:
        """SIGUSR1."""
        self.pending_pmsignal = True
        self.world.latch.set()

    # --- the loop ---------------------------------------------------------------------------

    def turn(self) -> None:
        """SL-01: wait, handle what came, launch what is missing, look at the clocks.

        DIFFERS: no_accept_after_wait_dead_end. PostgreSQL serves the clients of this turn's events
        also if the state that was entered meanwhile takes none; nobody signals their children.
        """
        ready = self.world.wait_set.wait(sleep_time(self.pm, time.time()))
        for fd in ready:
            if fd == self.world.latch.fd:
                self.world.latch.reset()
            self.serve_flags()
            if fd in self.listeners and self.pm.listening:
                self.accept(self.listeners[fd])
        self.handle(TurnEnded(time.time()))
        self.look_at_clocks()

    def serve_flags(self) -> None:
        """In this order: shutdown, reload, deaths, pmsignals (MM-08)."""
        if self.pending_shutdown:
            level, self.pending_shutdown = self.pending_shutdown, Shutdown.NO
            self.handle(ShutdownRequested(level, time.time()))
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
                    time.time(),
                )
            )

    def reap(self) -> None:
        """RP-01: all deaths that wait, then one run of the state machine."""
        elog.log(Level.DEBUG4, "reaping dead processes")
        for pid, status in dead_children():
            child = self.pm.children.get(pid)
            clean = self.performer.slot_was_clean(pid, child.kind if child else None)
            self.handle(ChildExited(pid, status, clean, time.time()))
        self.handle(ReapingDone(time.time()))

    def accept(self, listener: socket.socket) -> None:
        """SL-11: one connection. The client may have gone again, and that is no matter."""
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as e:
            # Out of descriptors, most likely: the socket stays readable, so do not spin.
            elog.log(Level.LOG, f"could not accept new connection: {e.strerror}")
            time.sleep(PAUSE_AFTER_ACCEPT_FAILURE_S)
            return
        self.performer.client = client
        self.handle(ConnectionArrived())
        self.performer.client = None
        client.close()

    def handle(self, event: Event) -> None:
        """Decide, and do what was decided, until nothing more follows from it."""
        events = deque([event])
        while events:
            self.pm, requests = decide(self.pm, events.popleft(), self.performer.config)
            for request in requests:
                outcome = self.performer.perform(request)
                if outcome is not None:
                    events.append(outcome)

    def look_at_clocks(self) -> None:
        """SL-09, SL-10."""
        now = time.monotonic()
        if now - self.last_recheck >= RECHECK_LOCK_FILE_S:
            self.last_recheck = now
            if not self.world.locks.still_ours():
                self.handle(LockFileLost())
        if now - self.last_touch >= TOUCH_SOCKETS_S:
            self.last_touch = now
            self.world.locks.touch_sockets()


def describe_build() -> str:
    """What stands where PostgreSQL names its compiler."""
    machine = os.uname()
    python = ".".join(str(part) for part in sys.version_info[:3])
    bits = sys.maxsize.bit_length() + 1
    return (
        f"{SERVER_VERSION} on {machine.machine}-{machine.sysname.lower()},"
        f" run by {sys.implementation.name} {python}, {bits}-bit"
    )


def write_options_file(arguments: list[str]) -> None:
    """postmaster.opts: how we were called, for pg_ctl restart and status."""
    quoted = " ".join(f'"{argument}"' for argument in arguments)
    program = shlex.join([sys.executable, "-m", "pglife_impl.commands.postgres"])
    with open("postmaster.opts", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{program} {quoted}".rstrip() + "\n")


def write_external_pid_file(gucs: Gucs) -> str:
    """external_pid_file, if somebody wants one; where it is. It goes when we go."""
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
