"""The findings of docs/findings.md in the model: the check that each breaks, and its repair.

Begin with FINDINGS, one row for each check that a finding breaks. A real release fails the check;
the repair is needed (with all the others on, the check still fails); and the repairs named are
enough. A claim says itself under which repair it holds; here it is checked without that condition.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from pglife_spec.explore import check_property, explore
from pglife_spec.explore.search import Exploration
from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Claim, Config
from pglife_spec.meanings.fold import Pool
from pglife_spec.meanings.python.program import compile_machine
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import config
from pglife_spec.postgres.state.children import alive
from pglife_spec.postgres.words import Kind
from pglife_spec.postgres.words.recovery import Target
from pglife_spec.postgres.words.repairs import FINDINGS as FINDINGS_REPAIRED
from pglife_spec.postgres.words.repairs import (
    REPAIR_AUTOVAC_ENTRY,
    REPAIR_CHECKPOINTER_FORK_FAILURE,
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_KILL_DEAD_END,
    REPAIR_LAST_ACCEPT,
    REPAIR_PROMOTE_FILE,
    REPAIR_SHUTDOWN_IN_CRASH_STARTUP,
    REPAIR_SIGNAL_FILE,
    REPAIR_SLOTSYNC_STOP,
    REPAIR_STARTUP_EXIT_IN_CRASH,
    REPAIR_STARTUP_EXIT_IN_SMART,
    REPAIR_STARTUP_FORK_FAILURE,
    REPAIR_TARGET_IN_CRASH_STARTUP,
    REPAIR_UNSTARTED_WORKER,
    REPAIR_WORKERS_IN_RECOVERY,
    REPAIR_XLOG_IN_CRASH_STARTUP,
    REPAIRS,
)
from pglife_spec.postgres.words.workers import WorkerStart

SHUTDOWN_QUITS = REPAIR_SHUTDOWN_IN_CRASH_STARTUP.name
NEW_CRASH = REPAIR_CRASH_IN_CRASH_STARTUP.name
GOES_ON = REPAIR_CHECKPOINTER_FORK_FAILURE.name
NOT_RUN = REPAIR_STARTUP_EXIT_IN_CRASH.name
KILL_ALL = REPAIR_KILL_DEAD_END.name
NO_ACCEPT = REPAIR_LAST_ACCEPT.name
XLOG_CRASH = REPAIR_XLOG_IN_CRASH_STARTUP.name
FORK_CRASH = REPAIR_STARTUP_FORK_FAILURE.name
OTHERS = REPAIR_STARTUP_EXIT_IN_SMART.name
AT_TARGET = REPAIR_TARGET_IN_CRASH_STARTUP.name
NOT_LOST = REPAIR_SLOTSYNC_STOP.name
FILE_LAST = REPAIR_SIGNAL_FILE.name
KEEPS_FILE = REPAIR_PROMOTE_FILE.name
LOOKS = REPAIR_WORKERS_IN_RECOVERY.name
NOT_FORGOTTEN = REPAIR_UNSTARTED_WORKER.name
KEEPS = REPAIR_AUTOVAC_ENTRY.name
ALL = frozenset(param.name for param in REPAIRS)

MACHINE = build()
CLAIMS = {claim.name: claim for claim in MACHINE.claims}
PROPERTIES = {prop.name: prop for prop in MACHINE.properties}

NO_CLIENTS = (("backend", 0), ("dead_end", 0))
ONE_REFUSED = (("backend", 0), ("dead_end", 1))
TWO_REFUSED = (("backend", 0), ("dead_end", 2))
FORKS = (("fork_faults", True),)
NO_RESTART = (("restart_after_crash", False),)
STRAY = (("stray_signals", True),)
ONE_SESSION = (("backend", 1), ("dead_end", 0))
STANDBY = (("standby", True),)
SYNCING = (*STANDBY, ("sync_slots", True), ("writers", False))
STOPS = (("recovery_target", Target.SHUTDOWN),)
EARLY = (("worker_start", WorkerStart.POSTMASTER_START),)
ONCE = (("worker_start", WorkerStart.RECOVERY_FINISHED), ("worker_restarts", False))
EMERGENCY = (
    ("wraparound", True),
    ("autovac_workers", 2),
    ("child_slots", 2),
    ("restart_after_crash", False),
    ("writers", False),
)

Params = tuple[tuple[str, Value], ...]
Bounds = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Finding:
    """One check that a defect breaks, the repair of the defect, and the repairs that suffice."""

    number: str
    version: int
    check: str
    repair: str
    enough: tuple[str, ...]
    bounds: Bounds = NO_CLIENTS
    params: Params = ()

    def __str__(self) -> str:
        return f"{self.number}-{self.version}-{self.check}"

    def fails(self, on: Iterable[str]) -> bool:
        """Whether the check fails with these repairs on."""
        if self.check in PROPERTIES:
            return not self.holds(on)
        small = configured(self.version, frozenset(on), self.bounds, self.params)
        claims = unconditional([CLAIMS[self.check]])
        return bool(explore(MACHINE, small, claims=claims, stop_at_violation=True).violated)

    def holds(self, on: Iterable[str]) -> bool:
        """Whether the check holds with these repairs on."""
        found = search(self.version, frozenset(on), self.bounds, self.params)
        assert found.complete
        if self.check in PROPERTIES:
            return check_property(found, PROPERTIES[self.check]).holds
        return self.check not in found.violated


FAST, SMART = "every_fast_shutdown_ends", "every_smart_shutdown_ends"
ALONE = "a_smart_shutdown_without_sessions_ends"
RESTART, RECOVERY = "every_crash_restart_ends", "every_recovery_ends"
SIGQUIT = "in_a_crash_every_child_was_sent_sigquit"
MEMORY = "no_server_opens_on_shared_memory_of_a_crash"
TIMER = "sigquit_arms_the_sigkill_timer"
STARTUP_RECORDED = "starting_up_needs_a_startup_process"
FINAL = "a_failed_startup_is_final"
ORPHANS = "only_the_logger_outlives_the_postmaster"
FORKED = "children_are_forked_only_in_allowed_states"
LAST_WAIT = "wait_dead_end_has_signaled_every_dead_end_child"
SIGNALED = "an_orderly_shutdown_has_signaled_whom_it_awaits"
HOT_WITHOUT = "a_hot_standby_has_a_startup_process"
STOPPED, PROMOTED = "a_stop_at_the_target_ends", "a_promotion_ends_in_pm_run"
TIMELINE = "archive_recovery_ends_on_a_new_timeline"
SURVIVES = "a_promotion_survives_a_crash"
WORKER_RUNS = "a_background_worker_whose_time_has_come_runs"
RUNS_ONCE = "every_registered_worker_runs_once"
ENTRY = "no_autovacuum_entry_is_lost"

BOTH = (SHUTDOWN_QUITS, NEW_CRASH)
FINDINGS = [
    *(Finding("F01", v, FAST, SHUTDOWN_QUITS, (SHUTDOWN_QUITS,)) for v in (15, 18)),
    *(Finding("F01", v, SMART, SHUTDOWN_QUITS, (SHUTDOWN_QUITS,)) for v in (15, 18)),
    *(Finding("F01", v, ALONE, SHUTDOWN_QUITS, (SHUTDOWN_QUITS,)) for v in (15, 18)),
    *(Finding("F01", v, SIGQUIT, SHUTDOWN_QUITS, BOTH) for v in (15, 18)),
    Finding("F02", 18, RESTART, NEW_CRASH, (NEW_CRASH,)),
    Finding("F02", 18, STARTUP_RECORDED, NEW_CRASH, (NEW_CRASH,)),
    Finding("F02", 15, SIGQUIT, NEW_CRASH, BOTH),
    Finding("F03", 18, MEMORY, NEW_CRASH, (NEW_CRASH, NOT_RUN)),
    Finding("F04", 15, MEMORY, NOT_RUN, (NOT_RUN,)),
    Finding("F04", 18, MEMORY, NOT_RUN, (NEW_CRASH, NOT_RUN)),
    *(Finding("F04", v, TIMER, NOT_RUN, (NOT_RUN,)) for v in (15, 18)),
    Finding("F05", 18, FAST, GOES_ON, (*BOTH, GOES_ON), params=FORKS),
    Finding("F07", 18, RECOVERY, NEW_CRASH, (NEW_CRASH,)),
    Finding("F07", 18, FINAL, NEW_CRASH, (NEW_CRASH,)),
    *(Finding("F09", v, ORPHANS, FORK_CRASH, (FORK_CRASH,), params=FORKS) for v in (15, 18)),
    *(
        Finding("F10", 18, check, NO_ACCEPT, (NO_ACCEPT,), ONE_REFUSED, NO_RESTART)
        for check in (FORKED, LAST_WAIT)
    ),
    Finding("F07", 18, HOT_WITHOUT, NEW_CRASH, (NEW_CRASH,), params=STANDBY),
    Finding("F11", 18, STOPPED, AT_TARGET, (SHUTDOWN_QUITS, AT_TARGET), params=STOPS),
    Finding("F12", 18, PROMOTED, NOT_LOST, (NEW_CRASH, NOT_LOST), params=SYNCING),
    *(Finding("F13", v, TIMELINE, FILE_LAST, (FILE_LAST,), params=STANDBY) for v in (15, 18)),
    *(Finding("F16", v, SURVIVES, KEEPS_FILE, (KEEPS_FILE,), params=STANDBY) for v in (15, 18)),
    *(Finding("F17", v, RUNS_ONCE, NOT_FORGOTTEN, (NOT_FORGOTTEN,), params=ONCE) for v in (15, 18)),
    *(Finding("F18", v, ENTRY, KEEPS, (KEEPS,), params=EMERGENCY) for v in (15, 18)),
    *(Finding("W4", v, WORKER_RUNS, LOOKS, (LOOKS,), params=EARLY) for v in (15, 18)),
    *(Finding("W1", v, SIGNALED, OTHERS, (OTHERS,), ONE_SESSION, STANDBY) for v in (15, 18)),
]


def configured(version: int, on: frozenset[str], bounds: Bounds, params: Params) -> Config:
    """A small server without io workers, with these repairs and no others."""
    repairs = {name: name in on for name in ALL}
    more = dict(params)
    return config("finding", version, io_workers=0, bounds=dict(bounds), **(repairs | more))


def unconditional(claims: Iterable[Claim]) -> list[Claim]:
    """The claims without their conditions on repairs."""
    pool = Pool()
    settled = {param.name: pool.true for param in REPAIRS}
    folder = pool.folder(settled)
    return [replace(claim, holds=folder.visit(claim.holds)) for claim in claims]


@cache
def search(
    version: int,
    on: frozenset[str],
    bounds: Bounds = NO_CLIENTS,
    params: Params = (),
) -> Exploration:
    """The machine explored with all claims of the findings."""
    used = {finding.check for finding in FINDINGS} & CLAIMS.keys()
    small = configured(version, on, bounds, params)
    return explore(MACHINE, small, claims=unconditional(CLAIMS[name] for name in sorted(used)))


#: Together, because they share their searches.
BY_NUMBER = {
    f"{number}-{version}": [f for f in FINDINGS if (f.number, f.version) == (number, version)]
    for number, version in sorted({(f.number, f.version) for f in FINDINGS})
}


@pytest.mark.parametrize("findings", BY_NUMBER.values(), ids=list(BY_NUMBER))
def test_a_real_release_breaks_the_checks_and_the_repair_mends_them(
    findings: list[Finding],
) -> None:
    """The repair is needed, and those named are enough."""
    search.cache_clear()
    for finding in findings:
        # With failing forks a real release has lassos of other findings.
        if finding.check in CLAIMS or finding.params != FORKS:
            assert finding.fails(()), finding
        assert finding.fails(ALL - {finding.repair}), finding
        assert finding.repair in finding.enough
        assert finding.holds(finding.enough), finding


# F06: the check is of a step, not of a state.


FEW = 20_000


def survivors_of_a_round(*on: str) -> int:
    """How often in 15 a child other than the logger is alive right after SIGKILL was sent.

    It counts in the states nearest to the start: the step is the same in all.
    """
    machine = configured(15, frozenset(on), ONE_REFUSED, NO_RESTART)
    found = explore(MACHINE, machine, claims=(), limit=FEW)
    program = found.program
    (the_round,) = [i for i, a in enumerate(program.actions) if a.name == "issue_sigkill"]
    lives = program.checks([alive(kind) for kind in Kind if kind is not Kind.LOGGER])
    afters = [program.step(the_round, state) for state in found.space]
    assert any(after >= 0 for after in afters)
    return sum(1 for after in afters if after >= 0 and lives(after))


def test_f06_up_to_17_sigkill_is_not_sent_to_dead_end_children():
    assert survivors_of_a_round() > 0
    assert survivors_of_a_round(KILL_ALL) == 0


# F08: it takes an operator who sends signals to the checkpointer.


def recovery_ends(on: Iterable[str]) -> bool:
    """Whether every recovery ends in 18 with these repairs, if the operator sends signals."""
    found = explore(MACHINE, configured(18, frozenset(on), NO_CLIENTS, STRAY), claims=())
    return check_property(found, PROPERTIES[RECOVERY]).holds


def test_f08_a_checkpointer_that_waits_for_sigusr2_blocks_recovery():
    assert not recovery_ends(ALL - {XLOG_CRASH})


def test_f08_handling_it_as_a_crash_is_enough():
    assert recovery_ends(ALL)


def test_each_repair_names_the_findings_that_it_removes():
    tested = {finding.number: finding.repair for finding in FINDINGS}
    tested |= {"F06": KILL_ALL, "F08": XLOG_CRASH}
    assert tested == {number: name for name, all_ in FINDINGS_REPAIRED.items() for number in all_}


# The traces of the page.

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"
_QUOTED = re.compile(r"`([^`]+)`")


def steps_of(text: str, short: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The actions that a text names, with the short names written out."""
    return tuple(step for name in _QUOTED.findall(text) for step in short.get(name, (name,)))


def traces() -> list[tuple[int, tuple[str, ...]]]:
    """Each trace of the page, with a release that it is of."""
    page = " ".join(PAGE.read_text().split())
    short: dict[str, tuple[str, ...]] = {}
    for letter in "PL":
        found = re.search(rf"`{letter}` stands for [^:]*:(.*?)\. ", page)
        assert found is not None
        short[letter] = steps_of(found[1], {})
    said = re.findall(r"\*\*Trace\*\* \(([^)]*)\)\.(.*?)[;.] ", page)
    return [
        (int(version), steps_of(text, short))
        for versions, text in said
        for version in versions.split(" and ")
    ]


@pytest.mark.parametrize(("version", "steps"), traces())
def test_a_trace_of_the_page_is_possible(version: int, steps: tuple[str, ...]) -> None:
    """From a clean control file, or from one of a server that was killed."""
    config = configured(version, frozenset(), TWO_REFUSED, (*FORKS, *STRAY))
    program = compile_machine(MACHINE, config)
    ends = []
    for state in program.initial:
        for step in steps:
            if state >= 0:
                state = program.step(step, state)
        ends.append(state)
    assert max(ends) >= 0
