"""Kinds of process: one row of a table each, with its titles, its name in the log, its signals.

Begin with Kind and FACTS. The kinds that the model has stand in the same table.

Source: rules TI-01 to TI-32 (init_ps_display() and set_ps_display() in each process's main
function), RP-10 to RP-27 (postmaster.c: CleanupBackend(), process_pm_child_exit()), SG-10 to SG-20
(pqsignal() in each process's main function).
"""

import re
from dataclasses import dataclass
from enum import Enum
from signal import SIGINT, SIGTERM, Signals

from pglife_spec import Kind as ModelKind

PREFIX = "postgres: "

#: User, database, and address: a title that is being written has less (TI-20).
_SESSION = re.compile(r".+ .+ (\[local\]|\S+\(\d+\))( .*)?", re.DOTALL)


class Kind(Enum):
    """What a process is, under the name that its title gives it."""

    UNKNOWN = "unknown"
    """A child that has not set its title: before its startup packet, or dead-end (TI-22, TI-23)."""
    UNAUTHENTICATED = "unauthenticated backend"
    """A child of kind UNKNOWN before its startup packet; only a client of ours can tell."""
    DEAD_END = "dead-end child"
    """A child of kind UNKNOWN that will refuse its client; only a client of ours can tell."""
    STARTUP = "startup"
    CHECKPOINTER = "checkpointer"
    BACKGROUND_WRITER = "background writer"
    WALWRITER = "walwriter"
    AUTOVACUUM_LAUNCHER = "autovacuum launcher"
    AUTOVACUUM_WORKER = "autovacuum worker"
    ARCHIVER = "archiver"
    WALRECEIVER = "walreceiver"
    WALSUMMARIZER = "walsummarizer"
    SLOTSYNC_WORKER = "slotsync worker"
    IO_WORKER = "io worker"
    LOGGER = "logger"
    LOGICAL_REPLICATION_LAUNCHER = "logical replication launcher"
    LOGICAL_REPLICATION_WORKER = "logical replication worker"
    PARALLEL_WORKER = "parallel worker"
    AUTOPREWARM_LEADER = "autoprewarm leader"
    AUTOPREWARM_WORKER = "autoprewarm worker"
    WALSENDER = "walsender"
    CLIENT_BACKEND = "client backend"

    def __str__(self) -> str:
        return self.value

    def name_in_log(self, major: int) -> str:
        """What the postmaster of this release calls such a child when it logs the child's death."""
        facts = FACTS[self]
        return facts.log_name if major >= 18 or facts.has_old_name else _SERVER_PROCESS

    @property
    def ignores(self) -> frozenset[Signals]:
        """The signals that such a child ignores, so that the kernel drops them (SG-10 to SG-20)."""
        return FACTS[self].ignores

    @property
    def fine_exits(self) -> frozenset[int]:
        """The exit statuses that are no crash; empty if rules of its own decide."""
        return FACTS[self].fine_exits

    @property
    def model(self) -> ModelKind | None:
        """The model's kind; None if the model has no such process, or the title does not tell."""
        return FACTS[self].model


@dataclass(frozen=True)
class Facts:
    """One kind.

    Args:
        log_name: its name in the log line about its death.
        has_old_name: whether it has this name before 18 too, and is no "server process".
        titles: the first words after the prefix, if they are not the kind's name.
        ignores: the signals of the postmaster that it ignores.
        fine_exits: the exit statuses that are no crash.
        model: its kind in the model.
    """

    log_name: str
    has_old_name: bool = True
    titles: tuple[str, ...] = ()
    ignores: frozenset[Signals] = frozenset()
    fine_exits: frozenset[int] = frozenset()
    model: ModelKind | None = None


_SERVER_PROCESS = "server process"
_WORKER = "background worker"
_ZERO, _ZERO_OR_ONE = frozenset({0}), frozenset({0, 1})
_INT, _TERM = frozenset({SIGINT}), frozenset({SIGTERM})

FACTS: dict[Kind, Facts] = {
    Kind.UNKNOWN: Facts("client backend", False),
    Kind.UNAUTHENTICATED: Facts("client backend", False, fine_exits=_ZERO_OR_ONE),
    Kind.DEAD_END: Facts("dead-end client backend", False, fine_exits=_ZERO_OR_ONE),
    Kind.STARTUP: Facts("startup process", ignores=_INT, model=ModelKind.STARTUP),
    Kind.CHECKPOINTER: Facts("checkpointer process", ignores=_TERM, model=ModelKind.CHECKPOINTER),
    Kind.BACKGROUND_WRITER: Facts(
        "background writer process", ignores=_INT, fine_exits=_ZERO, model=ModelKind.BG_WRITER
    ),
    Kind.WALWRITER: Facts("WAL writer process", fine_exits=_ZERO, model=ModelKind.WAL_WRITER),
    Kind.AUTOVACUUM_LAUNCHER: Facts(
        "autovacuum launcher process", fine_exits=_ZERO, model=ModelKind.AUTOVAC_LAUNCHER
    ),
    Kind.AUTOVACUUM_WORKER: Facts("autovacuum worker", False, fine_exits=_ZERO_OR_ONE),
    Kind.ARCHIVER: Facts(
        "archiver process", ignores=_INT, fine_exits=_ZERO_OR_ONE, model=ModelKind.ARCHIVER
    ),
    Kind.WALRECEIVER: Facts(
        "WAL receiver process", fine_exits=_ZERO_OR_ONE, model=ModelKind.WAL_RECEIVER
    ),
    Kind.WALSUMMARIZER: Facts(
        "WAL summarizer process", fine_exits=_ZERO, model=ModelKind.WAL_SUMMARIZER
    ),
    Kind.SLOTSYNC_WORKER: Facts(
        "slot sync worker process", fine_exits=_ZERO_OR_ONE, model=ModelKind.SLOTSYNC_WORKER
    ),
    Kind.IO_WORKER: Facts(
        "io worker", ignores=_TERM, fine_exits=_ZERO_OR_ONE, model=ModelKind.IO_WORKER
    ),
    Kind.LOGGER: Facts("system logger process", model=ModelKind.LOGGER),
    Kind.LOGICAL_REPLICATION_LAUNCHER: Facts(
        f'{_WORKER} "logical replication launcher"',
        fine_exits=_ZERO_OR_ONE,
        model=ModelKind.BG_WORKER,
    ),
    Kind.LOGICAL_REPLICATION_WORKER: Facts(
        f'{_WORKER} "logical replication apply worker"',  # an apply worker's since 17
        titles=(
            "logical replication worker",
            "logical replication apply worker",
            "logical replication tablesync worker",
            "logical replication parallel apply worker",
        ),
        fine_exits=_ZERO_OR_ONE,
    ),
    Kind.PARALLEL_WORKER: Facts(f'{_WORKER} "parallel worker"', fine_exits=_ZERO_OR_ONE),
    Kind.AUTOPREWARM_LEADER: Facts(f'{_WORKER} "autoprewarm leader"', fine_exits=_ZERO_OR_ONE),
    Kind.AUTOPREWARM_WORKER: Facts(f'{_WORKER} "autoprewarm worker"', fine_exits=_ZERO_OR_ONE),
    Kind.WALSENDER: Facts(
        "client backend", False, fine_exits=_ZERO_OR_ONE, model=ModelKind.WAL_SENDER
    ),
    Kind.CLIENT_BACKEND: Facts(
        "client backend", False, fine_exits=_ZERO_OR_ONE, model=ModelKind.BACKEND
    ),
}

_WITHOUT_TITLE = {Kind.UNKNOWN, Kind.UNAUTHENTICATED, Kind.DEAD_END, Kind.CLIENT_BACKEND}
_BY_TITLE = [
    (words, kind)
    for kind, facts in FACTS.items()
    if kind not in _WITHOUT_TITLE
    for words in facts.titles or (kind.value,)
]


def kind_of_title(title: str, cluster_name: str = "") -> Kind:
    """The kind that a title names; a client backend if it names user, database and address.

    A role called like a background process would be mistaken for one; the suite names its roles
    itself.
    """
    if not title.startswith(PREFIX):
        return Kind.UNKNOWN
    rest = title.removeprefix(PREFIX)
    if cluster_name:
        rest = rest.removeprefix(f"{cluster_name}: ")
    for words, kind in _BY_TITLE:
        if rest == words or rest.startswith(words + " "):
            return kind
    return Kind.CLIENT_BACKEND if _SESSION.fullmatch(rest) else Kind.UNKNOWN


def as_kind(name: Kind | str) -> Kind:
    """A kind by its name.

    Raises:
        ValueError: there is no such kind.
    """
    return name if isinstance(name, Kind) else Kind(name)
