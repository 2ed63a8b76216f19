"""An expected failure is XFAIL on its own symptom only: a fault in a finding's path is a failure.

Each server is a copy of the bundled one that declares no repair. Without one of its repairs it has
the defect of PostgreSQL 18.6; with another fault as well it shows another symptom.
"""

import pytest
from faults import Fault
from planting import PRODUCT, copied, node_id, replaced, run

SHUTDOWN = "test_shutdown_while_a_crashed_server_starts_up"
STARTUP_DIES = "test_startup_process_dies_while_a_crashed_server_starts_up"
SECOND_CRASH = "test_crash_while_a_crashed_server_starts_up"


def edit(name: str, module: str, old: str, new: str) -> Fault:
    """One replacement in the server's text."""
    return Fault(name, "", module, old, new, "", "")


UNDECLARED = edit(
    "no repair is declared", "commands/postgres.py", "for name in REPAIRS", "for name in ()"
)
F01 = edit(
    "F01", "postmaster/shutdown.py", "elif crash.starting_after_a_crash(step.pm):", "elif False:"
)
F02 = edit(
    "F02",
    "postmaster/crash.py",
    "if quitting(step.pm) and not starting_after_a_crash(step.pm):",
    "if quitting(step.pm):",
)
NO_SIGTERM = edit(
    "the children get no SIGTERM",
    "postmaster/shutdown.py",
    "step.advance_to(PM.STOP_BACKENDS)  # there are no sessions",
    "step.advance_to(PM.WAIT_BACKENDS)  # there are no sessions",
)
HALF_A_CRASH = edit(
    "a second crash is logged and not handled",
    "postmaster/crash.py",
    "if quitting(step.pm) and not starting_after_a_crash(step.pm):",
    "if quitting(step.pm):\n        step.ask(LogChildExit(Level.LOG, name, pid, status))",
)


@pytest.mark.parametrize(
    ("edits", "scenario", "verdict"),
    [
        ([UNDECLARED], f"{SHUTDOWN}[fast]", "PASS"),
        ([UNDECLARED], f"{SECOND_CRASH}[checkpointer]", "PASS"),
        ([UNDECLARED, F01], f"{SHUTDOWN}[fast]", "XFAIL"),
        ([UNDECLARED, F02], STARTUP_DIES, "XFAIL"),
        # Not as on 18.6: the successors of the checkpointer find no slot and crash in turn.
        ([UNDECLARED, F02], f"{SECOND_CRASH}[checkpointer]", "FAIL"),
        ([UNDECLARED, F01, NO_SIGTERM], f"{SHUTDOWN}[fast]", "FAIL"),
        ([UNDECLARED, HALF_A_CRASH], f"{SECOND_CRASH}[checkpointer]", "FAIL"),
        ([F01], f"{SHUTDOWN}[fast]", "FAIL"),
    ],
    ids=lambda value: ", ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_a_defect_is_expected_by_its_symptom(
    edits: list[Fault], scenario: str, verdict: str
) -> None:
    """Repaired it passes, with the defect it is XFAIL, and with anything else it fails."""
    with copied() as place:
        for fault in edits:
            path = place / PRODUCT.name / fault.module
            path.write_text(replaced(path.read_text(encoding="utf-8"), fault), encoding="utf-8")
        done = run(place, [node_id(scenario)], scale=1.0)
    found = done.verdicts
    found["FAIL"] += found.pop("HANG")
    assert {word for word, count in found.items() if count} == {verdict}, done.output
