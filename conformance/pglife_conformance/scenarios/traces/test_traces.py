"""Traces of the model, played: `pytest conformance/ --trace FILE`. Collected for that alone.

Source       the model's actions, each with its own.
"""

from pathlib import Path

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import MakeCluster
from pglife_conformance.play.player import play
from pglife_conformance.play.script import read_script, settings_of
from pglife_conformance.pytest.claims import claim
from pglife_conformance.targets.base import Target

PLAYABLE = [Need.OS_SIGNALS, Need.CRASH_INJECTION, Need.PROCESS_TITLES, Need.STARTUP_BARRIER]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One item for each --trace."""
    paths = [Path(name) for name in metafunc.config.option.pglife_trace]
    metafunc.parametrize("trace", paths, ids=[path.name.split(".")[0] for path in paths])


@claim("SL-01", source="postmaster.c: ServerLoop()", needs=PLAYABLE)
@pytest.mark.unmonitored("the player has a monitor of its own, asked at each step")
def test_the_server_follows_the_trace(
    trace: Path, target: Target, request: pytest.FixtureRequest
) -> None:
    """The server goes the way of the trace, and the model explains each step of it."""
    script = read_script(trace)
    if script.version != target.version.major:
        pytest.skip(f"{script.name} is of version {script.version}, the target is {target.version}")
    # Only now: who skips needs no template and no self-test.
    make_cluster: MakeCluster = request.getfixturevalue("make_cluster")
    differences = play(script, make_cluster(**settings_of(script)))
    request.node.user_properties.append(("trace", f"{script.name}: {'; '.join(differences)}"))
