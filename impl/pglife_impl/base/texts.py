"""Reading of short texts as PostgreSQL and the C library do."""

import re


def parse_bool(text: str) -> bool | None:
    """Read a Boolean as utils/adt/bool.c: parse_bool() does; None if it is invalid.

    Unambiguous prefixes of the words are valid; `o` is not, because of `on` and `off`.
    """
    word = text.lower()
    if not word or word == "o":
        return None
    if any(full.startswith(word) for full in ("true", "yes", "on", "1")):
        return True
    if any(full.startswith(word) for full in ("false", "no", "off", "0")):
        return False
    return None


def atoi(text: str) -> int:
    """Read the number at the beginning of a text, 0 if it begins with no number."""
    match = re.match(r"\s*([+-]?\d+)", text)
    return int(match[1]) if match else 0
