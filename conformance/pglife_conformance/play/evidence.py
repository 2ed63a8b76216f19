"""What must be seen after an iteration of the postmaster's event loop, and what differs from it.

Begin with Expected.of(), then Expected.differences().
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.excerpt import Excerpt
from pglife_conformance.monitor.binding import BYSTANDERS, SHOWN_KIND
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import RunState
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.play.plan import PlannedIteration
from pglife_spec import Kind as ModelKind
from pglife_spec import Program, outside, view_of

_MODELLED = frozenset(SHOWN_KIND.values()) - BYSTANDERS


@dataclass(frozen=True)
class Expected:
    """What must be seen when the postmaster is idle after an iteration.

    Args:
        lines: the lines it has written.
        children: how many children of each kind there are.
        orders: for each child that was ordered to do something, the signals of which one is
            pending if the child is stopped.
        pid_file: line 8 of postmaster.pid, or None without the file.
        exit_code: the postmaster's, or None while it runs.
    """

    lines: tuple[outside.Line, ...]
    children: Counter[Kind]
    orders: tuple[tuple[Kind, frozenset[signal.Signals]], ...]
    pid_file: str | None
    exit_code: int | None

    @classmethod
    def of(cls, program: Program, planned: PlannedIteration) -> Expected:
        """What an iteration must leave behind."""
        version = program.config.params["version"]
        assert isinstance(version, int)
        found = outside.lines(planned.steps.evidence, outside.line_kinds(version))
        view, after = view_of(program), planned.steps.after
        children: Counter[Kind] = Counter()
        for kind, number in zip(ModelKind, view.children(after), strict=True):
            children[SHOWN_KIND[kind]] += number
        return cls(
            tuple(map(_without_kind, found)),
            +children,
            tuple((SHOWN_KIND[kind], sent) for kind, sent in view.pending_orders(after)),
            view.pid_file(after),
            view.exit_code(after),
        )

    def differences(self, cluster: Cluster, then: Excerpt) -> list[tuple[str, str]]:
        """Pairs of what is expected and what is seen instead."""
        seen = cluster.watcher.look()
        found: list[tuple[str, str]] = []
        lines = _lines_written(cluster, then)
        if lines != self.lines:
            found.append((_words(self.lines), _words(lines)))
        if seen.exit_code != self.exit_code:
            exits = [
                "no exit" if c is None else f"exit {c}" for c in (self.exit_code, seen.exit_code)
            ]
            found.append((exits[0], exits[1]))
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
        """An order stays pending only while its child is stopped."""
        stopped = [kid for kid in cluster.watcher.kids if kid.state is RunState.STOPPED]
        free = Counter(kid.kind for kid in cluster.watcher.kids if kid.state is RunState.RUNNING)
        left, is_wrong = list(stopped), False
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
        sent_words = [f"{_signals(pending_signals(kid))} to {kid.kind}" for kid in stopped]
        return [
            (", ".join(wanted_words) or "no order", ", ".join(sent_words) or "no stopped child")
        ]


def _lines_written(cluster: Cluster, then: Excerpt) -> tuple[outside.Line, ...]:
    """The postmaster's lines since then, without those that no step of the model writes."""
    lines: list[outside.Line] = []
    for record in then.log():
        try:
            is_own = record.pid == cluster.pid
            line = outside.line_of(record.level, record.message) if is_own else None
        except outside.UnknownChildError as name:
            line = (*outside.CRASH, str(name))
        if line is not None:
            lines.append(_without_kind(line))
    return tuple(lines)


def _without_kind(line: outside.Line) -> outside.Line:
    """Of several children that died together, the kernel decides which is named."""
    return line[:2] if line[:2] == outside.CRASH else line


def _words(lines: Iterable[outside.Line]) -> str:
    """Lines as a report shows them, changes of pmState as arrows."""
    return ", ".join(map(_word, lines)) or "no line"


def _word(line: outside.Line) -> str:
    if line == outside.CRASH:
        return "the crash of a child"
    return f"{line[1]} -> {line[2]}" if line[0] == "pmstate" else f'"{" ".join(line[1:])}"'


def _count(children: Counter[Kind]) -> str:
    one = [
        f"{kind}" if n == 1 else f"{n} × {kind}" for kind, n in sorted(children.items(), key=str)
    ]
    return ", ".join(one) or "none"


def _signals(numbers: Iterable[signal.Signals], joint: str = ", ") -> str:
    return joint.join(sorted(number.name for number in numbers)) or "nothing"
