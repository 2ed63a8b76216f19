"""What the commands are about: PostgreSQL's model, its releases and its configurations.

Begin with `load`. A command that is asked for something that does not exist raises `MisuseError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pglife_spec.lang.errors import SpecError
from pglife_spec.lang.expr import BOOL, INT, EnumSort, Expr, Sort, Value
from pglife_spec.lang.machine import Config, Machine, Mutant
from pglife_spec.lang.parse import nearest
from pglife_spec.postgres.words.releases import NEWEST, VERIFIED, Release
from pglife_spec.traces.trace import Trace

if TYPE_CHECKING:
    import networkx as nx

    from pglife_spec.graphs import LifeView

VERSION = "version"
"""The parameter of the machine that tells releases apart."""


class Status:
    """Exit statuses of all commands."""

    OK = 0
    WRONG = 1
    MISUSED = 2
    INCOMPLETE = 3
    INTERRUPTED = 130


STATUSES = """\b
Exit status:
  0  all is well
  1  the model, a claim or a trace is wrong
  2  the command line asks for something that does not exist
  3  the search stopped before it had seen every state, at --limit or --max-memory
  130  Ctrl-C; what was seen until then is printed"""
NUMBERS = "|".join(str(release.number) for release in VERIFIED)


def _verified(text: str) -> Release:
    for release in VERIFIED:
        if text == str(release.number):
            return release
    raise ValueError(f"expected one of {NUMBERS}")


def release_option(text: str) -> Any:
    """The option for a release."""
    return typer.Option("--release", "-V", metavar=NUMBERS, parser=_verified, help=text)


ReleaseOption = Annotated[
    Release | None,
    release_option(f"Release of PostgreSQL.  [default: {NEWEST.number}]"),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="NAME",
        help="Named configuration; `pglife configs` lists them.  [default: tiny-RELEASE]",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Give a parameter another value. Repeatable."),
]
BoundOption = Annotated[
    list[str] | None,
    typer.Option("--bound", metavar="NAME=N", help="How many there may be at most. Repeatable."),
]
WholeOption = Annotated[bool, typer.Option("--whole", help="Print every list whole.")]


class MisuseError(SpecError):
    """The command line asks for something that does not exist."""


@dataclass(frozen=True)
class Subject:
    """A machine with what the commands need beside it.

    Args:
        machine: the machine.
        configs: its named configurations.
        final: where having no step left is right.
        mutants: wrong models, each with the claim that it breaks.
        views: the pictures of a release, by name.
        to_draw: a configuration small enough for the picture of a name.
        signals: who signals whom.
        fit: gives a configuration the bounds that its parameters need at least.
        explain: says in words why a lasso goes on for ever.
    """

    machine: Machine
    configs: Mapping[str, Config]
    final: Expr
    mutants: tuple[Mutant, ...]
    views: Callable[[Release], Mapping[str, LifeView]]
    to_draw: Callable[[Config, str], Config]
    signals: Callable[[Machine], nx.MultiDiGraph]
    fit: Callable[[Config], Config] = lambda config: config
    explain: Callable[[Machine, Trace], list[str]] = lambda machine, trace: []

    def config(
        self,
        name: str | None,
        release: Release | None,
        default: str = "tiny",
        *,
        settings: list[str] | None = None,
        bounds: list[str] | None = None,
    ) -> Config:
        """The named configuration, or the default one of a release, with these changes.

        Raises:
            MisuseError: something here is unknown, or the configuration is of another release.
        """
        wanted = name or f"{default}-{(release or NEWEST).number}"
        if wanted not in self.configs:
            known = ", ".join(self.configs)
            raise MisuseError(f"no configuration {wanted!r}; there are: {known}")
        found = self.configs[wanted]
        refuse_other_release(f"configuration {wanted!r}", found.params, release)
        return self._changed(found, settings or [], bounds or [])

    def _changed(self, config: Config, settings: list[str], bounds: list[str]) -> Config:
        if not settings and not bounds:
            return config
        params = [p for p in self.machine.params if p.name != VERSION]
        values = values_of("--set", settings, {p.name: p.sort for p in params})
        numbers = values_of("--bound", bounds, dict.fromkeys(config.bounds, INT))
        name = f"{config.name} with {', '.join([*settings, *bounds])}"
        made = self.fit(replace(config, name=name, params={**config.params, **values}))
        return replace(made, bounds={**made.bounds, **{n: int(v) for n, v in numbers.items()}})  # type: ignore[arg-type]


def refuse_other_release(what: str, params: Mapping[str, Value], release: Release | None) -> None:
    """Refuse `-V` where something else has already said which release it is of."""
    said = params.get(VERSION)
    if release is not None and said is not None and said != release.number:
        raise MisuseError(f"{what} is of {said}: it does not go with -V {release.number}")


def values_of(option: str, given: Iterable[str], sorts: Mapping[str, Sort]) -> dict[str, Value]:
    """The values that an option gives to names, each of its own sort.

    Raises:
        MisuseError: a name is unknown, or a value is not of its sort.
    """
    values: dict[str, Value] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in sorts:
            raise MisuseError(f"{option} takes NAME=VALUE: {text!r}{nearest(name, sorts)}")
        sort = sorts[name]
        if sort == BOOL and value in ("true", "false"):
            values[name] = value == "true"
        elif sort == INT and value.isdecimal():
            values[name] = int(value)
        elif isinstance(sort, EnumSort) and value in sort.cls.__members__:
            values[name] = sort.cls[value]
        else:
            names = [m.name for m in sort.members] if isinstance(sort, EnumSort) else []
            kind = "true or false" if sort == BOOL else ", ".join(names) or "a whole number"
            raise MisuseError(f"{name} takes {kind}: {value!r}")
    return values


def load() -> Subject:
    """PostgreSQL's postmaster and its children."""
    from pglife_spec.postgres.build import build
    from pglife_spec.postgres.configurations import CONFIGS, fitting
    from pglife_spec.postgres.mutants import MUTANTS
    from pglife_spec.postgres.state.postmaster import EXITED
    from pglife_spec.postgres.waits import explain

    def views(release: Release) -> Mapping[str, LifeView]:
        from pglife_spec.draw.views import views

        return views(release.number)

    def to_draw(config: Config, view: str) -> Config:
        from pglife_spec.draw.views import drawn

        return drawn(config, view)

    def signals(machine: Machine) -> nx.MultiDiGraph:
        from pglife_spec.draw.views import signals

        return signals(machine)

    return Subject(
        build(), CONFIGS, EXITED, tuple(MUTANTS), views, to_draw, signals, fitting, explain
    )


def console() -> Console:
    """A terminal as wide as it is; a file or pipe wide enough for a trace."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=140)


def say_written(path: Path, what: str = "") -> None:
    """One line about a file that a command has written."""
    console().print(f"wrote {path}{what}", markup=False, soft_wrap=True)


def refuse_unwritable(path: Path | None) -> None:
    """Refuse a file that cannot be written before the work that fills it.

    Raises:
        MisuseError: its folder does not exist, or it is a folder itself.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise MisuseError(f"{path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise MisuseError(f"{path} is a folder; expected a file to write")
