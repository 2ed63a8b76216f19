"""The order of the postmaster's steps: one iteration of its event loop.

Each step belongs to a phase. The loop passes the phases in a circle, and passes none in which there
is work. So right after a step it is known how far it can go before it must stop: to the first phase
with work, or to a phase before it, where something may arrive in time. `TURN` has these phases.
Begin with in_order().

18: the requests, then reload, deaths, messages, one client, the launches, and the timer. Up to 15
signal handlers do the first of these, in the order of the signals' numbers, and begin again after
each handler, before the loop goes on.

One wait of the model reports one event. Where a real one reports several, the handlers run before
each of them.

Source: postmaster.c: ServerLoop(); 15: pmdie(), reaper(), sigusr1_handler(), SIGHUP_handler().
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import (
    FALSE,
    TRUE,
    Assign,
    Expr,
    LanguageError,
    all_of,
    any_of,
    implies,
    ite,
)
from pglife_spec.lang.machine import Action, Actor, Claim, when
from pglife_spec.postgres import declared
from pglife_spec.postgres.declared import among, case_of
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    BETWEEN_EVENTS,
    FORK_FAILS,
    LAST_ACCEPT,
    REAPING,
    TURN,
)
from pglife_spec.postgres.words import Phase, Shutdown
from pglife_spec.postgres.words.parameters import RELOADS
from pglife_spec.postgres.words.releases import Feature, Release, has

CIRCLE_18 = (
    Phase.REQUESTS,
    Phase.RELOAD,
    Phase.DEATHS,
    Phase.MESSAGES,
    Phase.ACCEPT,
    Phase.LAUNCH,
    Phase.CLOCK,
)
CIRCLE_15 = (
    Phase.RELOAD,
    Phase.REQUESTS,
    Phase.MESSAGES,
    Phase.SMART_REQUEST,
    Phase.DEATHS,
    Phase.ACCEPT,
    Phase.LAUNCH,
    Phase.CLOCK,
)
_IN_HANDLERS = has(Feature.WORK_IN_HANDLERS)
_SMART = case_of(declared.process_shutdown_request, mode=Shutdown.SmartShutdown)

_PHASES: dict[Phase, Sequence[Sequence[Action]]] = {
    Phase.REQUESTS: [declared.process_shutdown_request],
    Phase.RELOAD: [declared.process_reload_request],
    Phase.DEATHS: [declared.REAPS, declared.end_reaping],
    Phase.MESSAGES: [declared.process_pmsignal],
    Phase.ACCEPT: [declared.ADMISSIONS, declared.accept_client_in_wait_dead_end],
    Phase.LAUNCH: [
        declared.LAUNCHES,
        declared.shrink_io_pool,
        declared.signal_autovacuum_launcher,
    ],
    Phase.CLOCK: [declared.issue_sigkill, declared.fork_first_children],
}


def circle_of(release: Release) -> Sequence[Phase]:
    """The phases of one iteration, in the order of a release."""
    return CIRCLE_15 if Feature.WORK_IN_HANDLERS in release.features else CIRCLE_18


def phase_of(action: Action, circle: Sequence[Phase]) -> Phase | None:
    """The phase of the loop in which the postmaster takes a step; None if it does not take it."""
    if action.name == _SMART.name and Phase.SMART_REQUEST in circle:
        return Phase.SMART_REQUEST
    return next((p for p, cases in _PHASES.items() if among(action, *cases)), None)


class _Work:
    """Which phases have work, in one release."""

    def __init__(self, actions: Iterable[Action], circle: Sequence[Phase]) -> None:
        self.circle = circle
        self.work: dict[Phase, Expr] = dict.fromkeys(circle, FALSE)
        #: What a launch waits for some seconds; what comes before background workers.
        self.later: Expr = FALSE
        self.before_workers: Expr = FALSE
        for action in actions:
            phase = phase_of(action, circle)
            if is_delayed(action):
                self.later |= all_of(*action.guards)
            elif phase not in (None, Phase.ACCEPT, Phase.CLOCK):
                self.work[phase] |= all_of(*action.guards)
                if phase is Phase.LAUNCH and not starts_workers(action):
                    self.before_workers |= all_of(*action.guards)

    def turns(self, phase: Phase, *, is_last: bool) -> list[Assign]:
        """How far the loop can go after a step of a phase, which may be the last of its phase."""
        turns: list[Assign] = []
        passed: Expr = TRUE
        for here in self._after(phase, is_last=is_last):
            matters = self._matters(here)
            turns.append(TURN[here].becomes(passed | ~matters))
            if matters is TRUE:
                # The same, and shorter.
                passed = TURN[here]
            # Deaths by SIGKILL come when they come.
            if (phase, here) != (Phase.CLOCK, Phase.DEATHS):
                passed = passed & ~self.work[here]
        return turns

    def _after(self, phase: Phase, *, is_last: bool) -> Sequence[Phase]:
        """The phases in the order in which they come after a step: a launch may be followed by
        others, and up to 15 any handler by any other."""
        at = self.circle.index(phase) + 1
        if phase is Phase.LAUNCH and not is_last:
            at -= 1
        if self.circle is CIRCLE_15 and at <= self.circle.index(Phase.ACCEPT):
            at = 0
        return (*self.circle[at:], *self.circle[:at])

    def _matters(self, phase: Phase) -> Expr:
        """Whether something may come up in a phase before the postmaster's next step."""
        match phase:
            case Phase.RELOAD:
                return RELOADS
            case Phase.CLOCK:
                return ABORT_TIMER
            case Phase.LAUNCH:
                return self.work[phase] | self.later | FORK_FAILS
            case _:
                return TRUE


def starts_workers(action: Action) -> bool:
    """Background workers are started last, and where fork fails again in each iteration."""
    return among(action, declared.start_background_workers, declared.restart_background_worker)


def is_delayed(action: Action) -> bool:
    """A child is started again some seconds after its last start or its exit (BG-05, AR-06)."""
    return among(
        action,
        declared.restart_background_worker,
        declared.launch_archiver,
        declared.launch_slotsync_worker,
    )


def in_order(actions: Sequence[Action]) -> tuple[Action, ...]:
    """The actions, each of the postmaster's in its phase of the loop."""
    works = [_Work(actions, CIRCLE_15), _Work(actions, CIRCLE_18)]
    return tuple(_placed(action, *works) for action in actions)


def progress(actions: Sequence[Action]) -> Claim:
    """The claim that the order never stops the postmaster."""
    ways = [
        any_of(*(TURN[phase] & work for phase, work in _Work(actions, circle).work.items()))
        for circle in (CIRCLE_15, CIRCLE_18)
    ]

    @claim("SL-01", "SL-03", "MM-08", source="postmaster.c: ServerLoop()")
    def the_loop_comes_to_what_it_must_not_pass() -> Statement:
        """Where the loop must not go beyond some work, it can do that work."""
        waits = BETWEEN_EVENTS & ~all_of(*TURN.values())
        return Statement(holds=implies(waits, ite(_IN_HANDLERS, *ways)), reaches=waits)

    return the_loop_comes_to_what_it_must_not_pass


def _placed(action: Action, old: _Work, new: _Work) -> Action:
    if among(action, declared.fork_begins_to_fail):
        free = [turn.becomes(True) for turn in TURN.values()]
        return replace(action, effects=(when(new.work[Phase.LAUNCH], free), *action.effects))
    phase, old_phase = phase_of(action, CIRCLE_18), phase_of(action, CIRCLE_15)
    if phase is None or old_phase is None:
        if action.actor is Actor.POSTMASTER:
            raise LanguageError(f"{action.name} is in no phase of the loop")
        return action
    turn = ite(_IN_HANDLERS, TURN[old_phase], TURN[phase])
    is_last = starts_workers(action)
    after = when(
        _IN_HANDLERS, old.turns(old_phase, is_last=is_last), new.turns(phase, is_last=is_last)
    )
    over = when(LAST_ACCEPT, LAST_ACCEPT.becomes(False))
    guards: tuple[Expr, ...]
    if among(action, declared.REAPS):
        guards, effects = (REAPING | turn,), (when(~REAPING, over), *action.effects)
    elif among(action, declared.end_reaping):
        guards, effects = (), (*action.effects, after)
    elif phase in (Phase.MESSAGES, Phase.ACCEPT):
        guards, effects = (turn,), (*action.effects, after)
    else:
        guards, effects = (turn,), (over, *action.effects, after)
    if is_last:
        guards = (*guards, ~new.before_workers)
    return replace(action, guards=(*action.guards, *guards), effects=effects)
