"""How strong the claims are: random one-place changes of the declared text, and what finds them.

Begin with main(): `python benchmarks/mutate_model.py --sample 300 --seed 1`. The right machine is
explored under a few small configurations. A change differs if in one of them some reached state has
another step or other evidence; it is killed if there a claim fails, a state is a deadlock, a count
leaves its bounds, or a liveness property fails. The changes that survive are listed.
"""

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from pglife_spec.explore.changed import Explored, Outcome
from pglife_spec.explore.fair import Fair
from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Config
from pglife_spec.lang.mutate import Change, OnePlace
from pglife_spec.postgres.build import build
from pglife_spec.postgres.claims import WATCHES
from pglife_spec.postgres.configurations import config
from pglife_spec.postgres.state.postmaster import EXITED
from pglife_spec.postgres.words.releases import Feature, release_of

LIVENESS = 60_000
"""Liveness is asked where there are fewer states than that."""


def configurations() -> Iterator[Config]:
    """Small ones that together take every action; all findings are repaired in them."""
    for version in (18, 15):
        features = release_of(version).features

        def small(
            name: str,
            backends: int = 0,
            refused: int = 0,
            version: int = version,
            **more: Value,
        ) -> Config:
            bounds = {"backend": backends, "dead_end": refused}
            values: dict[str, Value] = {"io_workers": 0, **more}
            return config(f"{name}-{version}", version, repaired=True, bounds=bounds, **values)

        yield small("no-restart", 1, restart_after_crash=False)
        yield small("session", 1)
        if Feature.IO_WORKERS in features:
            yield small("io", io_workers=1)
            yield small("refused", 0, 1, restart_after_crash=False)
        yield small("log", logging_collector=True, hot_standby=False, reloads=True)
        yield small("kinds", autovacuum=True, logical_launcher=True, restart_after_crash=False)
        yield small("forks", fork_faults=True)
        yield small("stray", stray_signals=True)


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
                watches=WATCHES,
                hidden=frozenset() if logged else frozenset({"pmstate"}),
            )
            fair = Fair(base.program, self.machine.properties if len(base.steps) < LIVENESS else ())
            fair.keep_what_holds(base.steps)
            self.bases.append((base, fair))
            if say:
                took = time.monotonic() - started
                print(f"{one.name}: {len(base.steps):,} states, {took:.0f} s", flush=True)

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
            broken = fair.first_broken(found.steps) if found.steps and found.complete else None
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
            if at % 25 == 0:
                print(f"{at} of {len(changes)}, {time.monotonic() - started:.0f} s", flush=True)
    differ = [v for v in found if v.differs]
    killed = [v for v in differ if v.killed_by]
    for name, times in Counter(v.killed_by for v in killed).most_common():
        print(f"{times:5} {name}")
    for verdict in sorted(differ, key=str):
        if not verdict.killed_by:
            print(f"survives: {verdict.change}  ({verdict.where})")
    print(f"{len(found) - len(differ)} of {len(found)} change nothing that can be seen")
    share = 100 * len(killed) / max(1, len(differ))
    print(f"killed {len(killed)} of {len(differ)} that differ, {share:.1f} %")


if __name__ == "__main__":
    typer.run(main)
