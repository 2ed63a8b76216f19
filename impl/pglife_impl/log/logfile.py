"""Files of the logging collector: names, opening, and redirecting stderr to the collector.

Source: postmaster/syslogger.c: SysLogger_Start(), logfile_getname(), update_metainfo_datafile();
rules LG-01, TF-07.
"""

import os
import time

from pglife_impl.base.words import Level
from pglife_impl.config.guc import Gucs
from pglife_impl.log.elog import log


def log_file_name(gucs: Gucs, now: float) -> str:
    """Return the path that log_directory and log_filename give for a time."""
    name = time.strftime(gucs.text("log_filename"), time.localtime(now))
    return os.path.join(gucs.text("log_directory"), name)


def open_log_file(gucs: Gucs, now: float) -> tuple[str, int]:
    """Open the current log file for appending and record it in current_logfiles."""
    os.makedirs(gucs.text("log_directory"), mode=0o700, exist_ok=True)
    path = log_file_name(gucs, now)
    mode = gucs.integer("log_file_mode")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
    with open("current_logfiles.tmp", "w", encoding="utf-8") as note:
        note.write(f"stderr {path}\n")
    os.rename("current_logfiles.tmp", "current_logfiles")
    return path, file


def redirect_to_pipe(gucs: Gucs, pipe: tuple[int, int]) -> None:
    """Log where the log will be written, then redirect stderr there (LG-01, SV-20)."""
    log(
        Level.LOG,
        "redirecting log output to logging collector process",
        hint=f'Future log output will appear in directory "{gucs.text("log_directory")}".',
    )
    os.dup2(pipe[1], 1)
    os.dup2(pipe[1], 2)
