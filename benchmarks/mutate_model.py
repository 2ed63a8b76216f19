"""How strong the claims are: random one-place changes of the declared text, and what finds them.

Begin with main(): `python benchmarks/mutate_model.py --sample 300 --seed 1`. The right machine is
explored under small configurations that together take every action, at most LIMIT states of each. A
change differs if in one of them some reached state has another step or other evidence; it is killed
if there a claim fails, a state is a deadlock, a count leaves its bounds, something that must be
possible is not, or a liveness property fails. The changes that survive are listed.
"""

import gc
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import typer

from pglife_spec.explore.changed import Explored, Outcome, Watching
from pglife_spec.explore.fair import Fair
from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Config
from pglife_spec.lang.mutate import Change, OnePlace
from pglife_spec.postgres.build import build
from pglife_spec.postgres.claims import WATCHES
from pglife_spec.postgres.configurations import config
from pglife_spec.postgres.possible import POSSIBLE
from pglife_spec.postgres.state.postmaster import EXITED
from pglife_spec.postgres.words import ArchiveMode
from pglife_spec.postgres.words.recovery import Target
from pglife_spec.postgres.words.releases import Feature, release_of
from pglife_spec.postgres.words.workers import WorkerStart

LIMIT = 100_000
"""So many states of a configuration are explored, nearest first; liveness needs all of them."""

_SETTINGS: dict[str, dict[str, Value]] = {
    "worker-once": {
        "worker_start": WorkerStart.RECOVERY_FINISHED,
        "worker_restarts": False,
    },
    "worker-consistent": {"worker_start": WorkerStart.CONSISTENT_STATE},
    "archiver": {"archive_mode": ArchiveMode.ALWAYS},
    "archiver-restart": {"archive_mode": ArchiveMode.ON, "restart_after_crash": True},
    "walsender": {
        "archive_mode": ArchiveMode.ON,
        "wal_senders": True,
        "backend": 1,
        "walsender": 1,
    },
    "launchers": {"logical_launcher": True, "autovacuum": True},
    "warm": {"standby": True, "hot_standby": False, "any_start": True},
    "target": {"recovery_target": Target.SHUTDOWN, "any_start": True},
    "promote": {"standby": True, "recovery_target": Target.PROMOTE},
    "pause": {"recovery_target": Target.PAUSE, "backend": 1},
    "stray": {"archive_mode": ArchiveMode.ON, "stray_signals": True},
    "worker": {"worker_start": WorkerStart.POSTMASTER_START},
    "worker-restart": {"worker_start": WorkerStart.POSTMASTER_START, "restart_after_crash": True},
    "refused": {"dead_end": 1},
    "session": {"backend": 1, "writers": True},
    "session-restart": {"backend": 1, "restart_after_crash": True},
    "log": {"logging_collector": True, "hot_standby": False, "reloads": True},
    "crowded": {"backend": 1, "dead_end": 1},
    "autovacuum": {"autovacuum": True, "autovac_workers": 1},
    "forks": {"fork_faults": True, "restart_after_crash": True},
    "standby": {"standby": True, "backend": 1},
    "emergency": {"wraparound": True, "autovac_workers": 1},
    "streaming": {"standby": True, "streaming": True, "reloads": True},
    "log-forks": {"fork_faults": True, "logging_collector": True},
}
_SETTINGS_18: dict[str, dict[str, Value]] = {
    "summarizer": {"summarize_wal": True},
    "io": {"io_workers": 1},
    "io-pool": {"io_workers": 2, "pool_changes": True, "reloads": True},
    "slot-sync": {"standby": True, "sync_slots": True},
}
_BOUNDED = ("backend", "dead_end", "walsender")


def configurations() -> Iterator[Config]:
    """Small ones that together take every action; all findings are repaired in them."""
    for version in (18, 15):
        newest = Feature.IO_WORKERS in release_of(version).features
        for name, settings in (_SETTINGS | (_SETTINGS_18 if newest else {})).items():
            values: dict[str, Value] = {
                "io_workers": 0,
                "writers": False,
                "restart_after_crash": False,
                **settings,
            }
            bounds = {kind: cast(int, values.pop(kind, 0)) for kind in _BOUNDED}
            yield config(f"{name}-{version}", version, repaired=True, bounds=bounds, **values)


@dataclass(frozen=True)
class Verdict:
    """What became of one change."""

    change: str
    differs: bool
    killed_by: str | None
    where: str


class Judge:
    """The right machine under all configurations, and what it says of a change."""

    def __init__(self, only: Sequence[str], say: bool = True) -> None:
        self.machine = build()
        watching = Watching(self.machine, WATCHES)
        self.bases: list[tuple[Explored, Fair]] = []
        for one in configurations():
            if only and one.name not in only:
                continue
            started = time.monotonic()
            number = one.params["version"]
            logged = Feature.PM_STATE_IS_LOGGED in release_of(number).features
            base = Explored(
                self.machine,
                one,
                final=EXITED,
                watching=watching,
                possible=POSSIBLE,
                hidden=frozenset() if logged else frozenset({"pmstate"}),
                limit=LIMIT,
            )
            fair = Fair(base.program, self.machine.properties if base.complete else ())
            self.bases.append((base, fair))
            if say:
                took = time.monotonic() - started
                print(f"{one.name}: {len(base.steps):,} states, {took:.0f} s", flush=True)
        self.bases.sort(key=lambda pair: len(pair[0].steps))
        gc.freeze()

    def verdict(self, change: Change) -> Verdict:
        """Whether the change differs, and what kills it first."""
        differs: list[tuple[Explored, Fair, Outcome]] = []
        for base, fair in self.bases:
            found = base.judge(change.action)
            if found.killed_by:
                return Verdict(str(change), True, found.killed_by, base.program.config.name)
            if found.differs:
                differs.append((base, fair, found))
        for base, fair, found in differs:
            broken = None
            if found.steps and found.complete:
                broken = fair.first_broken(found.steps, base.steps)
            if broken:
                return Verdict(str(change), True, broken, base.program.config.name)
        where = ", ".join(base.program.config.name for base, _, _ in differs)
        return Verdict(str(change), bool(differs), None, where)


def draw(sample: int, seed: int) -> list[Change]:
    """Changes drawn from the text: what is written once and used in many actions counts once."""
    machine = build()
    one_place = OnePlace(machine, seed)
    by_text: dict[str, list[Change]] = {}
    for action in machine.actions:
        for change in one_place.changes(action):
            by_text.setdefault(change.what, []).append(change)
    choose = random.Random(seed)
    texts = sorted(by_text)
    return [choose.choice(by_text[t]) for t in choose.sample(texts, min(sample, len(texts)))]


JUDGE: Judge | None = None


def _verdict(change: Change) -> Verdict:
    assert JUDGE is not None
    return JUDGE.verdict(change)


def main(
    sample: Annotated[int, typer.Option(help="How many changes.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 1,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 2,
    only: Annotated[list[str] | None, typer.Option(help="Only these configurations.")] = None,
) -> None:
    """Draw changes of the model's text, judge each, list those that survive."""
    global JUDGE
    JUDGE = Judge(only or [])
    changes = draw(sample, seed)
    started = time.monotonic()
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        found = []
        for at, verdict in enumerate(pool.imap_unordered(_verdict, changes), 1):
            found.append(verdict)
            if verdict.differs and not verdict.killed_by:
                print(f"survives: {verdict.change}  ({verdict.where})", flush=True)
            if at % 25 == 0:
                print(f"{at} of {len(changes)}, {time.monotonic() - started:.0f} s", flush=True)
    differ = [v for v in found if v.differs]
    killed = [v for v in differ if v.killed_by]
    for name, times in Counter(v.killed_by for v in killed).most_common():
        print(f"{times:5} {name}")
    print(f"{len(found) - len(differ)} of {len(found)} change nothing that can be seen")
    share = 100 * len(killed) / max(1, len(differ))
    print(f"killed {len(killed)} of {len(differ)} that differ, {share:.1f} %")


if __name__ == "__main__":
    typer.run(main)
