"""What a client or an operator can see of each step, and which step a stimulus causes.

Begin with line_of(), which says what evidence a log line is, then cause_of() and the stimuli.
What can be seen of a state is in `view.py`.

Source: postmaster.c: LogChildExit(), UpdatePMState(), canAcceptConnections(); each process's main
function for its signals and its title.
"""

import enum
import re
import signal
from collections.abc import Iterable, Sequence

from pglife_spec.lang.errors import SpecError
from pglife_spec.lang.machine import Action, Actor, Emit, When
from pglife_spec.meanings.python.program import Evidence
from pglife_spec.postgres import declared as actions
from pglife_spec.postgres.declared import among, case_of
from pglife_spec.postgres.words import Exit, Kind, Life, Shutdown, Signal
from pglife_spec.postgres.words.kinds import SINGLETONS
from pglife_spec.postgres.words.releases import Feature, release_of

# Log lines.

Line = tuple[str, ...]
"""Evidence that is a line in the log: ("pmstate", from, to), ("log", text), or a child's death."""

CRASH = ("log", "crash")
"""The first parts of a line that announces a crash; the kind of the child follows."""

_TEXTS = frozenset(
    {
        "received smart shutdown request",
        "received fast shutdown request",
        "received immediate shutdown request",
        "aborting any active transactions",
        "terminating any other active server processes",
        "issuing SIGKILL to recalcitrant children",
        "all server processes terminated; reinitializing",
        "database system is ready to accept connections",
        "database system is ready to accept read-only connections",
        "shutdown at recovery target",
        "abnormal database system shutdown",
        "shutting down due to startup process failure",
        'shutting down because "restart_after_crash" is off',
        "received SIGHUP, reloading configuration files",
        "WAL was shut down unexpectedly",
        "database system is shut down",
    }
)
_OTHER_WORDING = {
    "shutting down because restart_after_crash is off": (
        'shutting down because "restart_after_crash" is off'
    ),
    "issuing SIGABRT to recalcitrant children": "issuing SIGKILL to recalcitrant children",
}
_STARTUP_NOT_FORKED = re.compile(r'could not fork "?startup"? process: .*')
_PMSTATE = re.compile(r"updating PMState from (PM_\w+) to (PM_\w+)")
_DEATH = re.compile(
    r"(?P<name>.+) \(PID \d+\) "
    r"(?:exited with exit code (?P<code>\d+)|was terminated by signal \d+: .*)"
)
_SERVER_PROCESS = "SERVER_PROCESS"
"""Up to 17 the log calls sessions, walsenders, dead-end children and autovacuum workers so."""
_NAME_IN_LOG = {
    "startup process": Kind.STARTUP.name,
    "background writer process": Kind.BG_WRITER.name,
    "checkpointer process": Kind.CHECKPOINTER.name,
    "WAL writer process": Kind.WAL_WRITER.name,
    "autovacuum launcher process": Kind.AUTOVAC_LAUNCHER.name,
    'background worker "logical replication launcher"': Kind.BG_WORKER.name,
    "io worker": Kind.IO_WORKER.name,
    "archiver process": Kind.ARCHIVER.name,
    "autovacuum worker": Kind.AUTOVAC_WORKER.name,
    "WAL summarizer process": Kind.WAL_SUMMARIZER.name,
    "walsender": Kind.WAL_SENDER.name,
    "WAL receiver process": Kind.WAL_RECEIVER.name,
    "slot sync worker process": Kind.SLOTSYNC_WORKER.name,
    "client backend": Kind.BACKEND.name,
    "dead-end client backend": Kind.DEAD_END_BACKEND.name,
    "server process": _SERVER_PROCESS,
}
_LOGGER_IN_LOG = "system logger process"
_ALSO_CALLED = {
    Kind.BACKEND.name: {_SERVER_PROCESS},
    Kind.DEAD_END_BACKEND.name: {_SERVER_PROCESS},
    Kind.AUTOVAC_WORKER.name: {_SERVER_PROCESS},
    Kind.WAL_SENDER.name: {_SERVER_PROCESS, Kind.BACKEND.name},
}
"""18 calls a walsender so only if a signal or a count has looked at its kind (SV-24)."""


class UnknownChildError(SpecError):
    """A log line announces the crash of a process that the model does not have."""


def line_of(level: str, message: str) -> Line | None:
    """The evidence that a line of the postmaster is, or None if no step of the model leaves it.

    Args:
        level: LOG, DEBUG1 and so on.
        message: the text without prefix.

    Raises:
        UnknownChildError: for the death of a process that the model does not have.
    """
    if level.startswith("DEBUG"):
        found = _PMSTATE.fullmatch(message)
        return ("pmstate", found[1], found[2]) if found else None
    if level != "LOG":
        return None
    message = _OTHER_WORDING.get(message, message)
    if message in _TEXTS:
        return ("log", message)
    if _STARTUP_NOT_FORKED.fullmatch(message):
        return ("log", 'could not fork "startup" process')
    died = _DEATH.fullmatch(message)
    return _death(died["name"], died["code"]) if died else None


def _death(name: str, code: str | None) -> Line | None:
    if name == _LOGGER_IN_LOG:
        return None
    kind = _NAME_IN_LOG.get(name)
    if kind is None:
        raise UnknownChildError(name)
    if kind == Kind.BG_WORKER.name and code == "1":
        return ("log", "bgworker exited", kind)
    return (*CRASH, kind)


def is_same_line(expected: Line, seen: Line) -> bool:
    """Whether a line that a step leaves can be the one that was seen."""
    if expected == seen:
        return True
    announces_crash = expected[:2] == seen[:2] == CRASH
    return announces_crash and seen[2] in _ALSO_CALLED.get(expected[2], ())


def lines(evidence: Iterable[Evidence], kinds: frozenset[str]) -> tuple[Line, ...]:
    """The lines among the evidence of a step.

    Args:
        evidence: what the step leaves.
        kinds: "log", and "pmstate" where the server logs its states.
    """
    return tuple(tuple(map(str, item)) for item in evidence if item[0] in kinds)


def line_kinds(version: int) -> frozenset[str]:
    """The kinds of evidence that appear in the log of a release."""
    logged = Feature.PM_STATE_IS_LOGGED in release_of(version).features
    return frozenset({"log", "pmstate"}) if logged else frozenset({"log"})


# Other evidence of a step.


def forked(evidence: Iterable[Evidence]) -> list[Kind]:
    """The kinds of the children that a step forks, in order."""
    return [Kind[str(item[1])] for item in evidence if item[0] == "fork"]


def signalled(evidence: Iterable[Evidence]) -> list[tuple[Signal, Kind]]:
    """The signals that a step sends to children, each with the kind that receives it."""
    sent = [item for item in evidence if item[0] == "signal"]
    return [(Signal[str(item[1])], Kind[str(item[2])]) for item in sent]


def refusal(evidence: Iterable[Evidence]) -> str | None:
    """The message by which a step refuses a client, or None if it refuses none."""
    return next((str(item[1]) for item in evidence if item[0] == "refusal"), None)


def leaves(action: Action, *kinds: str) -> bool:
    """Whether the action can leave evidence of these kinds."""
    stack = list(action.effects)
    while stack:
        effect = stack.pop()
        if isinstance(effect, Emit) and effect.what in kinds:
            return True
        if isinstance(effect, When):
            stack += [*effect.then, *effect.other]
    return False


def changes_children(action: Action) -> bool:
    """Whether a look may fall between the action's log lines and its forks or reaps."""
    return leaves(action, "fork") or among(action, actions.REAPS, actions.end_reaping)


def replaces(action: Action) -> bool:
    """Whether in the middle of the action a child is gone whose successor it forks."""
    return leaves(action, "fork") and among(action, actions.REAPS)


# Why a step happens.


class Cause(enum.Enum):
    """What must have happened outside before a step can happen."""

    NOTHING = "nothing: the server, or a client of its own accord"
    CLIENT = "a client has connected and was not accepted yet"
    STIMULUS = "an operator or a fault causes it"


_UNASKED = (
    actions.client_disconnects,
    actions.backend_becomes_walsender,
    actions.walsender_disconnects,
    actions.archiver_fails,
    actions.operator_changes_io_workers,
    actions.launcher_asks_for_worker,
    actions.launcher_cancels_request,
    actions.launcher_is_asked_for,
    actions.background_worker_ends,
    actions.operator_requests_reload,
)
"""Steps of the environment that no stimulus of the suite announces."""


def cause_of(action: Action) -> Cause:
    """What an action waits for."""
    if among(action, actions.ADMISSIONS):
        return Cause.CLIENT
    is_own = action.actor in (Actor.POSTMASTER, Actor.CHILD)
    if is_own or among(action, *_UNASKED):
        return Cause.NOTHING
    return Cause.STIMULUS


_KIND_OF_CASES = (
    (actions.reap_startup, Kind.STARTUP),
    (actions.reap_startup_and_launch_archiver, Kind.STARTUP),
    (actions.reap_checkpointer, Kind.CHECKPOINTER),
    (actions.reap_finished_background_worker, Kind.STATIC_WORKER),
    (actions.background_worker_ends, Kind.STATIC_WORKER),
    (actions.reap_logger, Kind.LOGGER),
    (actions.launch_logger, Kind.LOGGER),
    (actions.launch_io_worker, Kind.IO_WORKER),
    (actions.launch_walreceiver, Kind.WAL_RECEIVER),
    (actions.launch_slotsync_worker, Kind.SLOTSYNC_WORKER),
    (actions.dead_end_child_exits, Kind.DEAD_END_BACKEND),
    (actions.launch_archiver, Kind.ARCHIVER),
    (actions.reap_archiver, Kind.ARCHIVER),
    (actions.reap_and_replace_archiver, Kind.ARCHIVER),
    (actions.launcher_asks_again, Kind.AUTOVAC_LAUNCHER),
    (actions.emergency_launcher_exits, Kind.AUTOVAC_LAUNCHER),
    (actions.autovacuum_worker_takes_its_entry, Kind.AUTOVAC_WORKER),
    (actions.autovacuum_worker_frees_its_entry, Kind.AUTOVAC_WORKER),
    (actions.autovacuum_worker_exits_without_entry, Kind.AUTOVAC_WORKER),
    (actions.shrink_io_pool, Kind.IO_WORKER),
    (actions.archiver_finishes, Kind.ARCHIVER),
    (actions.archiver_fails, Kind.ARCHIVER),
    (actions.operator_stops_archiver, Kind.ARCHIVER),
    (actions.walsender_finishes, Kind.WAL_SENDER),
)
_KIND_OF = {action.name: kind for cases, kind in _KIND_OF_CASES for action in cases}
_FIRST_WORDS = {
    "startup": Kind.STARTUP,
    "checkpointer": Kind.CHECKPOINTER,
    "walreceiver": Kind.WAL_RECEIVER,
    "slotsync": Kind.SLOTSYNC_WORKER,
}
"""What a child does by itself is named after its kind."""


def kind_of(action: Action) -> Kind | None:
    """The kind of child that takes the step, or that the postmaster reaps or launches in it."""
    if "kind" in action.choices:
        return Kind[action.choices["kind"].upper()]
    if action.actor is Actor.CHILD and action.name not in _KIND_OF:
        return _FIRST_WORDS.get(action.family.partition("_")[0])
    return _KIND_OF.get(action.name)


def life_of(action: Action) -> Life | None:
    """The state of the child that the step is about, if the action is declared for several."""
    chosen = action.choices.get("life")
    return Life[chosen.upper()] if chosen is not None else None


def reap_after_quit() -> list[tuple[Action, Action]]:
    """Each death by SIGQUIT with the step that reaps it."""
    reaps = {kind_of(a): a for a in actions.REAPS if life_of(a) is Life.CRASHED}
    return [(quits, reaps[kind_of(quits)]) for quits in actions.child_exits_at_sigquit]


# Stimuli.

RELOAD = case_of(actions.operator_requests_reload)
FORK_FAILS = case_of(actions.fork_begins_to_fail)
FORK_WORKS = case_of(actions.fork_works_again)


def shutdown_request(mode: str) -> Action:
    """The operator asks for a shutdown, in the mode that the log calls smart, fast or immediate."""
    return case_of(
        actions.operator_requests_shutdown, mode=Shutdown[f"{mode.capitalize()}Shutdown"]
    )


FATAL_SIGNALS = frozenset(
    {
        signal.SIGKILL,
        signal.SIGABRT,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGTRAP,
        signal.SIGSYS,
        signal.SIGQUIT,
    }
)
"""Signals whose death the postmaster takes for a crash, whatever the child (RP-02, SG-40)."""

_TERM, _INT, _USR2 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR2
_SIGNALS: dict[Kind, Sequence[tuple[frozenset[signal.Signals], Action]]] = {
    Kind.STARTUP: [(frozenset({_TERM}), case_of(actions.startup_fails))],
    Kind.CHECKPOINTER: [
        (frozenset({_INT}), case_of(actions.operator_sends_sigint_to_checkpointer)),
        (frozenset({_USR2}), case_of(actions.operator_sends_sigusr2_to_checkpointer)),
    ],
    Kind.IO_WORKER: [(frozenset({_INT, _USR2}), case_of(actions.operator_stops_io_worker))],
    Kind.ARCHIVER: [(frozenset({_TERM, _USR2}), case_of(actions.operator_stops_archiver))],
    **{
        kind: [(numbers, case_of(actions.operator_terminates_background_process, kind=kind))]
        for kind, numbers in {
            Kind.BG_WRITER: frozenset({_TERM}),
            Kind.WAL_WRITER: frozenset({_TERM, _INT}),
            Kind.AUTOVAC_LAUNCHER: frozenset({_TERM}),
            Kind.BG_WORKER: frozenset({_TERM, _INT}),
            Kind.WAL_SUMMARIZER: frozenset({_TERM, _INT}),
            Kind.STATIC_WORKER: frozenset({_TERM}),
            Kind.WAL_RECEIVER: frozenset({_TERM}),
            Kind.SLOTSYNC_WORKER: frozenset({_TERM}),
        }.items()
    },
}


def signal_to_child(kind: Kind, number: signal.Signals) -> list[Action]:
    """The steps of which one happens when an operator signals a child; none if it has no effect.

    A session's end by SIGTERM is not among them: a session may end at any time.
    """
    if number in FATAL_SIGNALS:
        cases = actions.child_crashes if kind in SINGLETONS else actions.counted_child_crashes
        return [action for action in cases if kind_of(action) is kind]
    return [action for numbers, action in _SIGNALS.get(kind, ()) if number in numbers]


_LAST_ORDERS = {
    Kind.CHECKPOINTER: frozenset({_USR2}),
    Kind.IO_WORKER: frozenset({_USR2, _INT}),
    Kind.ARCHIVER: frozenset({_USR2, _TERM}),
    Kind.WAL_SENDER: frozenset({_USR2, _TERM}),
}


def orders(kind: Kind, life: Life) -> frozenset[signal.Signals]:
    """The signals of which one brings a child of this kind into this state (3.3)."""
    match life:
        case Life.TERMINATING:
            return _LAST_ORDERS.get(kind, frozenset({_TERM}))
        case Life.QUITTING:
            return frozenset({signal.SIGQUIT})
        case Life.CHECKPOINTING:
            return frozenset({_INT, _USR2})
        case _:
            return frozenset()


EXIT_CODES = {Exit.EXITED_0: 0, Exit.EXITED_1: 1}
