"""Reads postgresql.conf and what it includes: lines into names and values.

Begin with read_file().
Source: utils/misc/guc-file.l: ParseConfigFp(), ParseConfigFile(), ParseConfigDirectory().
"""

import os
import re

from pglife_impl.base.record import Record

MAX_DEPTH = 10
MAX_SYNTAX_ERRORS = 100

# One token: quoted string, name, bare value, "=", or anything else, which is an error.
TOKEN = re.compile(
    r"""\s*(?:
        (?P<comment>\#.*)
      | (?P<string>'(?:[^'\\\n]|\\.|'')*')
      | (?P<word>(?:[A-Za-z0-9_\200-\377+\-:/.])+[A-Za-z0-9_\200-\377+\-:/.]*)
      | (?P<equals>=)
      | (?P<error>\S)
    )""",
    re.VERBOSE,
)
NAME = re.compile(r"[A-Za-z_\200-\377][A-Za-z0-9_$\200-\377]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)*\Z")
ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Item(Record):
    """One setting as written in a file."""

    name: str
    value: str
    file: str
    line: int


class Parsed:
    """The settings of all files, and their errors."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.errors: list[str] = []  # ready for the log
        self.notes: list[str] = []  # likewise, and harmless


def read_file(path: str, parsed: Parsed, *, strict: bool = True, depth: int = 0) -> None:
    """Add the settings of a file and of its includes to `parsed`."""
    if depth > MAX_DEPTH:
        parsed.errors.append(
            f'could not open configuration file "{path}": maximum nesting depth exceeded'
        )
        return
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as opened:
            lines = opened.read().split("\n")
    except OSError as e:
        if strict:
            parsed.errors.append(f'could not open configuration file "{path}": {e.strerror}')
        else:
            parsed.notes.append(f'skipping missing configuration file "{path}"')
        return
    for number, line in enumerate(lines, 1):
        before = len(parsed.errors)
        _read_line(path, number, line, parsed, depth)
        if len(parsed.errors) - before and len(parsed.errors) >= MAX_SYNTAX_ERRORS:
            parsed.errors.append(f'too many syntax errors found, abandoning file "{path}"')
            return


def _read_line(path: str, number: int, line: str, parsed: Parsed, depth: int) -> None:
    tokens = _tokens(line)
    if not tokens:
        return
    name = tokens[0][1]
    rest = tokens[1:]
    bad = _syntax_error(tokens)
    if bad is not None:
        where = f'near token "{bad}"' if bad else "near end of line"
        parsed.errors.append(f'syntax error in file "{path}" line {number}, {where}')
        return
    value = rest[-1][1]
    here = os.path.dirname(path)
    match name.lower():
        case "include":
            read_file(os.path.join(here, value), parsed, depth=depth + 1)
        case "include_if_exists":
            read_file(os.path.join(here, value), parsed, strict=False, depth=depth + 1)
        case "include_dir":
            _read_directory(os.path.join(here, value), parsed, depth + 1)
        case _:
            parsed.items.append(Item(name, value, path, number))


def _tokens(line: str) -> list[tuple[str, str]]:
    """Return the tokens of a line without comments, up to the first error."""
    tokens: list[tuple[str, str]] = []
    at = 0
    while match := TOKEN.match(line, at):
        at = match.end()
        kind = match.lastgroup or "error"
        if kind == "comment":
            break
        text = match[kind]
        tokens.append((kind, _unquoted(text) if kind == "string" else text))
    return tokens


def _syntax_error(tokens: list[tuple[str, str]]) -> str | None:
    """Return the first token that breaks `name [=] value`: "" for the line's end, or None."""
    kind, text = tokens[0]
    if kind != "word" or not NAME.match(text):
        return text
    rest = tokens[1:]
    if rest and rest[0][0] == "equals":
        rest = rest[1:]
    if not rest:
        return ""
    if rest[0][0] not in ("word", "string"):
        return rest[0][1]
    return rest[1][1] if len(rest) > 1 else None


def _unquoted(text: str) -> str:
    """Return the content of a quoted string, with its escapes resolved."""

    def resolve(match: re.Match[str]) -> str:
        escaped = match[0]
        if escaped == "''":
            return "'"
        body = escaped[1:]
        return chr(int(body, 8)) if body[0] in "01234567" else ESCAPES.get(body, body)

    return re.sub(r"''|\\[0-7]{1,3}|\\.", resolve, text[1:-1])


def _read_directory(path: str, parsed: Parsed, depth: int) -> None:
    try:
        names = sorted(os.listdir(path))
    except OSError as e:
        parsed.errors.append(f'could not open configuration directory "{path}": {e.strerror}')
        return
    for name in names:
        if name.endswith(".conf") and not name.startswith("."):
            read_file(os.path.join(path, name), parsed, depth=depth)
