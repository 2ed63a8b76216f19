"""The findings of docs/findings.md in the model: what fails on a real release, and what mends it.

Begin with   FINDINGS: one row for each check that a finding breaks.
Owns         that a real release fails the check, that the repair is needed (with all the others
             on, it still fails) and that the repairs named are enough (with them it holds).

A claim says itself under which repair it holds; here it is checked without that condition.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import pytest

from pglife_spec.explore import check_property, explore
from pglife_spec.explore.search import Exploration
from pglife_spec.lang.expr import show
from pglife_spec.lang.fold import Pool
from pglife_spec.lang.machine import Claim, Config, Effect, Machine, Property, When
from pglife_spec.lang.mutate import rewrite
from pglife_spec.model.build import build
from pglife_spec.model.configs import config
from pglife_spec.model.state import CRASHY, FATAL_ERROR, REPAIRS, SHUTDOWN, alive, state_is
from pglife_spec.model.words import PM, Kind, Shutdown

SHUTDOWN_QUITS = "startup_shutdown_after_crash_quits"
NEW_CRASH = "crash_during_fatal_error_in_startup"
GOES_ON = "checkpointer_fork_failure_advances"
NOT_RUN = "startup_exit_in_crash_not_run"
KILL_ALL = "sigkill_reaches_dead_end"
NO_ACCEPT = "no_accept_after_wait_dead_end"
FORK_CRASH = "startup_fork_failure_is_crash"
PREFIX = "repair."
ALL = frozenset(param.name.removeprefix(PREFIX) for param in REPAIRS)

MACHINE = build()
CLAIMS = {claim.name: claim for claim in MACHINE.claims}
PROPERTIES = {prop.name: prop for prop in MACHINE.properties}

NOBODY = (("backend", 0), ("dead_end", 0))
ONE_REFUSED = (("backend", 0), ("dead_end", 1))
FORKS = (("fork_faults", True),)
NO_RESTART = (("restart_after_crash", False),)
STRAY = (("stray_signals", True),)

Params = tuple[tuple[str, bool], ...]
Bounds = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Finding:
    """One check that a defect breaks: what it is broken by, and what makes it hold."""

    number: str
    version: int
    check: str
    repair: str
    enough: tuple[str, ...]
    bounds: Bounds = NOBODY
    params: Params = ()

    def __str__(self) -> str:
        return f"{self.number}-{self.version}-{self.check}"

    def breaks(self, repairs: Iterable[str]) -> bool:
        """Whether the check fails with these repairs on."""
        on = frozenset(repairs)
        if self.check in CLAIMS:
            found = search(self.version, on, self.bounds, self.params)
            return self.check in found.violated
        found = search(self.version, on, self.bounds, self.params)
        return not check_property(found, PROPERTIES[self.check]).holds


FAST, SMART = "every_fast_shutdown_ends", "every_smart_shutdown_ends"
ALONE = "a_smart_shutdown_without_sessions_ends"
RESTART, RECOVERY = "every_crash_restart_ends", "every_recovery_ends"
TOLD = "in_a_crash_everybody_was_told_to_die"
MEMORY = "no_server_opens_on_memory_of_the_dead"
CLOCK = "whoever_got_sigquit_has_a_clock"
STARTUP_THERE = "starting_up_needs_a_startup_process"
FINAL = "a_failed_startup_is_final"
ORPHANS = "nobody_but_the_logger_outlives_the_postmaster"
SEASON = "nobody_is_forked_out_of_season"
LAST_WAIT = "the_last_wait_is_for_children_that_were_told"

BOTH = (SHUTDOWN_QUITS, NEW_CRASH)
FINDINGS = [
    *(Finding("F01", v, FAST, SHUTDOWN_QUITS, (SHUTDOWN_QUITS,)) for v in (15, 18)),
    *(Finding("F01", v, SMART, SHUTDOWN_QUITS, (SHUTDOWN_QUITS,)) for v in (15, 18)),
    *(Finding("F01", v, ALONE, SHUTDOWN_QUITS, (SHUTDOWN_QUITS,)) for v in (15, 18)),
    *(Finding("F01", v, TOLD, SHUTDOWN_QUITS, BOTH) for v in (15, 18)),
    Finding("F02", 18, RESTART, NEW_CRASH, (NEW_CRASH,)),
    Finding("F02", 18, STARTUP_THERE, NEW_CRASH, (NEW_CRASH,)),
    Finding("F02", 15, TOLD, NEW_CRASH, BOTH),
    Finding("F03", 18, MEMORY, NEW_CRASH, (NEW_CRASH, NOT_RUN)),
    Finding("F04", 15, MEMORY, NOT_RUN, (NOT_RUN,)),
    Finding("F04", 18, MEMORY, NOT_RUN, (NEW_CRASH, NOT_RUN)),
    *(Finding("F04", v, CLOCK, NOT_RUN, (NOT_RUN,)) for v in (15, 18)),
    Finding("F05", 18, FAST, GOES_ON, (*BOTH, GOES_ON), params=FORKS),
    Finding("F07", 18, RECOVERY, NEW_CRASH, (NEW_CRASH,)),
    Finding("F07", 18, FINAL, NEW_CRASH, (NEW_CRASH,)),
    *(Finding("F09", v, ORPHANS, FORK_CRASH, (FORK_CRASH,), params=FORKS) for v in (15, 18)),
    *(
        Finding("F10", 18, check, NO_ACCEPT, (NO_ACCEPT,), ONE_REFUSED, NO_RESTART)
        for check in (SEASON, LAST_WAIT)
    ),
]


def configured(version: int, on: frozenset[str], bounds: Bounds, params: Params) -> Config:
    """A small server without io workers, with these repairs and no others."""
    repairs = {PREFIX + name: name in on for name in ALL}
    more = dict(params)
    return config("finding", version, io_workers=0, bounds=dict(bounds), **(repairs | more))


def unconditional(claims: Iterable[Claim]) -> list[Claim]:
    """The claims without what they say of repairs."""
    pool = Pool()
    settled = {param.name: pool.true for param in REPAIRS} | {"fork_faults": pool.true}
    folder = pool.folder(settled)
    return [replace(claim, holds=folder.visit(claim.holds)) for claim in claims]


@cache
def search(
    version: int, on: frozenset[str], bounds: Bounds = NOBODY, params: Params = ()
) -> Exploration:
    """The machine explored; with refused clients, which make it large, up to a claim's failure."""
    used = {finding.check for finding in FINDINGS} & CLAIMS.keys()
    claims = unconditional(CLAIMS[name] for name in sorted(used))
    if bounds is ONE_REFUSED:
        claims = [claim for claim in claims if claim.name in (SEASON, LAST_WAIT)]
    return explore(
        MACHINE,
        configured(version, on, bounds, params),
        claims=claims,
        stop_at_violation=bounds is ONE_REFUSED,
    )


@pytest.mark.parametrize("finding", FINDINGS, ids=str)
def test_a_real_release_breaks_it(finding):
    assert finding.breaks(())


@pytest.mark.parametrize("finding", FINDINGS, ids=str)
def test_the_repair_is_needed(finding):
    assert finding.breaks(ALL - {finding.repair})


@pytest.mark.parametrize("finding", FINDINGS, ids=str)
def test_the_repairs_are_enough(finding):
    assert finding.repair in finding.enough
    assert not finding.breaks(finding.enough)


# F06: the check is of a step, not of a state.


def survivors_of_a_round(on: frozenset[str]) -> int:
    """How often somebody other than the logger lives right after SIGKILL was sent, in 15."""
    found = search(15, on, ONE_REFUSED, NO_RESTART)
    assert found.complete
    program = found.program
    (the_round,) = [i for i, a in enumerate(program.actions) if a.name == "issue_sigkill"]
    others = [alive(kind) for kind in Kind if kind is not Kind.LOGGER]
    lives = program.checks(others)
    afters = (program.step(the_round, state) for state in found.parents)
    return sum(1 for after in afters if after >= 0 and lives(after))


def test_f06_the_round_spares_refused_clients_up_to_17():
    assert survivors_of_a_round(frozenset()) > 0
    assert survivors_of_a_round(frozenset({KILL_ALL})) == 0


def test_f06_a_refused_client_that_stays_holds_an_immediate_shutdown():
    found = search(15, frozenset(), ONE_REFUSED, NO_RESTART)
    verdict = check_property(found, PROPERTIES["every_immediate_shutdown_ends"])
    assert verdict.lasso is not None
    assert verdict.lasso.moments[-1].state["dead_end.running"] == 1


# F08: no switch of the model mends it yet; the mended machine is made here.


def heeding_xlog_shutdown(machine: Machine) -> Machine:
    """XLOG_IS_SHUTDOWN in the PM_STARTUP after a crash is a new crash."""
    left_over = state_is(PM.PM_STARTUP) & FATAL_ERROR
    heeded = ~CRASHY | (left_over & (SHUTDOWN == Shutdown.NoShutdown))

    def change(effect: Effect) -> Effect:
        if isinstance(effect, When) and show(effect.cond) == show(~CRASHY):
            return When(heeded, effect.then, effect.other)
        return effect

    return rewrite(machine, change, {"process_pmsignal"})


def recovery_ends(machine: Machine) -> bool:
    """18 with all repairs and somebody who sends the checkpointer signals by hand."""
    found = explore(machine, configured(18, ALL, NOBODY, STRAY), claims=())
    prop: Property = PROPERTIES[RECOVERY]
    return check_property(found, prop).holds


def test_f08_a_checkpointer_out_of_service_holds_recovery():
    assert not recovery_ends(MACHINE)


def test_f08_it_is_mended_by_taking_it_for_a_crash():
    assert recovery_ends(heeding_xlog_shutdown(MACHINE))
