"""What the postmaster writes into its log, in the model's words.

Begin with   label_of().
Owns         the table from log lines to labels, and from names of dead processes to kinds (3.4).
Leaves out   lines of children, and lines that no step of the model leaves.
Source       postmaster.c; rules PM-01, RP-02, RP-10 to RP-27.
"""

from __future__ import annotations

import re

from pglife_conformance.observation.log import LogRecord

Label = tuple[str, ...]

_PLAIN = frozenset(
    {
        "received smart shutdown request",
        "received fast shutdown request",
        "received immediate shutdown request",
        "aborting any active transactions",
        "terminating any other active server processes",
        "issuing SIGKILL to recalcitrant children",
        "all server processes terminated; reinitializing",
        "database system is ready to accept connections",
        "abnormal database system shutdown",
        "shutting down due to startup process failure",
        'shutting down because "restart_after_crash" is off',
        "received SIGHUP, reloading configuration files",
        "WAL was shut down unexpectedly",
        "database system is shut down",
    }
)
_REWORDED = {
    "shutting down because restart_after_crash is off": (
        'shutting down because "restart_after_crash" is off'
    ),
    "issuing SIGABRT to recalcitrant children": "issuing SIGKILL to recalcitrant children",
}
_NO_STARTUP = re.compile(r'could not fork "?startup"? process: .*')
_PMSTATE = re.compile(r"updating PMState from (PM_\w+) to (PM_\w+)")
_DEATH = re.compile(
    r"(?P<name>.+) \(PID \d+\) "
    r"(?:exited with exit code (?P<code>\d+)|was terminated by signal \d+: .*)"
)
_KIND_OF_NAME = {
    "startup process": "STARTUP",
    "background writer process": "BG_WRITER",
    "checkpointer process": "CHECKPOINTER",
    "WAL writer process": "WAL_WRITER",
    "autovacuum launcher process": "AUTOVAC_LAUNCHER",
    'background worker "logical replication launcher"': "BG_WORKER",
    "io worker": "IO_WORKER",
    "client backend": "BACKEND",
    "dead-end client backend": "DEAD_END_BACKEND",
    "server process": "SERVER_PROCESS",
}
_LOGGER_NAME = "system logger process"

#: Labels that stand for any of several kinds: 15 calls sessions and refused clients alike.
SERVER_PROCESS = frozenset({"BACKEND", "DEAD_END_BACKEND"})


class UnknownDeath(Exception):
    """A process of a kind that the model does not tell of has died badly."""


def label_of(record: LogRecord) -> Label | None:
    """The label that the model's step must leave for this line, or None if it tells us nothing.

    Raises:
        UnknownDeath: for the death of a process outside the model.
    """
    if record.level.startswith("DEBUG"):
        found = _PMSTATE.fullmatch(record.message)
        return ("pmstate", found[1], found[2]) if found else None
    if record.level != "LOG":
        return None
    message = _REWORDED.get(record.message, record.message)
    if message in _PLAIN:
        return ("log", message)
    if _NO_STARTUP.fullmatch(message):
        return ("log", 'could not fork "startup" process')
    died = _DEATH.fullmatch(message)
    return _death(died["name"], died["code"]) if died else None


def _death(name: str, code: str | None) -> Label | None:
    if name == _LOGGER_NAME:
        return None
    kind = _KIND_OF_NAME.get(name)
    if kind == "BG_WORKER" and code == "1":
        return ("log", "bgworker exited", kind)
    if kind is None:
        raise UnknownDeath(name)
    return ("log", "crash", kind)


def agree(model: Label, seen: Label) -> bool:
    """Whether the label of a step is the one that was seen."""
    if model == seen:
        return True
    return (
        model[:2] == seen[:2] == ("log", "crash")
        and seen[2] == "SERVER_PROCESS"
        and model[2] in SERVER_PROCESS
    )
