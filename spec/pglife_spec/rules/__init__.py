"""The rules: what PostgreSQL's processes do, one numbered sentence each, kept as TOML by chapter.

Begin with `rule("SH-04").statement`. A rule's id never changes and never names another rule. The
same ids stand on the actions and claims of the model and on the scenarios of the suite.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from pglife_spec.lang.errors import SpecError

ID = re.compile(r"\b[A-Z]{2,3}(?:1[0-9])?-[0-9]{2,3}\b")
"""The shape of an id."""
RANGE = re.compile(rf"({ID.pattern})(?:\.\.([0-9]{{2,3}})\b)?")
"""An id, or a range of ids of one prefix such as SH-04..07."""
OLDEST, NEWEST = 14, 18
"""The releases that the rules are about."""
RELEASES = re.compile(r"all|1[4-8]|1[4-8]\+|up to 1[4-8]|1[4-8]-1[4-8]")
EVIDENCE = frozenset(
    {"seen 15", "seen 18", "release notes", "memory", "analysis", "read in 14", "source"}
)
"""How a rule is known: seen on a running 15.18 or 18.6; read in the release notes, in the tree of
14, or in the source; remembered; or concluded."""


class RulesError(SpecError, ValueError):
    """The rules' text is not of the form that the loader expects."""


class UnknownRuleError(SpecError, LookupError):
    """An id that no rule has; `nearest` are those that look like it."""

    def __init__(self, id_: str, nearest: tuple[str, ...] = ()) -> None:
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        super().__init__(f"no rule {id_}{hint}")
        self.nearest = nearest


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        id: its chapter's prefix and a number.
        statement: what is claimed, in words.
        releases: "all" (14 to 18), "18", "17+", "up to 17", "14-15"; empty for a historic bug,
            whose details say which releases it affected.
        source: C file and function.
        observable: how it shows outside of the server; empty where it does not.
        evidence: how it is known, of EVIDENCE.
        chapter: title of its chapter.
        section: title of its section.
        details: what else the rule's table says, by column.
    """

    id: str
    statement: str
    releases: str
    source: str
    observable: str
    evidence: tuple[str, ...]
    chapter: str
    section: str
    details: Mapping[str, str] = field(default_factory=dict)

    def holds_in(self, release: int) -> bool:
        """Whether the rule is about a release, by its major version."""
        numbers = [int(number) for number in re.findall("[0-9]+", self.releases)] or [OLDEST]
        first = OLDEST if self.releases.startswith("up") else numbers[0]
        is_open = not self.releases[-1:].isdecimal()
        return first <= release <= (NEWEST if is_open else numbers[-1])


@dataclass(frozen=True)
class Chapter:
    """The rules of one file, in order, with what is said of all of them.

    Args:
        prefixes: of its ids.
        sections: title and text of each section, by the range of its ids.
    """

    name: str
    title: str
    text: str
    prefixes: tuple[str, ...]
    sections: Mapping[str, tuple[str, str]]
    rules: tuple[Rule, ...]


def rule(id_: str) -> Rule:
    """The rule with this id.

    Raises:
        UnknownRuleError: no rule has it.
    """
    found = rules().get(id_)
    if found is None:
        raise UnknownRuleError(id_, _nearest(id_))
    return found


def _nearest(id_: str) -> tuple[str, ...]:
    """The rules of the same chapter that have the nearest numbers, or else of similar ids."""
    prefix, _, number = id_.rpartition("-")
    same = [known for known in rules() if known.rpartition("-")[0] == prefix]
    if not same or not number.isdecimal():
        return tuple(difflib.get_close_matches(id_, rules(), n=4))
    return tuple(
        sorted(same, key=lambda known: abs(int(known.rpartition("-")[2]) - int(number)))[:4]
    )


@cache
def rules() -> Mapping[str, Rule]:
    """All rules by id, chapter by chapter."""
    return {rule.id: rule for chapter in chapters() for rule in chapter.rules}


def search(words: str) -> tuple[Rule, ...]:
    """The rules that contain each of these words, in any case, anywhere in their text."""
    wanted = words.lower().split()
    return tuple(rule for rule in rules().values() if all(w in _text(rule) for w in wanted))


def _text(rule: Rule) -> str:
    parts = (rule.id, rule.statement, rule.source, rule.observable, *rule.details.values())
    return " ".join(parts).lower()


def cited(text: str) -> list[str]:
    """The ids that a text names, ranges such as SH-04..07 spelt out, whether they exist or not."""
    return [id_ for match in RANGE.finditer(text) for id_ in _spelt_out(*match.groups())]


def _spelt_out(first: str, last: str | None) -> Iterable[str]:
    """The ids of a range that exist, and its two ends."""
    if last is None:
        return [first]
    prefix, number = first.rsplit("-", 1)
    ends = {int(number), int(last)}
    ids = ((n, f"{prefix}-{n:02}") for n in range(min(ends), max(ends) + 1))
    return [id_ for n, id_ in ids if n in ends or id_ in rules()]


@cache
def chapters() -> tuple[Chapter, ...]:
    """All chapters, by name."""
    found = (path for path in files(__package__).iterdir() if path.name.endswith(".toml"))
    return tuple(
        read_chapter(path.name.removesuffix(".toml"), path.read_text("utf-8"))
        for path in sorted(found, key=lambda path: path.name)
        if path.name != "uncovered.toml"
    )


def read_chapter(name: str, text: str) -> Chapter:
    """A chapter from its TOML: `[chapter]`, `[[section]]` with defaults, then a table a rule.

    A section may give `source`, `observable` and `evidence` for those of its rules that give none,
    and a `sentence` that makes a statement out of a rule's other keys.

    Raises:
        RulesError: a key is missing, a value is not allowed, or a rule is in no section or in two.
    """
    data = tomllib.loads(text)
    head, sections = data.pop("chapter"), data.pop("section")
    made: list[Rule] = []
    for id_, given in data.items():
        homes = [section for section in sections if _within(id_, section["rules"])]
        if len(homes) != 1 or id_.rpartition("-")[0] not in head["prefixes"]:
            raise RulesError(f"{name}.toml: {id_} is in {len(homes)} sections of {head['title']}")
        made.append(_made(id_, given, homes[0], head["title"]))
    return Chapter(
        name,
        head["title"],
        _joined(head.get("text", "")),
        tuple(head["prefixes"]),
        {s["rules"]: (s["title"], _joined(s.get("text", ""))) for s in sections},
        tuple(made),
    )


def _within(id_: str, span: str) -> bool:
    prefix, _, numbers = span.rpartition("-")
    first, _, last = numbers.partition("..")
    its_prefix, _, number = id_.rpartition("-")
    return its_prefix == prefix and int(first) <= int(number) <= int(last or first)


def _made(id_: str, given: dict[str, object], section: dict[str, object], chapter: str) -> Rule:
    shared = {k: section[k] for k in ("source", "observable", "evidence") if k in section}
    evidence = (shared | given).get("evidence", ["source"])
    text = {k: _joined(str(v)) for k, v in (shared | given).items() if k != "evidence"}
    sentence = _joined(str(section.get("sentence", "")))
    statement = text.pop("statement", "") or _filled(sentence, text)
    releases, source = text.pop("releases", ""), text.pop("source", "")
    known = tuple(evidence) if isinstance(evidence, list) else ()
    dated = RELEASES.fullmatch(releases) or (not releases and "affected" in text)
    if not (statement and dated and EVIDENCE.issuperset(known)):
        raise RulesError(f"{id_}: statement, releases or evidence is missing or of no known form")
    seen = text.pop("observable", "")
    return Rule(id_, statement, releases, source, seen, known, chapter, str(section["title"]), text)


def _joined(text: str) -> str:
    """A wrapped text with its lines joined; an empty line stays a line's end."""
    return "\n".join(part.strip().replace("\n", " ") for part in text.split("\n\n"))


def _filled(sentence: str, values: Mapping[str, str]) -> str:
    """A section's sentence about one rule; a part in brackets stands only if its keys do."""
    kept = re.sub(
        r"\[([^\]]*)\]",
        lambda part: part[1] if set(re.findall(r"{(\w+)}", part[1])) <= set(values) else "",
        sentence,
    )
    return re.sub(r"{(\w+)}", lambda key: values.get(key[1], "none"), kept)
