"""A bundled server under test, started as an ordinary user. Begin with Cluster and Client."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPL = str(ROOT / "impl")
SERVER_UID = 65534
DEADLINE_S = 60.0  # enough on a busy machine; on an idle one waits take a second or two
LOOK_AGAIN_S = 0.01
PORT = 5432  # only names the Unix socket, in a directory of the cluster's own
HELPERS = {
    "io worker 0",
    "io worker 1",
    "io worker 2",
    "checkpointer ",
    "background writer ",
    "walwriter ",
    "autovacuum launcher ",
    "logical replication launcher ",
}
SETTINGS = f"""
port = {PORT}
listen_addresses = ''
log_min_messages = debug1
fsync = off
shared_preload_libraries = ''
"""


def as_server_user(command: list[str]) -> list[str]:
    """Wrap a command so that it runs as the servers' user if we are root, which servers refuse.

    The interpreter may be readable by root only, so that user keeps the capability to read.
    """
    if os.geteuid() != 0:
        return command
    keep = "+dac_read_search"
    return [
        "setpriv",
        f"--reuid={SERVER_UID}",
        f"--regid={SERVER_UID}",
        "--clear-groups",
        f"--inh-caps={keep}",
        f"--ambient-caps={keep}",
        *command,
    ]


def environment() -> dict[str, str]:
    """The environment for programs: with PYTHONPATH, without the user's PG* variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    return {**kept, "PYTHONPATH": IMPL, "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1"}


def module(name: str, *arguments: str) -> list[str]:
    """The command line of one of the server's programs."""
    return [sys.executable, "-m", f"pglife_impl.commands.{name}", *arguments]


def run(name: str, *arguments: str, as_root: bool = False) -> subprocess.CompletedProcess[str]:
    """Run one of the programs until it exits."""
    command = module(name, *arguments)
    return subprocess.run(
        command if as_root else as_server_user(command),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S * 3,
        check=False,
        cwd="/",
    )


def make_template(directory: Path) -> Path:
    """initdb, once for all tests."""
    open_to_server(directory)
    data = directory / "data"
    made = run("initdb", "-D", str(data), "-U", "postgres", "--no-sync")
    assert made.returncode == 0, made.stderr
    with open(data / "postgresql.conf", "a", encoding="utf-8") as conf:
        conf.write(SETTINGS)
    return data


def open_to_server(directory: Path) -> None:
    """Make the servers' user the owner of a directory, and its parents searchable."""
    if os.geteuid() == 0:
        os.chown(directory, SERVER_UID, SERVER_UID)
        for parent in directory.parents:
            if parent.stat().st_mode & 0o001 == 0 and str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | 0o011)


class Cluster:
    """One data directory and the server that runs on it."""

    def __init__(self, template: Path, home: Path) -> None:
        open_to_server(home)
        self.home = home
        self.data = home / "d"
        shutil.copytree(template, self.data, copy_function=shutil.copy2)
        if os.geteuid() == 0:
            for path in (self.data, *self.data.rglob("*")):
                os.chown(path, SERVER_UID, SERVER_UID)
        self.data.chmod(0o700)
        self.configure(f"unix_socket_directories = '{home}'")
        self.log_path = home / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.seen: set[int] = set()
        self.nproc = "unlimited"

    # --- the server -------------------------------------------------------------------------

    def configure(self, *lines: str) -> None:
        """Add lines to postgresql.conf."""
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.writelines(f"{line}\n" for line in lines)

    def start(self, *options: str, until_ready: bool = True) -> Cluster:
        """Start the postmaster, and wait until it accepts connections and all helpers run."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                as_server_user(module("postgres", "-D", str(self.data), *options)),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        if until_ready:
            self.wait_ready()
        return self

    def wait_ready(self, times: int = 1) -> None:
        """Wait until the server has become ready that many times and all helpers run."""
        line = "database system is ready to accept connections"
        self.wait(lambda: self.log().count(line) >= times, f"{times} times: {line}")
        self.wait(lambda: "walwriter " in self.children(), "the walwriter runs")
        # Forked last: when it runs, all others do.
        self.wait(lambda: "logical replication launcher " in self.children(), "the launcher runs")
        self.wait(self.every_child_has_a_title, "every child has a title")

    @property
    def pid(self) -> int:
        """The postmaster's pid."""
        assert self.process is not None
        return self.process.pid

    def signal(self, signum: int) -> None:
        """Signal the postmaster."""
        os.kill(self.pid, signum)

    def kill(self, title: str, signum: int) -> int:
        """Signal the child with that title (what follows `postgres: `); its pid."""
        pid = self.child(title)
        os.kill(pid, signum)
        return pid

    def child(self, title: str) -> int:
        """Wait for a child with that title; return its pid.

        Its handlers may not be installed yet, but signals are blocked until then, not lost.
        """
        pid = 0

        def found() -> bool:
            nonlocal pid
            pid = self.children().get(title, 0)
            return pid != 0

        self.wait(found, f"a child with the title {title!r}")
        return pid

    def has_exited(self) -> bool:
        """Whether the postmaster has exited."""
        return self.process is not None and self.process.poll() is not None

    def exit_code(self) -> int:
        """Wait until the postmaster exits; return its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"postmaster did not exit; log:\n{self.log()}") from None

    def destroy(self) -> None:
        """Kill every process that was seen here, if its pid still belongs to this cluster."""
        self.children()
        for pid in {*self.seen, *([self.process.pid] if self.process else [])}:
            if self._is_ours(pid):
                # Children exit by themselves after the postmaster, perhaps at this moment.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(DEADLINE_S)
        shutil.rmtree(self.home, ignore_errors=True)

    def _is_ours(self, pid: int) -> bool:
        command = command_line(pid)
        return bool(command) and ("postgres: " in command or str(self.data) in command)

    def forbid_forks(self, forbidden: bool = True) -> None:
        """Make the postmaster's forks fail, or succeed again, by its RLIMIT_NPROC (OB-13).

        prlimit runs as the servers' user: root may lack the capability.
        """
        if forbidden:
            with open(f"/proc/{self.pid}/limits", encoding="ascii") as file:
                line = next(line for line in file if line.startswith("Max processes"))
            self.nproc = line.split()[2]
        soft = "0" if forbidden else self.nproc
        command = ["prlimit", f"--pid={self.pid}", f"--nproc={soft}:"]
        subprocess.run(as_server_user(command), check=True)

    # --- observing ----------------------------------------------------------------------------

    def children(self) -> dict[str, int]:
        """The pids of running children by title, as ps shows it after `postgres: `.

        Of several children with the same title only the last is in it; titles() has all.
        """
        return {title: pid for pid, title in self.titles().items()}

    def titles(self) -> dict[int, str]:
        """The titles of running children by pid."""
        if self.process is None:
            return {}
        try:
            with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as file:
                pids = [int(pid) for pid in file.read().split()]
        except OSError:
            return {}
        self.seen.update(pids)
        found = {}
        for pid in pids:
            command = command_line(pid)
            if command and not is_zombie(pid):
                found[pid] = command.removeprefix("postgres: ")
        return found

    def every_child_has_a_title(self) -> bool:
        """Whether every child has set its title: a new one shows the postmaster's command line,
        and an io worker first has no number."""
        return not any(
            str(self.data) in title or title == "io worker " for title in self.titles().values()
        )

    def every_child_has_exited(self) -> bool:
        """Whether every child that was ever seen has exited. Children outlive a postmaster that is
        killed until they notice it."""
        return all(is_zombie(pid) for pid in self.seen)

    def log(self) -> str:
        """The complete lines that the server has written: the last one may be half written."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return text[: text.rfind("\n") + 1]

    def states(self) -> list[str]:
        """The states that the postmaster has entered, in order, from its DEBUG1 lines (PM-01)."""
        found = []
        for line in self.log().splitlines():
            _, sign, rest = line.partition("updating PMState from ")
            if sign:
                found.append(rest.partition(" to ")[2].removeprefix("PM_"))
        return found

    def pid_line(self, number: int) -> str:
        """One line of postmaster.pid; "" if it is missing."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return ""
        return lines[number - 1] if len(lines) >= number else ""

    def control_state(self) -> str:
        """The database cluster state that pg_controldata prints."""
        shown = run("pg_controldata", str(self.data)).stdout
        for line in shown.splitlines():
            if line.startswith("Database cluster state:"):
                return line.partition(":")[2].strip()
        raise AssertionError(shown)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition is true. `what` names it in the failure."""
        until = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > until:
                raise AssertionError(f"not within {DEADLINE_S} s: {what}; log:\n{self.log()}")
            time.sleep(LOOK_AGAIN_S)

    # --- clients ----------------------------------------------------------------------------

    def connect(self, *, silent: bool = False) -> Client:
        """Connect; unless `silent`, send a startup packet."""
        client = Client(str(self.home / f".s.PGSQL.{PORT}"))
        if not silent:
            client.startup("postgres", "postgres")
        return client


def command_line(pid: int) -> str:
    """The command line that ps shows; "" if the process does not exist."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            data = file.read()
    except OSError:
        return ""
    return data.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")


def is_zombie(pid: int) -> bool:
    """Whether a process has exited, reaped or not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Client:
    """A client that speaks the wire protocol, and returns messages as they arrive."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(path)
        self.buffer = b""
        self.key: tuple[int, bytes] = (0, b"")

    def startup(self, user: str, database: str) -> None:
        """Send a startup packet of protocol 3.0."""
        pairs = f"user\0{user}\0database\0{database}\0\0".encode()
        self.send_packet(struct.pack("!I", 3 << 16) + pairs)

    def send_packet(self, body: bytes) -> None:
        """A packet without a type byte."""
        self.socket.sendall(struct.pack("!I", len(body) + 4) + body)

    def query(self, text: str) -> None:
        """Send a simple query; until() reads the answer."""
        body = text.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)

    def message(self) -> tuple[str, bytes] | None:
        """The next message; None at end of file."""
        while True:
            if len(self.buffer) >= 5:
                (length,) = struct.unpack("!I", self.buffer[1:5])
                if len(self.buffer) > length:
                    kind, body = chr(self.buffer[0]), self.buffer[5 : 1 + length]
                    self.buffer = self.buffer[1 + length :]
                    if kind == "K":
                        self.key = (struct.unpack("!I", body[:4])[0], body[4:])
                    return kind, body
            try:
                data = self.socket.recv(8192)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.buffer += data

    def until(self, kind: str) -> list[tuple[str, bytes]]:
        """Messages up to and including the first of that kind, or up to end of file."""
        found = []
        while (message := self.message()) is not None:
            found.append(message)
            if message[0] == kind:
                break
        return found

    def ready(self) -> Client:
        """Wait for ReadyForQuery."""
        messages = self.until("Z")
        assert messages[-1][0] == "Z", messages
        return self

    def report(self) -> dict[str, str]:
        """The fields of the next error or notice; {} at end of file. Other messages are skipped."""
        while (message := self.message()) is not None:
            if message[0] in "EN":
                fields = [f.decode() for f in message[1].split(b"\0") if f]
                return {f[0]: f[1:] for f in fields}
        return {}

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()
