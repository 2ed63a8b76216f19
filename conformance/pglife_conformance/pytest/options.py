"""The options of the plugin: each has a name with the prefix --pglife-, and most a short one.

The short names belong to the command line of `pytest conformance/`. They are never registered, so
that they cannot clash with another plugin's option: where no plugin and no conftest.py has
registered one, it is read as the long one.
"""

import math
from dataclasses import dataclass
from typing import Any

import pytest

DEFAULT_TARGET = "bundled"
_PREFIX = "--pglife-"


@dataclass(frozen=True)
class Option:
    """An option of ours.

    Args:
        name: the name after the prefix, which is the short name too.
        help: what --help says.
        metavar: the value's name there; None for a flag.
        registered: what else pytest needs to know.
    """

    name: str
    help: str
    metavar: str | None
    registered: dict[str, Any]

    @property
    def long(self) -> str:
        """The name that is always there."""
        return _PREFIX + self.name

    @property
    def short(self) -> str:
        """The name that is read as the long one where it is free."""
        return "--" + self.name

    def is_taken(self, config: pytest.Config) -> bool:
        """Whether another plugin has registered the short name."""
        return self is not TRACE and hasattr(config.option, self.name.replace("-", "_"))

    def name_in(self, config: pytest.Config) -> str:
        """The short name where it means our option, else the long one."""
        return self.long if self.is_taken(config) else self.short


TARGET = Option(
    "target",
    "server under test: bundled, postgres18 or a bin directory (default: %(default)s)",
    "TARGET",
    {"default": DEFAULT_TARGET},
)
REPAIRED = Option(
    "repaired",
    "findings of docs/findings.md that the target does not have, as F01,F06; may be repeated",
    "FINDINGS",
    {"action": "append", "default": []},
)
SCALE = Option(
    "deadline-scale",
    "multiply all deadlines, for slow machines (default: %(default)s)",
    "FACTOR",
    {"type": float, "default": 1.0},
)
TRACE = Option(
    "trace",
    "play this ITF trace against the target, and do nothing else; may be repeated. "
    "--trace FILE.json is the same; a --trace without such a file is pytest's own",
    "FILE.json",
    {"action": "append", "default": []},
)
KEEP = Option(
    "keep-clusters",
    "keep data directories and logs of the clusters",
    None,
    {"action": "store_true"},
)
OPTIONS = (TARGET, REPAIRED, SCALE, TRACE, KEEP)


def register(parser: pytest.Parser) -> None:
    """Register the long names."""
    group = parser.getgroup(
        "pglife",
        "conformance to PostgreSQL's lifecycles (short names without `pglife-` do as well where no "
        "other plugin has them)",
    )
    for option in OPTIONS:
        value = {"metavar": option.metavar} if option.metavar is not None else {}
        group.addoption(option.long, help=option.help, **value, **option.registered)


def forget_short_values(given: list[str], args: list[str]) -> None:
    """Take the values of our short options out of what pytest so far takes for test paths."""
    for place, word in enumerate(args[:-1]):
        option = _short_option(word)
        value = args[place + 1]
        if option is not None and option.metavar is not None and value in given:
            given.remove(value)


def read_short_names(parser: pytest.Parser, args: list[str]) -> None:
    """Replace short names by long ones, but for those that another plugin has registered."""
    place = 0
    while place < len(args):
        word = args[place]
        option = _short_option(word)
        if word == "--":
            return
        if option is None or not _is_ours(option, args, place, parser):
            place += 1
            continue
        args[place] = option.long + word.removeprefix(option.short)
        if option.metavar is not None and "=" not in word and place + 1 < len(args):
            # As one word: a value that begins with a dash is a value too.
            args[place : place + 2] = [f"{args[place]}={args[place + 1]}"]
        place += 1


def _short_option(word: str) -> Option | None:
    name = word.partition("=")[0]
    return next((option for option in OPTIONS if option.short == name), None)


def _is_ours(option: Option, args: list[str], place: int, parser: pytest.Parser) -> bool:
    if option.name == "trace":
        # pytest has a flag of this name; only a file of ours makes it ours.
        return place + 1 < len(args) and args[place + 1].endswith(".json")
    return not _is_registered(option, parser)


def _is_registered(option: Option, parser: pytest.Parser) -> bool:
    probe = f"{option.short}=value"
    try:
        _, unknown = parser.parse_known_and_unknown_args([probe])
    except pytest.UsageError:
        # A flag or a number of another plugin's refuses this value.
        return True
    return probe not in unknown


def check_scale(config: pytest.Config) -> None:
    """Refuse a deadline scale that leaves no time.

    Raises:
        pytest.UsageError: if the factor is not a finite number above 0.
    """
    scale = config.option.pglife_deadline_scale
    if not (math.isfinite(scale) and scale > 0):
        raise pytest.UsageError(f"--deadline-scale {scale:g}: the factor must be above 0")


def words_of(config: pytest.Config) -> list[str]:
    """The options that a replay of this run needs."""
    option = config.option
    words = [TARGET.name_in(config), str(option.pglife_target)]
    for text in option.pglife_repaired:
        words += [REPAIRED.name_in(config), text]
    for name in option.pglife_trace:
        words += [TRACE.short, name]
    if option.pglife_deadline_scale != 1.0:
        words += [SCALE.name_in(config), str(option.pglife_deadline_scale)]
    return words
