"""What the logger does with its pipe: messages in chunks from many processes, and other text.

Any process that inherits the server's stderr may write to the pipe. The scenarios write chunks as
write_pipe_chunks() (elog.c) does, for pids that cannot exist. No other process logs meanwhile, so
the file has exactly these bytes. The logger writes line by line, so each text ends with a newline.

Source: postmaster/syslogger.c: process_pipe_input(), flush_pipe_input(), write_syslogger_file();
include/postmaster/syslogger.h: PipeProtoHeader.
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.processes.logger.test_files import LOG, expect_noted, say

INPUT = "syslogger.c: process_pipe_input()"
NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.LOGGER, Need.FULL_SQL]
SILENT = pytest.mark.unmonitored("a server that says nothing cannot be followed")

STDERR, CSVLOG, JSONLOG = 0x10, 0x20, 0x40
IS_LAST = 0x01
PAYLOAD = 4096 - 9
"""The most that a chunk can hold: with its header it is one atomic write (PIPE_BUF of Linux)."""
ANNE = 1 << 22
"""A pid that no process of Linux has."""
BEN = ANNE + 256
CARL = ANNE + 512
"""Of the 256 lists of the logger these three share one."""
DORA = ANNE + 1


def chunk(
    text: bytes,
    pid: int = ANNE,
    *,
    last: bool = True,
    kinds: int = STDERR,
    nuls: bytes = b"\0\0",
    length: int | None = None,
) -> bytes:
    """One chunk of a message, or what looks like one."""
    flags = kinds | (IS_LAST if last else 0)
    return struct.pack("=2sHiB", nuls, len(text) if length is None else length, pid, flags) + text


def piece(text: bytes, pid: int = ANNE, kinds: int = STDERR) -> bytes:
    """A chunk that is not the last one of its message."""
    return chunk(text, pid, last=False, kinds=kinds)


@dataclass
class Pipe:
    """The write end of the logger's pipe, and the files that the logger writes."""

    cluster: Cluster
    logger: Pid
    stderr: int
    began: dict[Path, int] = field(default_factory=dict)

    def write(self, words: bytes) -> None:
        """Write in one write(), so that no other process's bytes are in between."""
        assert os.write(self.stderr, words) == len(words)

    def written(self, name: str = LOG) -> bytes:
        """What the logger has written to this file."""
        path = self.cluster.data / name
        return path.read_bytes()[self.began.get(path, 0) :]

    def expect(self, words: bytes, name: str = LOG) -> None:
        """Wait until the file has these words and, with the pipe empty, nothing else."""
        self.cluster.wait_for(
            f"{words[:60]!r} in {name}",
            lambda: len(self.written(name)) >= len(words),
            describe=lambda: repr(self.written(name)[:300]),
        )
        self.cluster.expect_idle(self.logger)
        assert self.written(name) == words

    def expect_nothing_yet(self) -> None:
        """The logger has read all of the pipe, and no message is complete."""
        self.cluster.expect_idle(self.logger)
        assert self.written() == b""


def expect_silence(cluster: Cluster) -> None:
    """From now on no process logs anything that the settings ask for."""
    say(cluster, log_min_messages="panic")
    rests = [IdleProbe(cluster.pid), *(IdleProbe(kid.pid) for kid in cluster.children())]
    for rest in rests:
        cluster.wait_for("all to have heard of it", rest.is_idle)


@contextlib.contextmanager
def our_own_end(cluster: Cluster) -> Iterator[Pipe]:
    """A write end of the logger's pipe that no other process writes to."""
    expect_silence(cluster)
    try:
        stderr = os.open(f"/proc/{cluster.pid}/fd/2", os.O_WRONLY)
    except PermissionError as problem:
        raise Inconclusive("the server's stderr, to be written to", str(problem)) from problem
    try:
        pipe = Pipe(cluster, cluster.child(Kind.LOGGER).pid, stderr)
        for path in (cluster.data / "log").iterdir():
            pipe.began[path] = path.stat().st_size
        yield pipe
    finally:
        # Else the logger would never see the end of its pipe.
        os.close(stderr)


# Messages.

LONG = [bytes([letter]) * PAYLOAD for letter in b"abcde"]
LAST = b"z" * (PAYLOAD - 1) + b"\n"

MESSAGES: dict[str, tuple[list[bytes], bytes]] = {
    "one chunk": ([chunk(b"alone\n")], b"alone\n"),
    "one letter": ([chunk(b"x"), chunk(b"\n")], b"x\n"),
    "two chunks": ([piece(b"one "), chunk(b"two\n")], b"one two\n"),
    "many chunks": ([*map(piece, LONG), chunk(b"end\n")], b"".join(LONG) + b"end\n"),
    "full to the end": ([*map(piece, LONG[:2]), chunk(LAST)], LONG[0] + LONG[1] + LAST),
    "one after the other": (
        [piece(b"one "), piece(b"two "), chunk(b"three\n"), piece(b"four "), chunk(b"five\n")],
        b"one two three\nfour five\n",
    ),
    "a short one after a long one": (
        [piece(b"one "), chunk(b"two\n"), chunk(b"three\n")],
        b"one two\nthree\n",
    ),
    "two at once": (
        [piece(b"Anne "), piece(b"Dora ", DORA), chunk(b"A\n"), chunk(b"D\n", DORA)],
        b"Anne A\nDora D\n",
    ),
    "three in one list": (
        [
            *(piece(b"Anne "), piece(b"Ben ", BEN), piece(b"Carl ", CARL), piece(b"1 ", BEN)),
            # Ben's place is free again: for a message that is whole it is not needed.
            *(chunk(b"2\n", BEN), chunk(b"Ben again\n", BEN)),
            *(piece(b"Ben ", BEN), piece(b"3 ", CARL), piece(b"4 ")),
            *(chunk(b"5\n", CARL), chunk(b"6\n"), chunk(b"7\n", BEN)),
        ],
        b"Ben 1 2\nBen again\nCarl 3 5\nAnne 4 6\nBen 7\n",
    ),
    "a whole one amid another": (
        [piece(b"Anne "), chunk(b"Ben\n", BEN), chunk(b"Dora\n", DORA), chunk(b"A\n")],
        b"Ben\nDora\nAnne A\n",
    ),
}


@claim("LG-03", source=INPUT, needs=NEEDS)
@SILENT
@settings(logging_collector="on")
def test_messages_are_put_together(cluster: Cluster) -> None:
    """A message is written whole, however it is split and whichever others are incomplete."""
    with our_own_end(cluster) as pipe:
        written = b""
        for writes, wanted in MESSAGES.values():
            for words in writes:
                pipe.write(words)
            written += wanted
            pipe.expect(written)


@claim("LG-03", source=INPUT, needs=NEEDS)
@SILENT
@settings(logging_collector="on")
def test_chunks_that_arrive_together(cluster: Cluster) -> None:
    """However many chunks are read at once, the logger handles each separately."""
    with our_own_end(cluster) as pipe:
        written = b""
        for writes, wanted in MESSAGES.values():
            if sum(map(len, writes)) <= 4096:
                pipe.write(b"".join(writes))
                written += wanted
                pipe.expect(written)


@claim("LG-03", source=INPUT, needs=NEEDS)
@SILENT
@settings(logging_collector="on")
@pytest.mark.parametrize("cut", [1, 2, 8, 9, 10, 14])
def test_incomplete_chunk_waits_for_its_rest(cluster: Cluster, cut: int) -> None:
    """An incomplete chunk waits for its rest, alone or after a complete one."""
    words = chunk(b"in two parts\n")
    with our_own_end(cluster) as pipe:
        pipe.write(words[:cut])
        pipe.expect_nothing_yet()
        pipe.write(words[cut:] + words[:cut])
        pipe.expect(b"in two parts\n")
        pipe.write(words[cut:])
        pipe.expect(2 * b"in two parts\n")


# What is no message.

STRANGE = b"uttered by strangers\n"

NO_MESSAGES: dict[str, bytes] = {
    "words": STRANGE,
    "ten letters": b"stranger!\n",
    "the first nul is missing": chunk(STRANGE, nuls=b"x\0"),
    "the second nul is missing": chunk(STRANGE, nuls=b"\0x"),
    "no length": chunk(STRANGE, length=0),
    "too long": chunk(STRANGE, length=PAYLOAD + 1),
    "nobody's": chunk(STRANGE, pid=0),
    "of no kind": chunk(STRANGE, kinds=0),
    "of two kinds": chunk(STRANGE, kinds=STDERR | CSVLOG),
    "of two other kinds": chunk(STRANGE, kinds=STDERR | JSONLOG),
    "of two structured kinds": chunk(STRANGE, kinds=CSVLOG | JSONLOG),
    "of all kinds": chunk(STRANGE, kinds=STDERR | CSVLOG | JSONLOG),
}


@claim("LG-03", source=INPUT, needs=NEEDS)
@SILENT
@settings(logging_collector="on")
def test_text_that_is_no_chunk_is_written_unchanged(cluster: Cluster) -> None:
    """Text that is no chunk is written unchanged, and the chunk after it is recognized."""
    with our_own_end(cluster) as pipe:
        written = b""
        for words in NO_MESSAGES.values():
            pipe.write(words)
            written += words
            pipe.expect(written)
            pipe.write(words + chunk(b"a message\n"))
            written += words + b"a message\n"
            pipe.expect(written)


@claim("LG-03", source=INPUT, needs=NEEDS)
@SILENT
@settings(logging_collector="on")
def test_text_shorter_than_a_chunk_waits(cluster: Cluster) -> None:
    """Text shorter than any chunk may be the start of one, and waits."""
    with our_own_end(cluster) as pipe:
        pipe.write(b"too short")
        pipe.expect_nothing_yet()
        pipe.write(b"\n")
        pipe.expect(b"too short\n")


# Kinds, and the end.


@claim("LG-03", source=INPUT, needs=NEEDS, since=15, why="there is no jsonlog before")
@SILENT
@settings(logging_collector="on")
def test_message_is_written_to_the_file_of_its_kind(cluster: Cluster) -> None:
    """A message is written to the file of its kind, or to the log if there is no such file."""
    csv, json = "log/postgresql.csv", "log/postgresql.json"
    with our_own_end(cluster) as pipe:
        # There is one file yet.
        words = chunk(b"CSV\n", kinds=CSVLOG) + chunk(b"JSON\n", kinds=JSONLOG)
        pipe.write(words)
        pipe.expect(b"CSV\nJSON\n")
    say(cluster, log_destination="stderr,csvlog,jsonlog")
    expect_noted(cluster, f"stderr {LOG}", f"csvlog {csv}", f"jsonlog {json}")
    with our_own_end(cluster) as pipe:
        pipe.write(words)
        pipe.expect(b"CSV\n", csv)
        pipe.expect(b"JSON\n", json)
        pipe.write(piece(b"C ", kinds=CSVLOG) + piece(b"D ", DORA, kinds=JSONLOG))
        pipe.write(piece(b"E ", BEN) + chunk(b"S\n", kinds=CSVLOG))
        pipe.write(chunk(b"J\n", DORA, kinds=JSONLOG) + chunk(b"T\n", BEN))
        pipe.expect(b"CSV\nC S\n", csv)
        pipe.expect(b"JSON\nD J\n", json)
        pipe.expect(b"E T\n")
        pipe.write(STRANGE)
        pipe.expect(b"E T\n" + STRANGE)


@claim("LG-03", source="syslogger.c: flush_pipe_input()", needs=NEEDS)
@SILENT
@settings(logging_collector="on")
def test_incomplete_messages_are_written_at_the_end(cluster: Cluster) -> None:
    """At the end of its pipe the logger writes incomplete messages and all bytes left over."""
    with our_own_end(cluster) as pipe:
        pipe.write(piece(b"Anne\n") + piece(b"Dora, ", DORA) + piece(b"not Ben\n", BEN))
        pipe.write(piece(b"and more of her\n", DORA) + chunk(b"Ben is whole\n", BEN))
        pipe.write(chunk(b"cut off")[:12])
        pipe.expect(b"not Ben\nBen is whole\n")
        cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
    wanted = b"not Ben\nBen is whole\nAnne\nDora, and more of her\n" + chunk(b"cut off")[:12]
    cluster.wait_for(
        "all of it", lambda: pipe.written() == wanted, describe=lambda: repr(pipe.written())
    )
