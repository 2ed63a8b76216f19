"""The words that the project bans, wherever a person reads: code, names, pages, data.

A word counts inside an identifier too. PostgreSQL's own texts and the operating system's user
`nobody` are exempt.
"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BANNED = {
    "told": "sent, signalled, asked, notified",
    "hears": "receives, reads, notices",
    "whoever": "any client, any process",
    "nobody": "no process, no client",
    "somebody": "a process, a client",
    "everybody": "all children",
    "is none": "is missing, does not exist, is invalid",
    "to be had": "available",
    "lest": "so that ... not",
    "besides": "also, apart from that",
    "come off": "succeed",
    "comes off": "succeeds",
    "farewell": "final message",
    "deed": "stimulus",
    "deeds": "stimuli",
    "crew": "children",
    "story": "log excerpt",
    "stories": "log excerpts",
}
USER = re.compile(r"""["'`]nobody["'`]|\bnobody:|--reuid[= ]nobody|user nobody""")
WORD = re.compile(
    r"(?<![a-z])("
    + "|".join(f"(?-i:{w})" if w == "is none" else w for w in sorted(BANNED, key=len, reverse=True))
    + r")(?![a-z])",
    re.IGNORECASE,
)
SUFFIXES = {".py", ".md", ".toml", ".j2", ".yml", ".tsv"}


def pages() -> list[Path]:
    """Every committed text that a person reads."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = [Path(name) for name in listed.stdout.splitlines()]
    return [n for n in names if n.suffix in SUFFIXES and n.name != Path(__file__).name]


def banned(text: str) -> list[tuple[int, str]]:
    """Line numbers and words, for a text."""
    return [
        (number, found.group(1).lower())
        for number, line in enumerate(text.splitlines(), 1)
        for found in WORD.finditer(USER.sub("", line).replace("_", " "))
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("the child is told to end", ["told"]),
        ("def test_who_is_told(): ...", ["told"]),
        ('servers run as "nobody"', []),
        ("Nobody waits.", ["nobody"]),
        ("a history of stories", ["stories"]),
        ("indeed, the history", []),
        ("if child is None:", []),
    ],
)
def test_the_lint_finds_words(line: str, words: list[str]) -> None:
    assert [word for _, word in banned(line)] == words


def test_prose_is_plain() -> None:
    wrong = [
        f"{path}:{number}: {word!r}: write {BANNED[word]}"
        for path in pages()
        for number, word in banned((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)
