"""How fast exploration and proof are; it asserts nothing."""

import statistics
import time
from collections.abc import Callable

from pglife_spec.explore.search import explore
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.prove import prove_each

RUNS = 3


def median_seconds(run: Callable[[], object]) -> float:
    """The median of a few runs, in seconds of the wall."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Print one line a figure."""
    machine = build()
    for name in ("tiny-15", "tiny-18"):
        found = explore(machine, CONFIGS[name])
        seconds = median_seconds(lambda name=name: explore(machine, CONFIGS[name]))
        rate = found.transitions / seconds
        print(f"{name}: {found.states:,} states, {seconds:.2f} s, {rate:,.0f} steps a second")
    versions = [{"version": 15}, {"version": 18}]
    seconds = median_seconds(lambda: prove_each(machine, versions))
    print(f"proof of versions 15 and 18: {seconds:.1f} s")


if __name__ == "__main__":
    main()
