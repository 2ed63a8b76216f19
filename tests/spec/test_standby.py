"""Archive recovery in the model: what a standby can do, and that repairs mend all that it breaks.

Begin with STANDBYS. What each finding breaks is in test_findings.py.
"""

import pytest

from pglife_spec.explore.liveness import check_properties
from pglife_spec.explore.search import explore
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS, config
from pglife_spec.postgres.state.postmaster import EXITED
from pglife_spec.postgres.words import ArchiveMode
from pglife_spec.postgres.words.recovery import Target

MACHINE = build()
NO_CLIENTS = {"backend": 0, "dead_end": 0}
STANDBYS = ("streaming-18", "slot-sync-18", "recovery-target-18", "warm-standby-18")
#: The words of which one is in the names of all actions of archive recovery.
WORDS = ("walreceiver", "slotsync", "target", "promote", "consistency", "archive_recovery")
#: They need more than these configurations have: a reload, a pause at the target.
ELSEWHERE = {
    "startup_restarts_walreceiver",
    "startup_ends_redo_at_target",
    "startup_pauses_at_target",
}
FEW = 60_000


def test_every_step_of_archive_recovery_is_taken() -> None:
    taken: set[str] = set()
    for name in STANDBYS:
        found = explore(MACHINE, CONFIGS[name], claims=(), limit=FEW)
        taken |= {action for action, times in found.coverage().items() if times}
    wanted = {a.name for a in MACHINE.actions if any(word in a.name for word in WORDS)}
    assert wanted - taken == ELSEWHERE


@pytest.mark.parametrize("version", [15, 18])
@pytest.mark.parametrize("target", Target, ids=lambda t: t.name)
def test_a_repaired_standby_is_sound(version: int, target: Target) -> None:
    """Whatever the recovery target does, with all repairs on all claims and properties hold."""
    small = config(
        "standby",
        version,
        repaired=True,
        io_workers=0,
        bounds=NO_CLIENTS,
        standby=True,
        recovery_target=target,
        # A stop at the target signals the archiver with all others.
        archive_mode=ArchiveMode.ALWAYS if target is Target.SHUTDOWN else ArchiveMode.OFF,
        any_start=True,
        writers=False,
    )
    found = explore(MACHINE, small, final=EXITED)
    assert found.ok
    broken = [v.prop.name for v in check_properties(found, MACHINE.properties) if not v.holds]
    assert broken == []
