"""pg_ctl without a server: what it starts, believes, passes on and prints, word for word.

Begin with Stand: a directory that looks like a cluster, and a shell script for a postmaster, which
/bin/sh reads, for the directory may lie where nothing can be executed.
Source: rules CT-01, CT-02, CT-05, CT-06, CT-11, CT-18; src/bin/pg_ctl/pg_ctl.c.
"""

import contextlib
import os
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pglife_conformance.base.deadlines import START_LIMIT
from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.pytest.claims import claim
from pglife_conformance.targets.base import Finished, Program, RunningProgram

STAND_IN = [Need.PG_CTL, Need.PG_CTL_ANY_PROGRAM]
STARTED = "waiting for server to start.... done\nserver started\n"
GAVE_UP = "waiting for server to start.... stopped waiting\n"
TOO_SLOW = "pg_ctl: server did not start in time\n"
STAND_IN_LIFE_S = 60

SCRIPT = f"""
echo "$PG_GRANDPARENT_PID"
eval "set -- $1"
printf "$(($$ + $1))\\n$PGDATA\\n$(($(date +%s) + $2))\\n5432\\n\\n\\n\\n$3" > "$PGDATA/new"
mv "$PGDATA/new" "$PGDATA/postmaster.pid"
exec sleep {STAND_IN_LIFE_S}
"""
"""A stand-in for a postmaster: prints a given text, writes a given pid file and runs on."""


class Stand:
    """A data directory that only pg_ctl takes for one."""

    def __init__(self, cluster: Cluster, name: str = "stand") -> None:
        self.cluster = cluster
        self.data = cluster.directory / name
        self.data.mkdir(mode=0o700)
        self.log = self.data / "log"
        cluster.target.user.chown(self.data)
        self.write("PG_VERSION", f"{cluster.major}\n")
        self.script = self.write("script", SCRIPT)
        cluster.at_end.append(self.end)

    def write(self, name: str, text: str) -> Path:
        """A file of the server's user."""
        path = self.data / name
        path.write_text(text, encoding="utf-8")
        self.cluster.target.user.chown(path)
        return path

    def begin(self, *words: str, **env: str) -> RunningProgram:
        """Start pg_ctl; it finds the directory in PGDATA."""
        program = self.cluster.target.begin(
            Program.PG_CTL, words, run_id=self.cluster.run.id, env={"PGDATA": str(self.data), **env}
        )
        self.cluster.at_end.append(program.abandon)
        return program

    def run(self, *words: str, **env: str) -> Finished:
        """Run pg_ctl to its end."""
        return self.begin(*words, **env).finish(START_LIMIT * self.cluster.scale)

    def begin_start(self, pid_file: str, *words: str, **env: str) -> RunningProgram:
        """Start the stand-in, which writes this pid file: pid and start time by how much they
        are off, then what follows line 7."""
        options = ("-o", f'{self.script} "{pid_file}"', "-l", str(self.log))
        return self.begin("start", "-p", "/bin/sh", *options, *words, **env)

    @property
    def pid(self) -> Pid | None:
        """The stand-in's."""
        try:
            return Pid(int((self.data / "postmaster.pid").read_text(encoding="utf-8").split()[0]))
        except (OSError, IndexError):
            return None

    def wait_for_log(self) -> str:
        """The first line that the server has written."""

        def line() -> str | None:
            text = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
            return text if text.endswith("\n") else None

        return self.cluster.wait_for("what the server says", line)

    def end(self) -> None:
        """No process stays."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                then = (entry / "environ").read_bytes()
                if words[0] == b"sleep" and f"PGDATA={self.data}\0".encode() in then:
                    os.kill(int(entry.name), signal.SIGKILL)


def is_alive(pid: Pid) -> bool:
    """Whether there is such a process that has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    return False


@claim("CT-05", source="pg_ctl.c: wait_for_postmaster_start(), readfile()", needs=STAND_IN)
@pytest.mark.parametrize(
    "pid_file",
    [r"0 0 'ready   \n'", r"0 -2 'ready   \n'", r"0 99 'standby \nmore\n'", r"0 0 'ready   \r\n'"],
    ids=["ready", "two seconds old", "standby and more", "carriage return"],
)
def test_pid_file_that_says_started(stopped_cluster: Cluster, pid_file: str) -> None:
    """pg_ctl start ends at its child's pid, a recent start time and `ready` or `standby`."""
    done = Stand(stopped_cluster).begin_start(pid_file).finish(START_LIMIT * stopped_cluster.scale)
    assert (done.code, done.err) == (0, "")
    # pg_ctl prints one dot a second; the speed of the stand-in varies.
    assert done.out.replace(".", "") == STARTED.replace(".", "")


@claim("CT-05 CT-06", source="pg_ctl.c: wait_for_postmaster_start()", needs=STAND_IN)
def test_pid_files_that_do_not_say_so(stopped_cluster: Cluster) -> None:
    """A file of another process or an earlier start, another status, an unfinished last line."""
    files = {
        "other pid": r"1 0 'ready   \n'",
        "old": r"0 -30 'ready   \n'",
        "starting": r"0 0 'starting\n'",
        "stopping": r"0 0 'stopping\n'",
        "unpadded": r"0 0 'ready\n'",
        "unfinished": "0 0 'ready   '",
        "short": "0 0 ''",
    }
    begun = {
        name: Stand(stopped_cluster, name.replace(" ", "")).begin_start(text, "-t", "1")
        for name, text in files.items()
    }
    for name, program in begun.items():
        done = program.finish(START_LIMIT * stopped_cluster.scale)
        assert (name, done.code, done.out, done.err) == (name, 1, GAVE_UP, TOO_SLOW)


@claim("CT-02", source="pg_ctl.c: main()", needs=STAND_IN)
@pytest.mark.parametrize(
    ("words", "waits"),
    [
        (("-W", "-w"), True),
        (("--no-wait", "--wait"), True),
        (("-w", "-W"), False),
        (("--wait", "--no-wait"), False),
    ],
    ids=["-W -w", "no-wait wait", "-w -W", "wait no-wait"],
)
def test_last_word_on_waiting_counts(
    stopped_cluster: Cluster, words: tuple[str, ...], waits: bool
) -> None:
    """Of -w and -W the last one counts, long or short."""
    program = Stand(stopped_cluster).begin_start(r"0 0 'ready   \n'", *words)
    done = program.finish(START_LIMIT * stopped_cluster.scale)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("server started\n") == waits
    assert done.out.startswith("waiting for" if waits else "server starting\n")


@contextlib.contextmanager
def no_core_files() -> Iterator[int]:
    """We, and what we start, have a soft limit of 0; gives the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@claim("CT-05", source="pg_ctl.c: start_postmaster(), do_start()", needs=STAND_IN)
@pytest.mark.parametrize("core", ["-c", "--core-files", "-W"])
def test_what_a_server_is_born_with(stopped_cluster: Cluster, core: str) -> None:
    """Its own session, the pid of pg_ctl's parent, and with -c alone core files."""
    stand = Stand(stopped_cluster)
    with no_core_files() as hard:
        program = stand.begin_start(r"0 0 'ready   \n'", core, PG_GRANDPARENT_PID="1")
    done = program.finish(START_LIMIT * stopped_cluster.scale)
    assert done.code == 0
    wants_cores = core != "-W"
    refused = "pg_ctl: cannot set core file size limit; disallowed by hard limit\n"
    assert done.err == (refused if wants_cores and hard == 0 else "")
    assert stand.wait_for_log() == f"{os.getpid()}\n"
    pid = stopped_cluster.wait_for("the pid file", lambda: stand.pid)
    assert os.getsid(pid) == pid
    limits = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8").splitlines()
    soft = next(line for line in limits if line.startswith("Max core file size")).split()[4]
    unlimited = hard == resource.RLIM_INFINITY
    assert soft == (("unlimited" if unlimited else str(hard)) if wants_cores else "0")


@claim("CT-18", source="pg_ctl.c: trap_sigint_during_startup()", needs=STAND_IN)
def test_interrupt_is_passed_on_without_a_word(stopped_cluster: Cluster) -> None:
    """INT to a waiting start goes to the server, ends pg_ctl by INT, and draws no complaint."""
    stand = Stand(stopped_cluster)
    program = stand.begin_start(r"0 0 'starting\n'")
    pid = stopped_cluster.wait_for("the pid file", lambda: stand.pid)

    def catches() -> bool:
        text = Path(f"/proc/{program.pid}/status").read_text(encoding="utf-8")
        caught = next(line for line in text.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) & (1 << (signal.SIGINT - 1)))

    stopped_cluster.wait_for("pg_ctl to be ready for INT", catches)
    program.send(signal.SIGINT)
    done = program.finish(START_LIMIT * stopped_cluster.scale)
    assert (done.code, done.err) == (-signal.SIGINT, "")
    stopped_cluster.wait_for("the end of the server", lambda: not is_alive(pid))


ECHO = ("-p", "/bin/echo", "-W")


@claim("CT-01 CT-05", source="pg_ctl.c: main(), start_postmaster()", needs=STAND_IN)
@pytest.mark.parametrize("is_long", [False, True], ids=["short", "long"])
def test_arguments_of_the_server(stopped_cluster: Cluster, is_long: bool) -> None:
    """pg_ctl passes -D first, then every -o in order; the options for Windows have no effect."""
    stand = Stand(stopped_cluster)
    words = {"-D": "--pgdata", "-o": "--options", "-l": "--log"}
    named = [("-D", str(stand.data)), ("-o", "one two"), ("-o", "three"), ("-l", str(stand.log))]
    options = [word for name, value in named for word in (words[name] if is_long else name, value)]
    windows = ["-e", "source", "-N", "name", "-P", "word", "-U", "user"]
    done = stand.run("start", *options, *windows, *ECHO, PGDATA="/nowhere")
    assert (done.code, done.out, done.err) == (0, "server starting\n", "")
    assert stand.wait_for_log() == f"-D {stand.data} one two three\n"


@claim("CT-01 CT-05", source="pg_ctl.c: do_start(), main()", needs=STAND_IN)
def test_directory_named_by_the_environment(stopped_cluster: Cluster) -> None:
    """With PGDATA set and no -D, pg_ctl starts the server without -D."""
    stand = Stand(stopped_cluster)
    done = stand.run("start", "--silent", "-o", "one", "-l", str(stand.log), *ECHO)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert stand.wait_for_log() == "one\n"


@claim("CT-11", source="pg_ctl.c: read_post_opts(), do_start()", needs=STAND_IN)
@pytest.mark.parametrize(
    ("options", "expected"),
    [((), "-D here one two\n"), (("-o", "three"), "three\n")],
    ids=["of the last start", "new ones"],
)
def test_restart_repeats_the_last_command_line(
    stopped_cluster: Cluster, options: tuple[str, ...], expected: str
) -> None:
    """A restart repeats postmaster.opts; a new -o replaces all of its options, -D too."""
    stand = Stand(stopped_cluster)
    stand.write("postmaster.opts", '/bin/echo "-D" "here" "one two"\n')
    program = ECHO if options else ("-W",)
    words = ("-D", str(stand.data), "-l", str(stand.log))
    done = stand.run("restart", *options, *program, *words)
    assert (done.code, done.out) == (0, "server starting\n")
    assert stand.wait_for_log() == expected


@claim("CT-11", source="pg_ctl.c: read_post_opts()", needs=STAND_IN)
def test_named_program_is_preferred_at_restart(stopped_cluster: Cluster) -> None:
    """-p wins over the program of postmaster.opts, whose options stay."""
    stand = Stand(stopped_cluster)
    stand.write("postmaster.opts", '/bin/false "-D" "here"\n')
    done = stand.run("restart", "-l", str(stand.log), *ECHO)
    assert (done.code, done.out) == (0, "server starting\n")
    assert stand.wait_for_log() == "-D here\n"


@claim("CT-11", source="pg_ctl.c: read_post_opts()", needs=STAND_IN)
@pytest.mark.parametrize("text", ["", "/bin/echo", '/bin/echo "a"\n/bin/echo "b"\n'])
def test_restart_wants_one_line_of_options(stopped_cluster: Cluster, text: str) -> None:
    """A postmaster.opts that has not exactly one line ends a restart with 1."""
    stand = Stand(stopped_cluster)
    path = stand.write("postmaster.opts", text)
    done = stand.run("restart", "-l", str(stand.log), "-W")
    assert (done.code, done.out) == (1, "")
    expected = f'pg_ctl: option file "{path}" must have exactly one line\n'
    assert done.err.endswith(f"trying to start server anyway\n{expected}")
    assert not stand.log.exists()


@claim("CT-05", source="pg_ctl.c: main()", needs=STAND_IN)
@pytest.mark.parametrize(("directory", "file"), [(0o700, 0o600), (0o750, 0o640)], ids=oct)
def test_log_file_is_as_open_as_its_directory(
    stopped_cluster: Cluster, directory: int, file: int
) -> None:
    """A log file is made for the owner alone, or for the group where the directory is."""
    stand = Stand(stopped_cluster)
    stand.data.chmod(directory)
    assert stand.run("start", "-l", str(stand.log), *ECHO).code == 0
    stand.wait_for_log()
    assert stat.S_IMODE(stand.log.stat().st_mode) == file


@claim("CT-01", source="pg_ctl.c: do_init()", needs=STAND_IN)
@pytest.mark.parametrize("command", ["init", "initdb"])
def test_init_runs_initdb(stopped_cluster: Cluster, command: str) -> None:
    """pg_ctl passes -D and -o to initdb; -s silences it; when initdb fails pg_ctl exits 1."""
    stand = Stand(stopped_cluster)
    options = (command, "-D", str(stand.data), "-o", "-x y")
    done = stand.run(*options, "-p", "/bin/echo")
    assert (done.code, done.out, done.err) == (0, f"-D {stand.data} -x y\n", "")
    done = stand.run(command, "-p", "/bin/echo")
    assert (done.code, done.out, done.err) == (0, "\n", "")
    done = stand.run(*options, "-p", "/bin/echo", "-s")
    assert (done.code, done.out, done.err) == (0, "", "")
    done = stand.run(*options, "-p", "/bin/false")
    expected = "pg_ctl: database system initialization failed\n"
    assert (done.code, done.out, done.err) == (1, "", expected)
