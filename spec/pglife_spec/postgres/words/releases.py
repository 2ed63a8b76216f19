"""The releases of PostgreSQL: one row each, and the features in which they differ.

Begin with RELEASES. An action or a claim asks for a feature (`has(Feature.IO_WORKERS)`), never for
a number, so that a new release is a new row.
"""

import enum
from dataclasses import dataclass
from functools import cache

from pglife_spec.lang.expr import INT, Expr, LanguageError, Param, in_


class Feature(enum.Enum):
    """What some releases have and others do not, as far as the model can show it."""

    IO_WORKERS = "io workers exist (IO-01)"
    SLOTSYNC_WORKER = "a worker synchronizes replication slots on a standby (WS-20)"
    CHECKPOINTER_OUTLIVES_WAL = (
        "the checkpointer writes the shutdown checkpoint at SIGINT, reports it, and exits at "
        "SIGUSR2 as the last child; without it, it writes the checkpoint at SIGUSR2 and exits "
        "(SG-11, TR18-22 to TR18-28, TR17-19 to TR17-23)"
    )
    DEAD_END_IS_A_KIND = (
        "dead-end children are a kind of their own, which SIGQUIT and SIGKILL reach; without it, "
        "only the SIGQUIT of a crash reaches them (SM-23, CR-08)"
    )
    ONE_CHILD_LIST = (
        "all children are on one list, and PM_WAIT_DEAD_END waits until only the logger is left; "
        "without it, it waits for backends and background workers only (SM-09)"
    )
    AWAITED_ARE_SIGNALED = (
        "PM_STOP_BACKENDS signals every kind that PM_WAIT_BACKENDS waits for; without it, a crash "
        "waits for a checkpointer to which nothing was sent (SM-02, MM-02)"
    )
    HANDLE_FATAL_ERROR = (
        "HandleFatalError() handles a crash, and a crash during a crash or an immediate shutdown "
        "changes nothing; without it, it still sets the state and the timer (TR18-09, TR17-09)"
    )
    SLOT_POOLS = "each kind has a pool of child slots; without it, all share one number (SV-40)"
    REAPER_FORKS_CHILDREN = (
        "entering PM_RUN forks the missing background processes at once; without it, the main "
        "loop does so later (TR17-04, PR-24)"
    )
    WAIT_EVENT_SET = (
        "the main loop waits on an event set and handles all events that one wait reported "
        "(SL-01, SL-08); without it, PM_WAIT_DEAD_END accepts no client at all (SL-07)"
    )
    WORK_IN_HANDLERS = (
        "each signal's handler does the work, in the order of the signals' numbers; without it, "
        "handlers set flags and the strongest shutdown request counts (SV-22, SG-08)"
    )
    WAL_SUMMARIZER = "the WAL summarizer exists (WS-01)"
    PM_STATE_IS_LOGGED = "each change of pmState is logged at DEBUG1 (PM-01)"


@dataclass(frozen=True)
class Release:
    """A major release.

    Args:
        number: the major version.
        features: what it has.
        verified: whether the model was compared with the source and with a running server. Only
            verified releases can be explored, proved and simulated.
        evidence: what the row rests on, and what the model lacks if it is not verified.
    """

    number: int
    features: frozenset[Feature]
    verified: bool
    evidence: str


RELEASES = (
    Release(
        14,
        frozenset({Feature.REAPER_FORKS_CHILDREN, Feature.WORK_IN_HANDLERS}),
        verified=False,
        evidence="the model lacks its late checkpointer and background writer, its smart shutdown "
        "and its statistics collector (TR14-01 to TR14-07)",
    ),
    Release(
        15,
        frozenset({Feature.REAPER_FORKS_CHILDREN, Feature.WORK_IN_HANDLERS}),
        verified=True,
        evidence="the source and a running server of 15.18",
    ),
    Release(
        16,
        frozenset({Feature.REAPER_FORKS_CHILDREN, Feature.WAIT_EVENT_SET}),
        verified=False,
        evidence="neither its source was read nor a server of it run: inferred from 15, 17 and the "
        "release notes",
    ),
    Release(
        17,
        frozenset(
            {
                Feature.REAPER_FORKS_CHILDREN,
                Feature.WAIT_EVENT_SET,
                Feature.WAL_SUMMARIZER,
                Feature.SLOTSYNC_WORKER,
            }
        ),
        verified=False,
        evidence="the source of 17.11 was read, but no server of it was run",
    ),
    Release(
        18,
        frozenset(Feature) - {Feature.REAPER_FORKS_CHILDREN, Feature.WORK_IN_HANDLERS},
        verified=True,
        evidence="the source and a running server of 18.6",
    ),
)

VERIFIED = tuple(release for release in RELEASES if release.verified)
NEWEST = VERIFIED[-1]

VERSION = Param("version", INT, "major version of PostgreSQL")


def release_of(number: object) -> Release:
    """The release with a major version.

    Raises:
        LanguageError: the table has no such release.
    """
    for release in RELEASES:
        if release.number == number:
            return release
    known = ", ".join(str(release.number) for release in RELEASES)
    raise LanguageError(f"no release {number!r}; the releases known are {known}")


@cache
def has(feature: Feature) -> Expr:
    """Whether the machine's release has a feature."""
    return in_(VERSION, *(r.number for r in VERIFIED if feature in r.features))
