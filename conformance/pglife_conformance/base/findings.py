"""The defects of PostgreSQL that docs/findings.md describes, and the repair of each.

Begin with Finding; declared() reads what a target says of itself.
"""

from collections.abc import Iterable
from enum import StrEnum


class Finding(StrEnum):
    """A defect of real releases, by its number in docs/findings.md."""

    F01 = "F01"
    F02 = "F02"
    F03 = "F03"
    F04 = "F04"
    F05 = "F05"
    F06 = "F06"
    F07 = "F07"
    F08 = "F08"
    F09 = "F09"
    F10 = "F10"
    F11 = "F11"
    F12 = "F12"
    F13 = "F13"
    F14 = "F14"
    F15 = "F15"
    F16 = "F16"
    F17 = "F17"
    F18 = "F18"
    W1 = "W1"
    W2 = "W2"
    W3 = "W3"
    W4 = "W4"
    W5 = "W5"
    W6 = "W6"
    W7 = "W7"
    W8 = "W8"
    W9 = "W9"
    W10 = "W10"
    W11 = "W11"
    W12 = "W12"
    W13 = "W13"
    W14 = "W14"
    W15 = "W15"
    W16 = "W16"

    @property
    def repair(self) -> str | None:
        """The repair's name, which is the name of the model's parameter where it has one."""
        return _REPAIR_OF.get(self)


_REPAIR_OF: dict[Finding, str] = {
    Finding.F01: "startup_shutdown_after_crash_quits",
    Finding.F02: "crash_during_fatal_error_in_startup",
    Finding.F03: "crash_during_fatal_error_in_startup",
    Finding.F04: "startup_exit_in_crash_not_run",
    Finding.F05: "checkpointer_fork_failure_advances",
    Finding.F06: "sigkill_reaches_dead_end",
    Finding.F07: "crash_during_fatal_error_in_startup",
    Finding.F08: "xlog_shutdown_in_crash_startup_is_crash",
    Finding.F09: "startup_fork_failure_is_crash",
    Finding.F10: "no_accept_after_wait_dead_end",
    Finding.F11: "recovery_target_in_crash_startup",
    Finding.F12: "slotsync_stop_is_not_lost",
    Finding.F13: "signal_file_removed_last",
    Finding.F16: "promote_file_removed_last",
    Finding.F17: "crash_keeps_unstarted_workers",
    Finding.F18: "emergency_launcher_keeps_entry",
    Finding.W1: "startup_exit_signals_others",
    Finding.W4: "recovery_started_starts_workers",
}


def declared(words: Iterable[str]) -> frozenset[Finding]:
    """The findings that these words name, each by its number or by the name of its repair.

    Raises:
        ValueError: for a word that is neither.
    """
    found: set[Finding] = set()
    for word in words:
        named = {finding for finding in Finding if word in (finding.value, finding.repair)}
        if not named:
            raise ValueError(f"{word!r} is not a finding ({', '.join(Finding)}) and not a repair")
        found |= named
    return frozenset(found)
