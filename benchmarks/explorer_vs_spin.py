"""How many states a second `pglife explore` and SPIN visit on the same model, and in how much time.

Begin with main(). Run it with `.venv/bin/python benchmarks/explorer_vs_spin.py`; it needs `spin`
and `gcc`. Rates are states per second of processor time for one core, of the wall for two; each
pair of runs is made in both orders, and the medians are compared. The last line is the ratio on one
core.
"""

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pglife_spec.explore import explore
from pglife_spec.lang.machine import Config, Machine
from pglife_spec.meanings.exports.promela import to_promela
from pglife_spec.meanings.python.program import compile_machine
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS

CFLAGS = ["-O2", "-DNOREDUCE", "-DSAFETY", "-DNOFAIR", "-DMEMLIM=20000"]


@dataclass(frozen=True)
class Run:
    """One exploration: states, without the one that only SPIN has, and seconds."""

    states: int
    processor: float
    wall: float


def timed(run: Callable[[], int]) -> Run:
    """Time something that counts states: this process and its children."""

    def used() -> float:
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))

    processor, wall = used(), time.perf_counter()
    states = run()
    return Run(states, used() - processor, time.perf_counter() - wall)


class Spin:
    """The verifier that SPIN makes of a configuration."""

    def __init__(self, machine: Machine, config: Config, directory: Path) -> None:
        self._directory = directory
        program = compile_machine(machine, config)
        initial = [program.unpack(state) for state in program.initial]
        (directory / "model.pml").write_text(to_promela(machine, config, initial))

    def build(self) -> int:
        """What a user waits for before the first state."""
        self._run("spin", "-o2", "-a", "model.pml")
        self._run("gcc", *CFLAGS, "-o", "pan", "pan.c")
        return 0

    def visit(self, bits: int) -> int:
        """All states, with a hash table that is large enough from the start."""
        said = self._run("./pan", "-E", "-m10000000", f"-w{bits}")
        found = re.search(r"(\d+) states, stored", said)
        if found is None or "Search not completed" in said or "errors: 0" not in said:
            sys.exit(f"SPIN did not visit every state:\n{said}")
        return int(found[1]) - 1

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self._directory, capture_output=True, text=True, check=True
        )
        return done.stdout


def cold(name: str, threads: int) -> int:
    """A whole process of ours that has kept nothing from one before."""
    code = (
        "from pglife_spec import CONFIGS, explore, machine;"
        f"print(explore(machine(), CONFIGS[{name!r}], threads={threads}).states)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(said.stdout)


def compare(name: str, runs: int, threads: int) -> float:
    """Print a line for each rate; gives how often ours is SPIN's on one core."""
    machine, config = build(), CONFIGS[name]
    program = compile_machine(machine, config)
    first = explore(machine, config, program=program, native=True)

    def visit(threads: int, limit: int | None = None) -> Run:
        options = {"program": program, "native": True, "threads": threads, "limit": limit}
        return timed(lambda: explore(machine, config, **options).states)

    def ours(threads: int) -> Run:
        """Without the time to generate and load the code: a search that ends at once takes it."""
        loaded, whole = visit(threads, limit=1), visit(threads)
        wall = whole.wall - loaded.wall
        return Run(whole.states, whole.processor - loaded.processor, wall)

    with tempfile.TemporaryDirectory() as directory:
        spin = Spin(machine, config, Path(directory))
        built = timed(spin.build)
        bits = max(20, first.states.bit_length())
        theirs: list[Run] = []
        one: list[Run] = []
        two: list[Run] = []
        for turn in range(runs):
            steps = [
                lambda: theirs.append(timed(lambda: spin.visit(bits))),
                lambda: one.append(ours(1)),
                lambda: two.append(ours(threads)),
            ]
            for step in steps if turn % 2 == 0 else reversed(steps):
                step()
        whole = timed(lambda: cold(name, threads))
    counts = {run.states for run in [*theirs, *one, *two, whole]}
    if len(counts) != 1:
        sys.exit(f"{name}: different counts of states: {sorted(counts)}")
    print(f"{name}: {first.states:,} states, {first.transitions:,} steps, counted alike by both")
    return report(theirs, one, two, built, whole)


def report(theirs: list[Run], one: list[Run], two: list[Run], built: Run, whole: Run) -> float:
    """Print the medians and their ratios; gives the one on one core."""

    def rate(runs: list[Run], seconds: Callable[[Run], float]) -> float:
        return statistics.median(run.states / seconds(run) for run in runs)

    spin_alone, spin_wall = rate(theirs, lambda r: r.processor), rate(theirs, lambda r: r.wall)
    alone, together = rate(one, lambda r: r.processor), rate(two, lambda r: r.wall)
    spent = statistics.median(run.processor for run in theirs) + built.processor
    print(f"SPIN, one core: {spin_alone:,.0f} states a second ({spin_wall:,.0f} of the wall)")
    print(f"ours, one core: {alone:,.0f}, ratio {alone / spin_alone:.1f}")
    print(f"ours, two cores: {together:,.0f} of the wall, ratio {together / spin_wall:.1f}")
    print(
        f"whole process, nothing kept, of the processor: SPIN {spent:.1f} s, "
        f"ours {whole.processor:.1f} s, ratio {spent / whole.processor:.1f}"
    )
    return alone / spin_alone


def main() -> None:
    """Compare on the configurations that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="*", default=["small-18"], metavar="NAME")
    parser.add_argument("--runs", type=int, default=3, help="how often each is run")
    options = parser.parse_args()
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: apt-get install spin gcc")
    threads = min(2, os.cpu_count() or 1)
    ratio = 0.0
    for name in options.configs:
        ratio = compare(name, options.runs, threads)
    print(f"ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
