"""`pglife explore` and `pglife configs`: the states of one configuration, and which there are."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pglife_spec.cli import subject
from pglife_spec.cli.subject import (
    BoundOption,
    ConfigOption,
    MisuseError,
    ReleaseOption,
    SetOption,
    Status,
    WholeOption,
)
from pglife_spec.explore import Exploration, Verdict, check_properties, explore
from pglife_spec.explore.guards import idle_conditions
from pglife_spec.explore.search import Stop
from pglife_spec.lang.expr import TRUE, Expr
from pglife_spec.lang.machine import Claim, Config, Machine
from pglife_spec.lang.parse import nearest, parse
from pglife_spec.meanings.pack import label
from pglife_spec.meanings.store import user_store
from pglife_spec.postgres.words.repairs import PREFIX
from pglife_spec.report import console as show
from pglife_spec.report.collect import is_declared
from pglife_spec.traces.trace import Trace, write_itf

EXAMPLES = f"""\b
Examples:
  pglife explore                     every state of tiny-18, claims and liveness
  pglife explore -V 15 --lassos      also how the declared hangs of 15 come about
  pglife explore -c small-18 --limit 50000
  pglife explore --traces out/       each counterexample as a file for replay
  pglife explore --set io_workers=2 --bound backend=2 --claim every_fast_shutdown_ends
  pglife explore --check 'pmState = PM_RUN -> checkpointer != ABSENT'
  pglife explore --until 'pmState = PM_WAIT_DEAD_END and Shutdown = FastShutdown'

{subject.STATUSES}"""


def configs() -> None:
    """List the named configurations: what each is for, and how it differs from most."""
    out = subject.console()
    known = subject.load().configs
    groups: dict[object, list[Config]] = {}
    for config in known.values():
        groups.setdefault(config.params.get(subject.VERSION), []).append(config)
    for group in groups.values():
        values = [_values(config) for config in group]
        usual = {
            name: Counter(v[name] for v in values if name in v).most_common(1)[0][0]
            for name in dict.fromkeys(name for v in values for name in v)
        }
        for config, own in zip(group, values, strict=True):
            differs = [text for name, text in own.items() if usual[name] != text]
            out.print(f"[bold]{config.name:20}[/] {config.purpose}".rstrip(), soft_wrap=True)
            if differs:
                out.print(f"{'':20} {', '.join(differs)}", soft_wrap=True, style="dim")
        out.print(f"{'all others have':20} {', '.join(usual.values())}", soft_wrap=True)


def _values(config: Config) -> dict[str, str]:
    """What a configuration says, in words, by name; all repairs as one where they agree."""
    repairs = {v for n, v in config.params.items() if n.startswith(PREFIX)}
    said = {}
    for name, value in config.params.items():
        if not name.startswith(PREFIX) or len(repairs) > 1:
            said[name] = f"{name} = {label(value)}"
    if len(repairs) == 1:
        said[PREFIX] = "all findings repaired" if True in repairs else "no finding repaired"
    bounds = {f"bound {n}": f"{n} up to {v}" for n, v in config.bounds.items()}
    return said | bounds


CheckOption = Annotated[
    list[str] | None,
    typer.Option("--check", metavar="EXPR", help="Does this always hold? Repeatable."),
]
UntilOption = Annotated[
    str | None,
    typer.Option(metavar="EXPR", help="Stop where this holds, and print a shortest way there."),
]
ClaimOption = Annotated[
    list[str] | None,
    typer.Option("--claim", metavar="NAME", help="Only this claim or property. Repeatable."),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Stop at the end of the level that passes this many states."
    ),
]


def _bytes(text: str) -> int:
    units = {"K": 10, "M": 20, "G": 30}
    number, unit = text.rstrip("KMG"), text[-1:]
    if not number.isdigit() or len(text) - len(number) > 1:
        raise ValueError("expected a number of bytes, as in 800M or 20G")
    return int(number) << units.get(unit, 0)


MemoryOption = Annotated[
    int | None,
    typer.Option(
        metavar="SIZE", parser=_bytes, help="Stop before the states take more, as in 20G."
    ),
]


def explore_(
    config: ConfigOption = None,
    release: ReleaseOption = None,
    settings: SetOption = None,
    bounds: BoundOption = None,
    checks: CheckOption = None,
    until: UntilOption = None,
    names: ClaimOption = None,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Also list the conditions that never decide.")
    ] = False,
    liveness: Annotated[bool, typer.Option(help="Also check the liveness properties.")] = True,
    limit: LimitOption = None,
    max_memory: MemoryOption = None,
    lassos: Annotated[
        bool, typer.Option("--lassos", help="Print also the runs that fail as declared.")
    ] = False,
    whole: WholeOption = False,
    traces: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write each counterexample and lasso to this folder."),
    ] = None,
) -> None:
    """Visit every state of one configuration: claims, deadlocks, coverage, liveness."""
    about, out = subject.load(), subject.console()
    chosen = about.config(config, release, settings=settings, bounds=bounds)
    machine = _asked(about.machine, checks or [], until, names or [])
    with show.working(f"exploring {chosen.name}") as say:
        found = explore(
            machine,
            chosen,
            final=about.final,
            limit=limit,
            max_memory=max_memory,
            stop_at_violation=until is not None,
            progress=show.counting(say),
            store=user_store(),
        )
    if until is not None:
        raise typer.Exit(_show_way(out, found, traces))
    show.show_exploration(out, found, whole=whole)
    if coverage:
        show.show_coverage(out, *idle_conditions(found), whole=whole)
    wrong = show.counterexamples(found)
    declared: dict[str, Trace] = {}
    if liveness and machine.properties and found.stopped is not Stop.INTERRUPTED:
        verdicts = _verdicts(found)
        show.show_verdicts(out, found, verdicts)
        for said in verdicts:
            if said.lasso is not None:
                kept = declared if is_declared(said.prop, chosen) else wrong
                kept[said.prop.name] = replace(said.lasso, description=said.prop.name)
    for trace in [*wrong.values(), *(declared.values() if lassos else ())]:
        show.show_trace(out, machine, trace)
        for line in about.explain(about.machine, trace):
            out.print(f"  {line}", markup=False, soft_wrap=True)
    if declared and not lassos:
        out.print("  --lassos prints the runs that fail as declared", style="dim")
    _write_traces(traces, wrong | declared)
    raise typer.Exit(Status.WRONG if wrong else _status(found))


def _status(found: Exploration) -> int:
    if found.stopped is Stop.INTERRUPTED:
        return Status.INTERRUPTED
    return Status.OK if found.complete else Status.INCOMPLETE


def _verdicts(found: Exploration) -> list[Verdict]:
    with show.working("checking liveness") as say:
        return list(check_properties(found, found.program.machine.properties, say))


def _asked(machine: Machine, checks: list[str], until: str | None, names: list[str]) -> Machine:
    """The machine with the claims and properties that are asked for; all, if nothing is."""
    known = [*(c.name for c in machine.claims), *(p.name for p in machine.properties)]
    for name in names:
        if name not in known:
            raise MisuseError(f"no claim or property {name!r}{nearest(name, known)}")
    if until is not None:
        target = parse(until, machine)
        return replace(machine, claims=(_claim(until, ~target),), properties=())
    if not checks and not names:
        return machine
    own = [_claim(text, parse(text, machine)) for text in checks]
    claims = (*own, *(c for c in machine.claims if c.name in names))
    properties = tuple(p for p in machine.properties if p.name in names)
    return replace(machine, claims=claims, properties=properties)


def _claim(text: str, holds: Expr) -> Claim:
    return Claim(text, (), text, "the command line", holds, reaches=TRUE)


def _show_way(out: Console, found: Exploration, traces: Path | None) -> int:
    """A shortest way to the state that was looked for, or that no state is like it."""
    for text, state in found.violated.items():
        way = {text: found.trace_to(state, f"until {text}")}
        show.show_trace(out, found.program.machine, way[text])
        _write_traces(traces, way)
        return Status.OK
    (claim,) = found.program.machine.claims
    seen = "" if found.complete else " seen before the search stopped"
    out.print(f"in none of {found.states:,} states{seen}: {claim.name}", markup=False)
    return Status.WRONG if found.complete else _status(found)


def _write_traces(directory: Path | None, traces: dict[str, Trace]) -> None:
    if directory is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name, trace in traces.items():
        path = directory / f"{_file_name(name)}.itf.json"
        write_itf(trace, path)
        subject.say_written(path)


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
