"""What can be seen of a state of the model: the children, the pid file, the exit code.

Begin with View.
"""

import signal
from collections.abc import Callable
from functools import cache

from pglife_spec.lang.declare import declared
from pglife_spec.lang.expr import Expr, Value, Var
from pglife_spec.meanings.pack import label
from pglife_spec.meanings.python.program import Program
from pglife_spec.postgres.outside import EXIT_CODES, orders
from pglife_spec.postgres.state import history
from pglife_spec.postgres.state.children import ALIVE_LIVES, COUNT, LIFE, number, recorded
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    CONNS_ALLOWED,
    EXIT,
    FATAL_ERROR,
    PID_FILE,
    REAPING,
    REQUEST,
    SHUTDOWN,
    STARTUP_STATUS,
    STATE,
)
from pglife_spec.postgres.state.shared import (
    CONTROL,
    RECOVERED,
    RECOVERY_STARTED,
    REDO,
    XLOG_IS_SHUTDOWN,
)
from pglife_spec.postgres.words import PM, Control, Exit, Kind, Life, PidFile, Shutdown
from pglife_spec.postgres.words.kinds import SINGLETONS

_HISTORY = frozenset(var.name for var in declared(Var, history))
_POSTMASTER = (
    STATE,
    SHUTDOWN,
    FATAL_ERROR,
    CONNS_ALLOWED,
    EXIT,
    PID_FILE,
)
_SHOWN = (
    STATE,
    EXIT,
    SHUTDOWN,
    FATAL_ERROR,
    ABORT_TIMER,
    CONNS_ALLOWED,
    STARTUP_STATUS,
    REQUEST,
    REAPING,
    CONTROL,
    RECOVERY_STARTED,
    XLOG_IS_SHUTDOWN,
)


class View:
    """What can be seen of one program's states: children, pid file, exit code.

    Args:
        program: the model under one configuration.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.is_starting = program.predicate(STATE == PM.PM_STARTUP)
        self.is_running = program.predicate(EXIT == Exit.ALIVE)
        self.has_request = program.predicate(REQUEST != Shutdown.NoShutdown)
        """A request to shut down has arrived and is not handled yet."""
        self.was_shut_down = program.predicate(CONTROL == Control.SHUT_DOWN)
        """The control file says "shut down": a start needs no recovery."""
        self.in_redo = program.predicate(REDO)
        self.is_recovered = program.predicate(RECOVERED)
        self.startup_is_quitting = program.predicate(LIFE[Kind.STARTUP] == Life.QUITTING)
        self._exit = program.evaluate(EXIT)
        self._pid_file = program.evaluate(PID_FILE)
        self._pm = program.evaluate(STATE)
        self._control = program.evaluate(CONTROL)
        self._known: dict[int, tuple[int, ...]] = {}
        self._children = [_number(program, kind) for kind in Kind]
        self._orders = [
            (kind, sent, _lives(program, kind, life))
            for kind in Kind
            for life in ALIVE_LIVES
            if (sent := orders(kind, life))
        ]
        self._postmaster = [program.evaluate(var) for var in _POSTMASTER]

    def exit_code(self, at: int) -> int | None:
        """The postmaster's exit code in this state; None while it runs."""
        status = self._exit(at)
        assert isinstance(status, Exit)
        return EXIT_CODES.get(status)

    def pid_file(self, at: int) -> str | None:
        """Line 8 of postmaster.pid; None if there is no file."""
        status = self._pid_file(at)
        assert isinstance(status, PidFile)
        return None if status is PidFile.NONE else status.value

    def control(self, at: int) -> Control:
        """The state in the control file."""
        found = self._control(at)
        assert isinstance(found, Control)
        return found

    def pm_state(self, at: int) -> PM:
        """pmState."""
        found = self._pm(at)
        assert isinstance(found, PM)
        return found

    def children(self, at: int) -> tuple[int, ...]:
        """How many children of each kind are running or zombies, in the order of Kind."""
        known = self._known.get(at)
        if known is None:
            known = self._known[at] = tuple(number(at) for number in self._children)
        return known

    def pending_orders(self, at: int) -> list[tuple[Kind, frozenset[signal.Signals]]]:
        """For each child that was ordered to do something: of these signals it received one."""
        return [(kind, sent) for kind, sent, number in self._orders for _ in range(number(at))]

    def outline(self, at: int) -> tuple[Value, ...]:
        """All that can be seen of a state, as values that can be compared."""
        return (*(read(at) for read in self._postmaster), *self.children(at))

    @staticmethod
    def outline_names() -> list[str]:
        """What each value of an outline is."""
        return [*(var.name for var in _POSTMASTER), *(f"number of {k.value}s" for k in Kind)]

    def has_same_future(self, one: int, other: int) -> bool:
        """Whether two states differ in history only, which no action's guard reads."""
        first, second = self.program.unpack(one), self.program.unpack(other)
        return all(first[name] == second[name] for name in first.keys() - _HISTORY)

    def differences(self, expected: int, found: int) -> list[str]:
        """In which variables of the postmaster a state differs from the expected one."""
        return [
            f"{var.name} is {label(read(found))} and not {label(read(expected))}"
            for var, read in zip(_POSTMASTER, self._postmaster, strict=True)
            if read(found) != read(expected)
        ]

    def describe(self, at: int) -> list[str]:
        """A state in two lines: the postmaster's variables, the children that are one of a kind."""
        values = self.program.unpack(at)
        return [
            " ".join(f"{var.name}={label(values[var.name])}" for var in variables)
            for variables in (_SHOWN, LIFE.values())
        ]


def _counter(program: Program, expr: Expr) -> Callable[[int], int]:
    read = program.evaluate(expr)

    def count(at: int) -> int:
        return int(read(at))  # type: ignore[arg-type]

    return count


def _number(program: Program, kind: Kind) -> Callable[[int], int]:
    if kind in SINGLETONS:
        return _counter(program, recorded(kind))
    return _counter(program, number(kind))


def _lives(program: Program, kind: Kind, life: Life) -> Callable[[int], int]:
    if kind in LIFE:
        return _counter(program, LIFE[kind] == life)
    if (kind, life) not in COUNT:
        return lambda _at: 0
    return _counter(program, COUNT[kind, life])


view_of = cache(View)
"""One View for each program, shared by all servers that run it."""
