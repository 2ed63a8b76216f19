"""The logging collector. It knows neither csvlog nor jsonlog.

Source: postmaster/syslogger.c: SysLoggerMain(), logfile_rotate(); rules LG-01..06, SG-21, CR-54.
"""

import os
import signal
import time

from pglife_impl.base.exits import EXIT_DONE, ProcExit
from pglife_impl.base.kinds import Kind
from pglife_impl.base.words import Level
from pglife_impl.log import elog
from pglife_impl.log.logfile import open_log_file
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role, Seconds
from pglife_impl.process.world import Birth, World

READ_SIZE = 8192
KB = 1024
MINUTE_S = 60


@register
class Logger(Role):
    """Writes what all other processes write to stderr into log files.

    Started      by the postmaster, before all other children, if logging_collector is on.
    Exits        with 0 at end of file on its pipe: when no process is left that could log. It does
                 not watch the postmaster, and ignores SIGINT, SIGTERM, SIGQUIT and SIGUSR2 (LG-03).
    Rotates      on SIGUSR1, by age and by size.
    Crash        none: it is replaced, because it is not attached to shared memory.
    """

    kind = Kind.LOGGER
    signals = {
        signal.SIGHUP: Reaction.RELOAD,
        signal.SIGINT: Reaction.IGNORE,
        signal.SIGTERM: Reaction.IGNORE,
        signal.SIGQUIT: Reaction.IGNORE,
        signal.SIGUSR1: Reaction.ROTATE,
        signal.SIGUSR2: Reaction.IGNORE,
    }

    def __init__(self, world: World, birth: Birth) -> None:
        super().__init__(world, birth)
        assert world.logger_pipe is not None
        self.pipe = world.logger_pipe[0]
        self.wait_set.remove(world.death_read)  # CR-54
        self.wait_set.add(self.pipe)
        os.set_blocking(self.pipe, False)
        self.since = time.time()
        self.path, self.file = open_log_file(self.gucs, self.since)
        self.directory = self.gucs.text("log_directory")
        self.pattern = self.gucs.text("log_filename")

    def attach(self) -> None:
        """Close the pipe's write end, which is stderr too, so that the end of file arrives; detach
        from shared memory and its lock, so that a new postmaster may start (LG-02)."""
        super().attach()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.close(null)
        assert self.world.logger_pipe is not None
        os.close(self.world.logger_pipe[1])
        os.close(self.world.locks.orphan_fd)
        self.shmem.destroy()

    def turn(self) -> Seconds | None:
        """Copy what is in the pipe; rotate if a signal, age or size requires it."""
        if Reaction.ROTATE in self.pending:
            self.pending.discard(Reaction.ROTATE)
            self.rotate()
        self.drain()
        age = self.gucs.integer("log_rotation_age") * MINUTE_S
        size = self.gucs.integer("log_rotation_size") * KB
        if size and os.fstat(self.file).st_size >= size:
            self.rotate()
        if not age:
            return None
        left = self.since + age - time.time()
        if left <= 0:
            self.rotate()
            return float(age)
        return left

    def drain(self) -> None:
        """Copy the pipe into the file; exit at end of file."""
        while True:
            try:
                data = os.read(self.pipe, READ_SIZE)
            except BlockingIOError:
                return
            if not data:
                raise ProcExit(EXIT_DONE)
            while data:
                data = data[os.write(self.file, data) :]

    def reloaded(self) -> None:
        """Rotate if log_directory or log_filename changed."""
        new = (self.gucs.text("log_directory"), self.gucs.text("log_filename"))
        if new != (self.directory, self.pattern):
            self.directory, self.pattern = new
            self.rotate()

    def rotate(self) -> None:
        """Open the file that log_filename names now (LG-06)."""
        self.since = time.time()
        try:
            path, file = open_log_file(self.gucs, self.since)
        except OSError as e:
            elog.write(f"could not open log file: {e}\n")
            return
        os.close(self.file)
        self.path, self.file = path, file

    def sleep(self, delay: Seconds | None) -> None:
        """Sleep; the exit of the postmaster does not end the logger."""
        self.wait_set.wait(delay)
        self.latch.reset()

    def before_exit(self, code: int) -> None:
        """Log the exit into the file: stderr is /dev/null."""
        if elog.interesting(Level.DEBUG1):
            line = elog.prefix("00000") + "DEBUG:  logger shutting down\n"
            os.write(self.file, line.encode())
