"""Results on a terminal: explorations, traces and proofs as rich tables.

Begin with show_exploration(), show_trace(), show_proof().
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pglife_spec.explore import Exploration, Progress, Verdict
from pglife_spec.explore.guards import Idle
from pglife_spec.lang.expr import BOOL, EnumSort, show
from pglife_spec.lang.machine import Machine
from pglife_spec.meanings.pack import label
from pglife_spec.report.collect import is_declared
from pglife_spec.traces.trace import Trace

if TYPE_CHECKING:
    from pglife_spec.prove.report import ProofReport

LISTED = 12
"""How many names a line gives before it says how many more there are."""
WIDE = 105
"""On a terminal with fewer columns a trace has one column less."""


@contextmanager
def working(title: str) -> Iterator[Callable[[str], None]]:
    """A line that moves while something runs; call what it gives to say how far it is.

    Where standard error is no terminal, one line says what begins.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(title, markup=False, highlight=False, soft_wrap=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(title), total=None)

        def say(text: str) -> None:
            bar.update(task, description=escape(f"{title}: {text}" if text else title))

        yield say


def counting(say: Callable[[str], None]) -> Callable[[Progress], None]:
    """A progress callback for searches."""

    def tell(seen: Progress) -> None:
        say(
            f"{seen.states:,} states ({seen.rate:,.0f}/s), {seen.transitions:,} steps, "
            f"depth {seen.depth}, {seen.waiting:,} waiting"
        )

    return tell


def show_exploration(console: Console, found: Exploration, *, whole: bool = False) -> None:
    """Counts, claims, deadlocks, coverage; lists of names are cut unless the whole is asked for."""
    listed = partial(_list, console, most=None if whole else LISTED)
    rate = found.transitions / found.seconds if found.seconds else 0
    partly = f"  [yellow](not all: {found.stopped.value})[/]" if found.stopped else ""
    console.print(
        f"[bold]{escape(found.program.config.name)}[/]  {found.states:,} states, "
        f"{found.transitions:,} steps, depth {found.depth}, {found.seconds:.1f} s "
        f"({rate:,.0f} steps/s){partly}"
    )
    claims = found.program.machine.claims
    decided = [name for name in found.without_case() if name not in found.violated]
    good = len(claims) - len(found.violated) - len(decided)
    if claims:
        console.print(
            f"  [green]{good}[/] claims hold, {len(found.witnessed)} with a witness reached"
        )
    listed("no case here", decided)
    listed("not witnessed here", found.missing_witnesses())
    for name in found.violated:
        console.print(f"  [bold red]violated[/] {escape(name)}")
    stuck = f"[bold red]{len(found.deadlocks)} deadlocks[/]" if found.deadlocks else "no deadlock"
    console.print(f"  {stuck}, {found.finals:,} final states")
    listed("actions never taken", found.dead_actions())
    cut: Counter[str] = Counter()
    for action, times in zip(found.program.actions, found.cuts, strict=True):
        cut[action.family] += times
    listed("cut at the bounds", [f"{f} ({n:,})" for f, n in cut.most_common() if n])
    listed("[bold red]cut, although the server takes them[/]", found.wrong_cuts())
    for index in found.underflows:
        name = found.program.actions[index].name
        console.print(f"  [bold red]a counter would go below zero[/] in {escape(name)}")


def show_coverage(console: Console, count: int, idle: Sequence[Idle], *, whole: bool) -> None:
    """The conditions of guards that never were the only false one."""
    console.print(
        f"  {count - len(idle)} of {count} conditions of guards decide alone in some state"
    )
    for title, ever_false in (("never false", False), ("false only with others", True)):
        names = [
            f"{i.action.name}: {show(i.condition)}" for i in idle if i.ever_false == ever_false
        ]
        _list(console, title, names, most=None if whole else LISTED, between="\n    ")


def _list(
    console: Console, what: str, names: Sequence[str], *, most: int | None, between: str = " "
) -> None:
    if names:
        left = len(names[most:]) if most is not None else 0
        more = f"{between}and {left} more (--whole lists all)" if left else ""
        said = f",{between}".join(names[:most])
        console.print(f"  {what}:{between}{escape(said)}{more}", style="dim")


def counterexamples(found: Exploration) -> dict[str, Trace]:
    """A shortest trace to each thing that is wrong, by name."""
    traces = {name: found.trace_to(state, name) for name, state in found.violated.items()}
    if found.deadlocks:
        traces["deadlock"] = found.trace_to(found.deadlocks[0], "deadlock")
    for action in found.wrong_cuts()[:1]:
        name = f"a bound cuts {action}"
        traces[name] = found.trace_to(found.first_cut(action), name)
    for index, state in found.underflows.items():
        name = f"below zero in {found.program.actions[index].name}"
        traces[name] = found.trace_to(state, name)
    return traces


def show_verdicts(console: Console, found: Exploration, verdicts: Sequence[Verdict]) -> None:
    """One line a liveness property."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("", "property", "states", "seconds"):
        table.add_column(head, justify="right" if head in ("states", "seconds") else "left")
    for said in verdicts:
        if said.lasso is None:
            word = "[green]holds[/]" if said.states else "[dim]no case[/]"
            if not said.complete:
                word = "[yellow]open: not all states seen[/]"
        elif is_declared(said.prop, found.program.config):
            word = "[yellow]fails, as declared[/]"
        else:
            word = "[bold red]fails[/]"
        name = escape(said.prop.name)
        table.add_row(word, name, f"{said.states:,}", f"{said.seconds:.1f}")
    console.print(table)


def show_trace(console: Console, machine: Machine, trace: Trace) -> None:
    """One row a step: who, what, which variables changed, what can be seen."""
    actors = {a.name: a.actor.value for a in machine.actions}
    title = f"{trace.description}  ({len(trace)} steps)" if trace.description else None
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=False)
    heads = ("step", "changes", "seen") if console.width >= WIDE else ("step", "changes, seen")
    for head in ("", "who", *heads):
        table.add_column(head, overflow="fold")
    # Borders and the two narrow columns take the rest.
    width = (console.width - 25 - 3 * len(heads)) // len(heads)
    for index, moment in enumerate(trace.moments):
        changes = {n: v for n, v in trace.changes(index).items() if machine.variable(n).shown}
        if index == 0:
            changes = {n: v for n, v in changes.items() if not _is_nothing(machine, n, v)}
        changed = [f"{n} = {label(v)}" for n, v in changes.items()]
        seen = [" ".join(map(label, e)) for e in moment.evidence]
        table.add_row(
            f"{index}{' *' if index == trace.loop else ''}",
            actors.get(moment.action or "", ""),
            _folded([moment.action or ("start" if index == 0 else "?")], width),
            *(
                _folded(c, width)
                for c in ((changed, seen) if len(heads) == 3 else (changed + seen,))
            ),
        )
    console.print(table)
    if trace.loop is not None:
        console.print(f"  * {ending(trace)}")


def _folded(lines: Iterable[str], width: int) -> str:
    """Lines no wider than this, folded between words: after a space, `_`, `(` or a comma."""
    folded: list[str] = []
    for line in lines:
        row = ""
        for part in re.findall(r"[^ _(,]*[ _(,]*", line):
            if row and len(row) + len(part.rstrip()) > width:
                folded.append(row.rstrip())
                row = "  "
            row += part
        folded.append(row.rstrip())
    return escape("\n".join(folded))


def ending(trace: Trace) -> str:
    """How a lasso goes on for ever, in words."""
    if trace.loop is None:
        return ""
    if trace.loop == len(trace):
        return f"at rest in state {trace.loop} for ever"
    return f"from state {len(trace)} back to state {trace.loop}, for ever"


def _is_nothing(machine: Machine, name: str, value: object) -> bool:
    """Whether a value says that there is nothing: not worth a line at the start.

    Of an enum that is the first value, where several variables have it: no request, no child.
    """
    sort = machine.variable(name).sort
    if isinstance(sort, EnumSort):
        shared = sum(v.sort == sort for v in machine.variables) > 1
        return shared and value is sort.members[0]
    return value is False if sort == BOOL else value == 0


def show_proof(console: Console, proof: ProofReport, *, whole: bool = False) -> None:
    """One line a claim, then the counterexamples."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("", "claim", "seconds", "not kept by"):
        table.add_column(head, justify="right" if head == "seconds" else "left", overflow="fold")
    for claim in proof.claims:
        good = claim.status.value == "proved"
        word = f"[green]{claim.status.value}[/]" if good else f"[bold red]{claim.status.value}[/]"
        failed = escape(", ".join(claim.failed[: None if whole else LISTED]))
        table.add_row(word, escape(claim.name), f"{claim.seconds:.2f}", failed)
    console.print(table)
    pins = ", ".join(f"{k} = {label(v)}" for k, v in proof.fixed.items()) or "every configuration"
    done = sum(o.status.value == "proved" for o in proof.obligations)
    console.print(
        f"{escape(pins)}: {done:,} of {len(proof.obligations):,} obligations proved "
        f"with {len(proof.lemmas)} lemmas in {proof.seconds:.1f} s; {proof.trivial:,} are trivial"
    )
    if proof.explored_only:
        console.print(
            f"  {len(proof.explored_only)} claims have no such proof: `pglife explore` checks them"
        )
    if proof.failed_lemmas:
        console.print(f"[bold red]{len(proof.failed_lemmas)} obligations of lemmas failed[/]")
    for example in proof.counterexamples:
        console.print(escape(example.text()))
