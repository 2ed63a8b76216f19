"""`pglife table`: who can block each state of the postmaster, and where each event leads."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pglife_spec.cli import subject
from pglife_spec.cli.subject import ReleaseOption
from pglife_spec.explore import Exploration, explore
from pglife_spec.lang.machine import Action, Actor, Config
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.postgres.outside import kind_of
from pglife_spec.postgres.state.children import ALIVE_LIVES, COUNTED_LIVES, LIFE, some_in
from pglife_spec.postgres.state.postmaster import ALIVE, FATAL_ERROR, PENDING, STATE, state_is
from pglife_spec.postgres.waits import awaited, findings
from pglife_spec.postgres.words import PM, Kind, Shutdown
from pglife_spec.postgres.words.releases import NEWEST, VERIFIED, Release
from pglife_spec.postgres.words.repairs import PREFIX
from pglife_spec.report import console as show
from pglife_spec.traces.trace import Trace, trace_of

if TYPE_CHECKING:
    from pglife_spec.graphs.blocks import Parties

EXAMPLES = f"""\b
Examples:
  pglife table blocks -V 18          who can block each state, and what ends the wait
  pglife table events -V 15 -f md    where each event leads, as Markdown

{subject.STATUSES}"""
TIMER = "issue_sigkill"
FAMILIES = ("small", "walsender", "summarizer")
EVENT_FAMILIES = ("small",)
"""The configurations that are looked at, those that a release has."""


class What(enum.Enum):
    """The tables."""

    BLOCKS = "blocks"
    EVENTS = "events"


class Format(enum.Enum):
    """How a table is written."""

    TEXT = "text"
    MARKDOWN = "md"


@dataclass(frozen=True)
class Rows:
    """A table: its heads, its rows, and lines below it."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def table(
    what: Annotated[What, typer.Argument(help="Which table.")],
    release: ReleaseOption = None,
    format_: Annotated[
        Format,
        typer.Option(
            "--format", "-f", metavar="|".join(f.value for f in Format), help="How it is written."
        ),
    ] = Format.TEXT,
) -> None:
    """Tables that are computed from every state: who can block, and where events lead."""
    made = (blocks_table if what is What.BLOCKS else events_table)(release or NEWEST)
    if format_ is Format.MARKDOWN:
        typer.echo("\n".join(markdown(made)))
        return
    out = subject.console()
    _print(out, made)


def _print(out: Console, made: Rows) -> None:
    shown = Table(show_lines=False)
    for head in made.heads:
        shown.add_column(head, overflow="fold")
    before = None
    for row in made.rows:
        shown.add_row(*map(escape, ["" if row[0] == before else row[0], *row[1:]]))
        before = row[0]
    out.print(shown)
    for note in made.notes:
        out.print(note, markup=False, soft_wrap=True)


def markdown(made: Rows) -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield f"| {' | '.join(made.heads)} |"
    yield "|" + "---|" * len(made.heads)
    for row in made.rows:
        yield f"| {' | '.join(row)} |"
    for note in made.notes:
        yield ""
        yield note


def _explored(release: Release, families: Iterable[str]) -> Iterator[Exploration]:
    about = subject.load()
    for family in families:
        config = CONFIGS.get(f"{family}-{release.number}")
        if config is not None:
            with show.working(f"exploring {config.name}") as say:
                yield explore(about.machine, config, claims=[], progress=show.counting(say))


def _owner(action: Action) -> str | None:
    kind = kind_of(action)
    return kind.value if action.actor is Actor.CHILD and kind is not None else None


def blocks_table(release: Release) -> Rows:
    """Who can block each state of the postmaster, and what ends the wait."""
    from pglife_spec.graphs.blocks import NONE, Parties

    lives = {
        kind.value: {
            life.name: some_in(kind, life)
            for life in (ALIVE_LIVES if kind in LIFE else COUNTED_LIVES)
            if life in ALIVE_LIVES
        }
        for kind in Kind
        if kind is not Kind.LOGGER
    }
    starting = state_is(PM.PM_STARTUP, PM.PM_RECOVERY)
    parties = Parties(
        STATE,
        ALIVE & (PENDING | FATAL_ERROR | starting),
        lives,
        _owner,
        TIMER,
        lambda state, params: [kind.value for kind in awaited(state, params)],
    )
    order = [pm.name for pm in PM]
    places = [life.name for life in ALIVE_LIVES] + [NONE]
    merged: dict[tuple[int, int, str, str, str], set[str]] = {}
    for key, ends in _joined(release, parties).items():
        state, process, life, _ = key
        said = ", ".join(sorted(ends.families)).replace("_", " ")
        said = said or f"nothing: {', '.join(sorted(ends.known)) or 'not known'}"
        forced = ends.forced.pop() if len(ends.forced) == 1 else "sometimes"
        row = (order.index(state), places.index(life), said, forced, ", ".join(sorted(ends.rules)))
        merged.setdefault(row, set()).add(process)
    rows = [
        (order[state], places[life], ", ".join(k for k in (*lives, NONE) if k in who), *rest)
        for (state, life, *rest), who in sorted(merged.items())
    ]
    heads = ("state", "children that are", "block it: of kind", "ended by", "by SIGKILL", "rules")
    return Rows(heads, rows)


@dataclass
class _Ends:
    """What ends a wait, over all configurations."""

    families: set[str] = field(default_factory=set)
    rules: set[str] = field(default_factory=set)
    forced: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)


def _joined(release: Release, parties: Parties) -> dict[tuple[str, str, str, bool], _Ends]:
    from pglife_spec.graphs.blocks import blocks

    rows: dict[tuple[str, str, str, bool], _Ends] = {}
    for found in _explored(release, FAMILIES):
        for block in blocks(found, parties):
            key = (block.state, block.process, block.life, bool(block.ends))
            ends = rows.setdefault(key, _Ends())
            ends.families |= set(block.ends)
            ends.rules |= set(block.rules)
            ends.forced.add(block.forced)
            if block.nearest is not None:
                ends.known |= set(_known(found, found.space.state(block.nearest)))
    return rows


def _known(found: Exploration, state: int) -> tuple[str, ...]:
    """The findings that a wait for ever belongs to."""
    trace = found.trace_to(state)
    return findings(found.program.machine, replace(trace, loop=len(trace)))


REQUESTS = {mode.name.lower(): mode.name.removesuffix("Shutdown").lower() for mode in Shutdown}


def event_of(action: Action) -> str | None:
    """The column of the table of events that an action of the postmaster belongs to."""
    kind, life = kind_of(action), action.choices.get("life", "")
    if action.family == "process_shutdown_request":
        return f"{REQUESTS[action.choices['mode']]} request"
    if action.family == "process_pmsignal":
        return "message of a child"
    if action.family in (TIMER, "fork_first_children"):
        return "timer" if action.family == TIMER else "start"
    if action.family == "end_reaping":
        return "all zombies reaped"
    if not action.family.startswith("reap_"):
        return None
    good = life not in ("crashed", "exited_1")
    if kind is Kind.STARTUP or "startup" in action.family:
        return "startup process exits 0" if good or not life else "startup process fails"
    if kind is Kind.CHECKPOINTER and life == "exited_0":
        return "checkpointer exits 0"
    return "another child crashes" if life == "crashed" else None


def events_table(release: Release) -> Rows:
    """Where each event leads from each state of the postmaster; a finding beside its step."""
    from pglife_spec.graphs.events import Move, moves

    about = subject.load()
    ways: dict[Move, tuple[Exploration, int, int]] = {}
    for found in _explored(release, EVENT_FAMILIES):
        for way, (at, action) in moves(found, STATE, event_of).items():
            ways.setdefault(way, (found, at, action))
    sound: set[Move] = set()
    for family in EVENT_FAMILIES:
        config = _repaired(CONFIGS[f"{family}-{release.number}"])
        with show.working(f"exploring {config.name}, repaired"):
            sound |= set(moves(explore(about.machine, config, claims=[]), STATE, event_of))
    events = [e for e in COLUMNS if any(e == event for _, event, _ in ways)]
    rows: list[list[str]] = []
    for state in (pm.name for pm in PM):
        cells = [_cell(state, event, ways, sound) for event in events]
        if any(cells):
            rows.append([state, *cells])
    cited = {event: _rules(about.machine.actions, event) for event in events}
    notes = [
        "A dot: the event may come and changes no state. An empty cell: it cannot come.",
        *(f"{event}: {rules}" for event, rules in cited.items() if rules),
    ]
    return Rows(("state", *events), rows, notes)


COLUMNS = (
    "start",
    "smart request",
    "fast request",
    "immediate request",
    "startup process exits 0",
    "startup process fails",
    "another child crashes",
    "checkpointer exits 0",
    "all zombies reaped",
    "message of a child",
    "timer",
)


def _cell(
    state: str,
    event: str,
    ways: dict[tuple[str, str, str], tuple[Exploration, int, int]],
    sound: set[tuple[str, str, str]],
) -> str:
    texts = []
    for after in (pm.name for pm in PM if (state, event, pm.name) in ways):
        if after == state:
            continue
        found, at, action = ways[state, event, after]
        known: tuple[str, ...] = ()
        if (state, event, after) not in sound:
            known = findings(found.program.machine, _step(found, at, action))
        texts.append(after + (f" ({', '.join(known)})" if known else ""))
    stays = (state, event, state) in ways
    return "; ".join(texts) or ("\u00b7" if stays else "")


def _step(found: Exploration, at: int, action: int) -> Trace:
    """A shortest trace to a state, and one more step."""
    state = found.space.state(at)
    path = [*found.path_to(state), (action, found.program.step(action, state))]
    return replace(trace_of(found.program, path), loop=len(path) - 1)


def _rules(actions: Iterable[Action], event: str) -> str:
    return ", ".join(dict.fromkeys(r for a in actions if event_of(a) == event for r in a.rules))


def _repaired(config: Config) -> Config:
    repairs = {name: True for name in config.params if name.startswith(PREFIX)}
    return replace(config, params={**config.params, **repairs})


def page() -> str:
    """docs/tables.md: both tables of each release."""
    makers: dict[str, Callable[[Release], Rows]] = {
        "Who can block, and what ends the wait": blocks_table,
        "Where events lead": events_table,
    }
    lines = [HEAD]
    for release in VERIFIED:
        for title, make in makers.items():
            lines += [f"## {title}: PostgreSQL {release.number}", "", *markdown(make(release)), ""]
    return "\n".join(lines).rstrip() + "\n"


HEAD = """# Tables of the postmaster's states

Computed from every state of small configurations by `pglife table blocks` and `pglife table
events`; written by `make pages`. A rule's text: `pglife rule SH-04`. F01 and the like are
[findings](findings.md).

A child blocks a state if the postmaster cannot leave it before that child takes a step. The wait
is ended by steps of the model: of the child itself, or of its client. Beside it stands whether the
SIGKILL round, five seconds after a crash or an immediate request, ends it for a child that does
not react.
"""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
