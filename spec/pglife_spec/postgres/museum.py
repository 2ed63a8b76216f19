"""The museum: bugs of PostgreSQL's past as changes of the model, each with what catches it.

Begin with EXHIBITS. The rule of an exhibit (HB-01 and after) says what the bug did, which releases
had it, and which repaired it; the change puts it back into a model with all repairs. `pglife museum
HB-35` shows the shortest run into it.

Source: PostgreSQL's release notes and the commits that they name, by the rules HB-01 to HB-46.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pglife_spec.lang.expr import FALSE, Expr, Value
from pglife_spec.lang.machine import Action, Config, Machine, flatten, when
from pglife_spec.lang.mutate import without_effect
from pglife_spec.lang.watch import watched
from pglife_spec.postgres.actions.effects import exit_postmaster, forget, signal
from pglife_spec.postgres.build import build
from pglife_spec.postgres.claims import WATCHES
from pglife_spec.postgres.configurations import CONFIGS, config
from pglife_spec.postgres.mutants import (
    archiver_and_walsenders_are_not_awaited,
    dead_end_children_are_not_signaled,
)
from pglife_spec.postgres.state.children import recorded
from pglife_spec.postgres.state.postmaster import SHUTDOWN, STARTUP_STATUS, state_is
from pglife_spec.postgres.state.workers import LISTED
from pglife_spec.postgres.words import PM, Exit, Kind, Life, Shutdown, Signal, StartupStatus
from pglife_spec.postgres.words.kinds import WORKERS

Change = Callable[[Machine], Machine]


@dataclass(frozen=True)
class Exhibit:
    """One bug of the past.

    Args:
        rule: its rule, which has its releases.
        name: of the change.
        doc: what the changed model does.
        caught_by: the claim or property that fails.
        config: a configuration in which it fails, and in which the right model does not.
        scenario: the test of the suite that would have caught it, by its function's name.
        apply: makes the model with the bug of the right one.
    """

    rule: str
    name: str
    doc: str
    caught_by: str
    config: Config
    scenario: str
    apply: Change

    def machine(self) -> Machine:
        """The model with the bug, and with the watch that catches it if one does."""
        watches = [watch for watch in WATCHES if watch.name == self.caught_by]
        return watched(self.apply(build()), watches)


EXHIBITS: list[Exhibit] = []


def _exhibit(
    rule: str, caught_by: str, scenario: str, where: str | Config = "tiny-18-repaired"
) -> Callable[[Change], Change]:
    def declare(function: Change) -> Change:
        doc = " ".join((function.__doc__ or "").split())
        found = where if isinstance(where, Config) else CONFIGS[where]
        EXHIBITS.append(Exhibit(rule, function.__name__, doc, caught_by, found, scenario, function))
        return function

    return declare


def _own(name: str, purpose: str, *, dead_end: int = 0, **params: Value) -> Config:
    """A small configuration of 18 with all repairs, for one exhibit."""
    bounds = {"backend": 0, "dead_end": dead_end}
    return config(f"{name}-18", 18, purpose, repaired=True, bounds=bounds, io_workers=0, **params)


# How a bug is put back.


def _is(action: Action, family: str, choices: Mapping[str, enum.Enum]) -> bool:
    wanted = {name: value.name.lower() for name, value in choices.items()}
    return action.family == family and wanted.items() <= action.choices.items()


def _instead(
    m: Machine, family: str, effects: Callable[[Action], object], **choices: enum.Enum
) -> Machine:
    """The machine whose actions of a family, with these choices, have other effects."""
    return m.with_actions(
        replace(a, effects=flatten(effects(a))) if _is(a, family, choices) else a for a in m.actions
    )


def _then_exits(m: Machine, family: str, **choices: enum.Enum) -> Machine:
    """The machine whose postmaster exits with 1 after these actions."""
    return _instead(m, family, lambda a: [a.effects, exit_postmaster(Exit.EXITED_1)], **choices)


def _only_when(m: Machine, family: str, guard: Expr, **choices: enum.Enum) -> Machine:
    """The machine in which these actions ask for one more condition."""
    return m.with_actions(
        replace(a, guards=(*a.guards, guard)) if _is(a, family, choices) else a for a in m.actions
    )


def _without(m: Machine, family: str) -> Machine:
    """The machine that never takes an action of the family."""
    return _only_when(m, family, FALSE)


# Startup and crashes.


@_exhibit(
    "HB-01",
    "only_the_logger_outlives_the_postmaster",
    "test_death_of_the_startup_process_ends_the_server",
)
def a_failed_startup_ends_the_postmaster_at_once(m: Machine) -> Machine:
    """A startup process that fails in PM_STARTUP makes the postmaster exit, whatever else runs."""
    at_once = flatten([forget(Kind.STARTUP, Life.EXITED_1), exit_postmaster(Exit.EXITED_1)])
    was_not_signaled = STARTUP_STATUS != StartupStatus.STARTUP_SIGNALED
    return _instead(
        m,
        "reap_startup",
        lambda a: [when(state_is(PM.PM_STARTUP) & was_not_signaled, at_once, a.effects)],
        life=Life.EXITED_1,
    )


@_exhibit(
    "HB-05",
    "only_the_logger_outlives_the_postmaster",
    "test_killed_idle_session_causes_a_crash_restart",
)
def a_crash_takes_the_postmaster_with_it(m: Machine) -> Machine:
    """The postmaster reads shared memory that a crashed backend has damaged, and exits."""
    return _then_exits(m, "reap_counted_child", kind=Kind.BACKEND, life=Life.CRASHED)


@_exhibit(
    "HB-03",
    "only_the_logger_outlives_the_postmaster",
    "test_reload_keeps_the_old_rules_if_the_new_ones_are_bad",
    _own("reloads", "a reload at any moment", reloads=True),
)
def a_reload_ends_the_postmaster(m: Machine) -> Machine:
    """A check of the new settings raises an ERROR in the postmaster, which ends it."""
    return _then_exits(m, "process_reload_request")


# Shutdown.


@_exhibit(
    "HB-26",
    "each_shutdown_target_is_sent_sigterm_once",
    "test_smart_shutdown_sends_no_signal_while_a_session_is_open",
)
def a_smart_request_ends_the_background(m: Machine) -> Machine:
    """A smart request signals walwriter, launcher and background workers at once, while sessions
    go on."""
    ended = signal(Signal.SIGTERM, Kind.WAL_WRITER, Kind.AUTOVAC_LAUNCHER, *WORKERS)
    here = state_is(PM.PM_RUN) & (SHUTDOWN == Shutdown.NoShutdown)
    return _instead(
        m,
        "process_shutdown_request",
        lambda a: [when(here, ended), *a.effects],
        mode=Shutdown.SmartShutdown,
    )


@_exhibit(
    "HB-35",
    "every_immediate_shutdown_ends",
    "test_immediate_shutdown_kills_children_that_survive_quit",
)
def stuck_children_are_never_killed(m: Machine) -> Machine:
    """No SIGKILL follows SIGQUIT, which a stuck child ignores."""
    return _without(_without(m, "issue_sigkill"), "child_exits_at_sigquit")


@_exhibit(
    "HB-38",
    "wait_dead_end_has_signaled_every_dead_end_child",
    "test_the_round_kills_a_dead_end_child_too",
    _own("doors", "one client that is refused", dead_end=1),
)
def no_signal_ends_dead_end_children(m: Machine) -> Machine:
    """No shutdown signals dead-end children: a silent client delays its end."""
    return dead_end_children_are_not_signaled(m)


@_exhibit("HB-15", "every_fast_shutdown_ends", "test_checkpointer_writes_one_last_checkpoint")
def the_last_checkpoint_never_ends(m: Machine) -> Machine:
    """The checkpointer fails to allocate its memory, and tries for ever."""
    return _without(m, "checkpointer_finishes_shutdown_checkpoint")


@_exhibit(
    "HB-08",
    "the_wait_for_archiver_and_walsenders_ends",
    "test_walsender_is_waited_for_after_the_last_checkpoint",
    "walsender-18",
)
def a_walsender_waits_for_an_unflushed_record(m: Machine) -> Machine:
    """A walsender waits for WAL that no process flushes."""
    return _without(m, "walsender_finishes")


@_exhibit(
    "HB-09",
    "the_wait_for_archiver_and_walsenders_ends",
    "test_walsender_is_waited_for_after_the_last_checkpoint",
    "walsender-18",
)
def a_walsender_waits_for_replay(m: Machine) -> Machine:
    """A walsender waits for replay by the startup process, which has exited before it."""
    return _only_when(m, "walsender_finishes", recorded(Kind.STARTUP))


@_exhibit(
    "HB-46",
    "archiver_and_walsenders_exit_before_the_io_workers",
    "test_shutdown_signals_checkpointer_then_io_workers_then_checkpointer",
    "walsender-18",
)
def io_workers_end_first(m: Machine) -> Machine:
    """Io workers are ended while archiver and walsenders may still need them."""
    return archiver_and_walsenders_are_not_awaited(m)


# Processes that are missing.


@_exhibit(
    "HB-25",
    "a_crash_ends_every_restart_interval",
    "test_background_workers_need_not_wait_after_a_crash",
    "workers-18",
)
def a_crashed_worker_keeps_its_pid(m: Machine) -> Machine:
    """The entry of a worker that died in a crash keeps its pid: it is never started again."""
    return without_effect(m, LISTED[Kind.STATIC_WORKER], families={"end_reaping"})


# Standbys.


@_exhibit(
    "HB-10",
    "a_promotion_ends_in_pm_run",
    "test_promotion_ends_the_slotsync_worker_first",
    "slot-sync-18",
)
def a_stuck_slotsync_worker_delays_a_promotion(m: Machine) -> Machine:
    """A slotsync worker that waits for its primary does not see that it has to stop."""
    return _without(m, "slotsync_worker_stops_at_promotion")
