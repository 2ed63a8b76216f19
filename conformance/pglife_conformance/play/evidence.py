"""Whether a server is where the model says: what must be seen after a turn, and what differs.

Begin with   Expected.of(), then Expected.differences().
Owns         the translation of a state and of a turn's evidence into lines, children, orders,
             the pid file and the exit status.
Leaves out   waiting for it (player.py), whether something else would be allowed (the monitor).
Source       DESIGN section 4 (Evidence).
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.monitor.binding import MODEL_KIND
from pglife_conformance.monitor.labels import Label, UnknownDeath, label_of
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import RunState
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.play.plan import Turn
from pglife_spec.lang.expr import Value
from pglife_spec.meanings.python.program import Program
from pglife_spec.postgres.state import (
    ALIVE_LIVES,
    COUNT,
    EXIT,
    LIFE,
    PID_FILE,
    none_recorded,
    number,
)
from pglife_spec.postgres.words import SINGLETONS, Exit, Life, PidFile
from pglife_spec.postgres.words import Kind as ModelKind

_CODES = {Exit.EXITED_0: 0, Exit.EXITED_1: 1}
_LAST_ORDER = {
    ModelKind.CHECKPOINTER: frozenset({signal.SIGUSR2}),
    ModelKind.IO_WORKER: frozenset({signal.SIGUSR2, signal.SIGINT}),
}


def _order(kind: ModelKind, life: Life) -> frozenset[signal.Signals]:
    """The signals of which one brings a child of this kind into this life (table 3.3)."""
    match life:
        case Life.TERMINATING:
            return _LAST_ORDER.get(kind, frozenset({signal.SIGTERM}))
        case Life.QUITTING:
            return frozenset({signal.SIGQUIT})
        case Life.CHECKPOINTING:
            return frozenset({signal.SIGINT, signal.SIGUSR2})
        case _:
            return frozenset()


@dataclass(frozen=True)
class Expected:
    """What must be seen when the postmaster has come to rest after a turn."""

    lines: tuple[Label, ...]
    children: Counter[Kind]
    orders: tuple[tuple[Kind, frozenset[signal.Signals]], ...]
    """For children told to do something: one of these signals is pending, if they are held."""
    pid_file: str | None
    exit_code: int | None

    @classmethod
    def of(cls, program: Program, turn: Turn, *, has_pmstates: bool) -> Expected:
        """What a turn must leave."""
        visible = {"log", "pmstate"} if has_pmstates else {"log"}
        lines = tuple(
            _plain(tuple(str(part) for part in item))
            for item in turn.steps.evidence
            if item[0] in visible
        )
        return cls._of(program, turn.steps.after, lines)

    @classmethod
    def _of(cls, program: Program, state: int, lines: tuple[Label, ...]) -> Expected:
        ended = program.evaluate(EXIT)(state)
        pid_file = program.evaluate(PID_FILE)(state)
        assert isinstance(pid_file, PidFile)
        assert isinstance(ended, Exit)
        children: Counter[Kind] = Counter()
        orders: list[tuple[Kind, frozenset[signal.Signals]]] = []
        for kind in ModelKind:
            shown = _SHOWN[kind]
            children[shown] += _recorded(program, kind)(state)
            for life in ALIVE_LIVES:
                one = (shown, _order(kind, life))
                orders += [one] * _in_life(program, kind, life)(state) if one[1] else []
        return cls(
            lines,
            +children,
            tuple(orders),
            None if pid_file is PidFile.NONE else str(pid_file.value),
            None if ended is Exit.ALIVE else _CODES[ended],
        )

    def differences(self, cluster: Cluster, since: int) -> list[tuple[str, str]]:
        """What is not as expected: pairs of what is expected and what is seen."""
        seen = cluster.watcher.look()
        found: list[tuple[str, str]] = []
        lines = told_lines(cluster, since)
        if lines != self.lines:
            found.append((_words(self.lines), _words(lines)))
        if seen.exit_code != self.exit_code:
            ends = [
                "no exit" if c is None else f"exit {c}" for c in (self.exit_code, seen.exit_code)
            ]
            found.append((ends[0], ends[1]))
        if seen.exit_code is not None or self.exit_code is not None:
            return found
        there = Counter(kid.kind for kid in seen.kids if kid.kind in _MODELLED)
        if there != self.children:
            found.append((f"children {_count(self.children)}", _count(there)))
        status = seen.pid_file.value if seen.pid_file is not None else None
        if status != self.pid_file:
            found.append((f"postmaster.pid says {self.pid_file}", str(status)))
        return found + self._wrong_orders(cluster)

    def _wrong_orders(self, cluster: Cluster) -> list[tuple[str, str]]:
        """Only who is held keeps its orders to be seen."""
        held = [kid for kid in cluster.watcher.kids if kid.state is RunState.STOPPED]
        free = Counter(kid.kind for kid in cluster.watcher.kids if kid.state is RunState.RUNNING)
        left, is_wrong = list(held), False
        for kind, wanted in self.orders:
            fitting = next(
                (k for k in left if k.kind is kind and pending_signals(k) & wanted), None
            )
            if fitting is not None:
                left.remove(fitting)
            elif free[kind]:
                free[kind] -= 1
            else:
                is_wrong = True
        is_wrong = is_wrong or any(signal.SIGQUIT in pending_signals(kid) for kid in left)
        if not is_wrong:
            return []
        wanted_words = [f"{_signals(wanted, ' or ')} to {kind}" for kind, wanted in self.orders]
        sent_words = [f"{_signals(pending_signals(kid))} to {kid.kind}" for kid in held]
        return [(", ".join(wanted_words) or "no order", ", ".join(sent_words) or "nobody held")]


_SHOWN: dict[ModelKind, Kind] = {model: kind for kind, model in MODEL_KIND.items()}
_SHOWN[ModelKind.DEAD_END_BACKEND] = Kind.UNKNOWN
_MODELLED = frozenset(_SHOWN.values())


def told_lines(cluster: Cluster, since: int) -> tuple[Label, ...]:
    """The postmaster's lines since this mark, as far as the model tells of them."""
    labels: list[Label] = []
    for record in cluster.log(since):
        try:
            label = label_of(record) if record.pid == cluster.pid else None
        except UnknownDeath as name:
            label = ("log", "crash", str(name))
        if label is not None:
            labels.append(_plain(label))
    return tuple(labels)


def _plain(label: Label) -> Label:
    """Of several that died together, the kernel decides who is named."""
    return label[:2] if label[:2] == ("log", "crash") else label


def _recorded(program: Program, kind: ModelKind) -> Callable[[int], int]:
    if kind in SINGLETONS:
        there = program.predicate(~none_recorded(kind))
        return lambda state: int(there(state))
    count = program.evaluate(number(kind))
    return lambda state: _int(count(state))


def _in_life(program: Program, kind: ModelKind, life: Life) -> Callable[[int], int]:
    if kind in LIFE:
        is_so = program.predicate(LIFE[kind] == life)
        return lambda state: int(is_so(state))
    if (kind, life) not in COUNT:
        return lambda _state: 0
    count = program.evaluate(COUNT[kind, life])
    return lambda state: _int(count(state))


def _int(value: Value) -> int:
    assert isinstance(value, int)
    return value


def _words(lines: Iterable[Label]) -> str:
    """Lines as a report shows them: steps of pmState as arrows."""
    return ", ".join(map(_word, lines)) or "no line"


def _word(line: Label) -> str:
    if line[0] == "pmstate":
        return f"{line[1]} -> {line[2]}"
    return "a death told" if line[1] == "crash" else f'"{" ".join(line[1:])}"'


def _count(children: Counter[Kind]) -> str:
    one = [
        f"{kind}" if n == 1 else f"{n} × {kind}" for kind, n in sorted(children.items(), key=str)
    ]
    return ", ".join(one) or "none"


def _signals(numbers: Iterable[signal.Signals], joint: str = ", ") -> str:
    return joint.join(sorted(number.name for number in numbers)) or "nothing"
