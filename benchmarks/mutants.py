"""How many wrong tokens the suite finds: builds of PostgreSQL 18 that differ in one token each.

Begin with main(). It needs a source tree that has been configured, built and installed:
`.venv/bin/python benchmarks/mutants.py --source TREE --prefix INSTALLED --count 40`. SCOPE says
where a wrong token may stand, FAMILIES which token may stand for which; the ledger has one line a
mutant, with the first scenario that fails. Whether a mutant that nothing finds could be found at
all is for a reader of the C code; one that compiles to the same program is not counted.

The tree is changed in place and put back after each build, so give it a tree of its own.
"""

import enum
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from pygments.lexers.c_cpp import CLexer
from pygments.token import Comment, Name, Number, Operator, String, Token

POSTMASTER = "src/backend/postmaster/"
SCOPE: dict[str, int] = {
    POSTMASTER + "postmaster.c": 24,
    POSTMASTER + "pmchild.c": 4,
    POSTMASTER + "launch_backend.c": 3,
    POSTMASTER + "bgworker.c": 6,
    POSTMASTER + "checkpointer.c": 4,
    POSTMASTER + "bgwriter.c": 2,
    POSTMASTER + "walwriter.c": 2,
    POSTMASTER + "pgarch.c": 3,
    POSTMASTER + "startup.c": 3,
    POSTMASTER + "syslogger.c": 3,
    POSTMASTER + "walsummarizer.c": 2,
    POSTMASTER + "autovacuum.c": 4,
    POSTMASTER + "interrupt.c": 1,
    POSTMASTER + "auxprocess.c": 1,
    POSTMASTER + "fork_process.c": 1,
    "src/backend/storage/ipc/pmsignal.c": 4,
    "src/backend/storage/ipc/procsignal.c": 3,
    "src/backend/storage/ipc/ipc.c": 2,
    "src/backend/storage/aio/method_worker.c": 3,
    "src/backend/tcop/backend_startup.c": 6,
    "src/backend/tcop/postgres.c": 5,
    "src/backend/utils/init/miscinit.c": 4,
    "src/backend/utils/init/postinit.c": 3,
    "src/backend/replication/logical/launcher.c": 2,
    "src/bin/pg_ctl/pg_ctl.c": 5,
}
"""Files, and how much each weighs in a sample."""

FUNCTIONS: dict[str, str] = {
    POSTMASTER + "autovacuum.c": r"\w*Launcher\w*|launch\w*|AutoVacWorker\w*|do_start_worker"
    r"|avl_\w+|FreeWorkerInfo|check_av_worker_gucs",
    "src/backend/tcop/postgres.c": r"die|quickdie|StatementCancelHandler|Process\w*Interrupts?"
    r"|PostgresMain|PostgresSingleUserMain",
    "src/backend/utils/init/postinit.c": r"Init\w+|ShutdownPostgres|PerformAuthentication"
    r"|\w+Handler",
}
"""In files about other things too: the functions of a lifecycle."""

FAMILIES: tuple[tuple[str, ...], ...] = (
    ("SIGTERM", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGHUP"),
    (
        *("PM_INIT", "PM_STARTUP", "PM_RECOVERY", "PM_HOT_STANDBY", "PM_RUN", "PM_STOP_BACKENDS"),
        *("PM_WAIT_BACKENDS", "PM_WAIT_XLOG_SHUTDOWN", "PM_WAIT_XLOG_ARCHIVAL"),
        *("PM_WAIT_IO_WORKERS", "PM_WAIT_CHECKPOINTER", "PM_WAIT_DEAD_END", "PM_NO_CHILDREN"),
    ),
    ("NoShutdown", "SmartShutdown", "FastShutdown", "ImmediateShutdown"),
    ("STARTUP_NOT_RUNNING", "STARTUP_RUNNING", "STARTUP_SIGNALED", "STARTUP_CRASHED"),
    (
        *("B_BACKEND", "B_DEAD_END_BACKEND", "B_AUTOVAC_LAUNCHER", "B_AUTOVAC_WORKER"),
        *("B_BG_WORKER", "B_WAL_SENDER", "B_SLOTSYNC_WORKER", "B_ARCHIVER", "B_BG_WRITER"),
        *("B_CHECKPOINTER", "B_IO_WORKER", "B_STARTUP", "B_WAL_RECEIVER", "B_WAL_SUMMARIZER"),
        *("B_WAL_WRITER", "B_LOGGER"),
    ),
    ("CAC_OK", "CAC_STARTUP", "CAC_SHUTDOWN", "CAC_RECOVERY", "CAC_NOTHOTSTANDBY", "CAC_TOOMANY"),
    ("FATAL", "ERROR", "LOG", "WARNING", "DEBUG1", "DEBUG2"),
    ("true", "false"),
    ("PM_CHILD_UNUSED", "PM_CHILD_ASSIGNED", "PM_CHILD_ACTIVE", "PM_CHILD_WALSENDER"),
    ("PMQUIT_FOR_CRASH", "PMQUIT_FOR_STOP", "PMQUIT_NOT_SENT"),
    (
        *("BgWorkerStart_PostmasterStart", "BgWorkerStart_ConsistentState"),
        "BgWorkerStart_RecoveryFinished",
    ),
    ("SIG_IGN", "SIG_DFL"),
    ("SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK"),
    ("BlockSig", "UnBlockSig", "StartupBlockSig"),
    (
        *("SignalHandlerForConfigReload", "SignalHandlerForShutdownRequest"),
        *("SignalHandlerForCrashExit", "procsignal_sigusr1_handler", "die"),
    ),
    ("EEXIST", "ENOENT", "EACCES", "ESRCH", "EPERM", "EINTR", "EAGAIN"),
)
OPERATORS: dict[str, tuple[str, ...]] = {
    "==": ("!=",),
    "!=": ("==",),
    "<": ("<=", ">"),
    ">": (">=", "<"),
    "<=": ("<",),
    ">=": (">",),
    "&&": ("||",),
    "||": ("&&",),
    "!": ("",),
    "++": ("--",),
    "+": ("-",),
    "-": ("+",),
}
BINARY = frozenset("<>+-")
"""Of these only those with something before them."""


@dataclass(frozen=True)
class Mutant:
    """One wrong token.

    Args:
        file: relative to the source tree.
        offset: in characters from the start of the file.
        line: from 1.
        function: the C function around it.
    """

    file: str
    offset: int
    line: int
    function: str
    old: str
    new: str

    def __str__(self) -> str:
        place = f"{Path(self.file).name}:{self.line} {self.function}()"
        return f"{place}  {self.old} -> {self.new or 'nothing'}"


class Verdict(enum.Enum):
    """What became of a mutant."""

    SAME = "the same program"
    NO_BUILD = "does not compile"
    KILLED = "killed"
    ALIVE = "not found"


def words(text: str) -> Iterator[tuple[int, object, str]]:
    """The tokens of a C file, operators of several characters in one piece."""
    tokens = CLexer().get_tokens_unprocessed(text)
    for kind, group in groupby(tokens, key=lambda token: token[1]):
        run = list(group)
        if kind is Operator:
            yield run[0][0], kind, "".join(token[2] for token in run)
        else:
            yield from run


def mutants(tree: Path, file: str) -> list[list[Mutant]]:
    """For each place in the scope of a file the wrong tokens that may stand there."""
    text = (tree / file).read_text(encoding="utf-8")
    wanted = re.compile(FUNCTIONS.get(file, r"\w+"))
    depth, function, before, found = 0, "", "", []
    for offset, kind, word in words(text):
        if kind in Comment or kind in String or kind in Token.Text:
            continue
        if kind in Name and depth == 0:
            function = word if text[offset - 1] == "\n" else function
        depth += word.count("{") - word.count("}")
        if depth > 0 and wanted.fullmatch(function):
            line = text.count("\n", 0, offset) + 1
            others = wrong_words(kind, word, before)
            found.append([Mutant(file, offset, line, function, word, other) for other in others])
        before = word
    return [place for place in found if place]


def wrong_words(kind: object, word: str, before: str) -> tuple[str, ...]:
    """What may stand for this token by mistake."""
    if kind in Number and word.isdigit():
        return (str(int(word) + 1), *(("0",) if word != "0" else ()))
    if word in BINARY and not re.fullmatch(r"\w+|[)\]]", before):
        return ()
    for family in FAMILIES:
        if word in family:
            return tuple(other for other in family if other != word)
    return OPERATORS.get(word, ())


def sample(tree: Path, seed: int, count: int) -> list[Mutant]:
    """So many mutants, at places drawn by the weight of their files."""
    chance = random.Random(seed)
    by_file = {file: mutants(tree, file) for file in SCOPE}
    drawn: dict[tuple[str, int], Mutant] = {}
    while len(drawn) < count:
        file = chance.choices(list(SCOPE), weights=list(SCOPE.values()))[0]
        mutant = chance.choice(chance.choice(by_file[file]))
        drawn.setdefault((file, mutant.offset), mutant)
    return list(drawn.values())


def build(tree: Path, prefix: Path, mutant: Mutant, place: Path) -> Verdict | None:
    """Make the mutant's program beside links to all others; None if it can be tried."""
    source = tree / mutant.file
    right = source.read_text(encoding="utf-8")
    end = mutant.offset + len(mutant.old)
    directory = tree / ("src/bin/pg_ctl" if "/bin/" in mutant.file else "src/backend")
    name = "pg_ctl" if "/bin/" in mutant.file else "postgres"
    source.write_text(right[: mutant.offset] + mutant.new + right[end:], encoding="utf-8")
    try:
        made = subprocess.run(
            ["make", "-s", "-C", directory, name], capture_output=True, check=False
        )
    finally:
        source.write_text(right, encoding="utf-8")
    if made.returncode != 0:
        return Verdict.NO_BUILD
    program = directory / name
    if program.read_bytes() == (prefix / "bin" / name).read_bytes():
        return Verdict.SAME
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run(["cp", "-al", prefix, place], check=True)
    (place / "bin" / name).unlink()
    shutil.copy2(program, place / "bin" / name)
    return None


def judge(place: Path, workers: int, limit_s: float) -> tuple[Verdict, str]:
    """Run the suite until something fails."""
    suite = [sys.executable, "-m", "pytest", "conformance/", "-x", "-q", "-n", str(workers)]
    try:
        done = subprocess.run(
            [*suite, "--target", str(place / "bin")],
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Verdict.KILLED, f"not over in {limit_s:g} s"
    if done.returncode == 0:
        return Verdict.ALIVE, ""
    failed = re.findall(r"^(?:FAILED|ERROR) \S+::(\S+)|^(?:! )?(self-test .*)", done.stdout, re.M)
    return Verdict.KILLED, "".join(failed[0]) if failed else f"exit status {done.returncode}"


def main(
    source: Annotated[Path, typer.Option(help="a built tree of PostgreSQL 18, changed in place")],
    prefix: Annotated[Path, typer.Option(help="where that tree has been installed")],
    seed: Annotated[int, typer.Option(help="of the sample")] = 1,
    count: Annotated[int, typer.Option(help="how many mutants")] = 40,
    skip: Annotated[int, typer.Option(help="how many of the sample were tried before")] = 0,
    workers: Annotated[int, typer.Option(help="pytest -n")] = 3,
    limit: Annotated[float, typer.Option(help="seconds for one run of the suite")] = 1200.0,
    place: Annotated[Path, typer.Option(help="where mutants are put")] = Path("/tmp/pglife-mutant"),
) -> None:
    """Print one line a mutant, and the share that was found of those that differ."""
    found = dict.fromkeys(Verdict, 0)
    for mutant in sample(source, seed, count)[skip:]:
        reason = ""
        verdict = build(source, prefix, mutant, place)
        if verdict is None:
            verdict, reason = judge(place, workers, limit)
        found[verdict] += 1
        print(f"{verdict.value:<18}{mutant}  {reason}".rstrip(), flush=True)
    tried = found[Verdict.KILLED] + found[Verdict.ALIVE]
    print(f"{found[Verdict.KILLED]} of {tried} found, {count - skip - tried} not to be tried")


if __name__ == "__main__":
    typer.run(main)
