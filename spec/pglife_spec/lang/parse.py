"""Expressions read from text: `pmState = PM_RUN and not FatalError -> checkpointer != ABSENT`.

Begin with parse(). It reads what `show` prints, and what people write: `->` for implies, `!=`,
`<`, `>`, `>=`, `x in {A, B}`. An enum member is known by its name alone; which enum is meant
follows from the other side of the comparison.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pglife_spec.lang.errors import SpecError
from pglife_spec.lang.expr import (
    BOOL,
    INT,
    EnumSort,
    Expr,
    LanguageError,
    Param,
    Sort,
    Var,
    all_of,
    any_of,
    const,
    implies,
    ite,
    lift,
)
from pglife_spec.lang.machine import Machine

_TOKEN = re.compile(r"\s*(?:(->|!=|<=|>=|[=<>+\-(){},])|(\d+)|([A-Za-z_][\w.\[\]]*)|(\S))")
_KEYWORDS = ("and", "or", "not", "in", "if", "then", "else")
_NEGATED = {"!=": "=", ">": "<=", "<": ">="}


class ParseError(SpecError):
    """A text is no expression; the message says where, and what was expected."""


@dataclass(frozen=True)
class _Token:
    text: str
    at: int


@dataclass(frozen=True)
class _Node:
    """A part of the text before its names have a meaning."""

    head: str
    token: _Token
    parts: tuple["_Node", ...] = ()


def parse(text: str, machine: Machine, sort: Sort = BOOL) -> Expr:
    """The expression over a machine's variables and parameters that a text states.

    Raises:
        ParseError: one line with the column, and the known names nearest to an unknown one.
    """
    node = _Reader(text).whole()
    return _Builder(text, machine).build(node, sort)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names most like one that is unknown, as the end of a message."""
    names = list(dict.fromkeys(known))
    lower = {n.lower(): n for n in names}
    close = [lower[n] for n in get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    return f"; nearest: {', '.join(close)}" if close else f"; there are: {', '.join(names)}"


def _wrong(text: str, at: int, what: str) -> ParseError:
    return ParseError(f"{text!r}, column {at + 1}: {what}")


class _Reader:
    """Reads tokens from left to right; one method for each level of precedence."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[_Token] = []
        for found in _TOKEN.finditer(text):
            at = found.start(found.lastindex or 0)
            if found[4]:
                raise _wrong(text, at, f"unexpected {found[4]!r}")
            self.tokens.append(_Token(found[found.lastindex or 0], at))
        self.tokens.append(_Token("", len(text)))
        self.next = 0

    @property
    def now(self) -> _Token:
        return self.tokens[self.next]

    def whole(self) -> _Node:
        node = self.implication()
        if self.now.text:
            raise self.unexpected("the end")
        return node

    def unexpected(self, wanted: str) -> ParseError:
        got = repr(self.now.text) if self.now.text else "the end"
        return _wrong(self.text, self.now.at, f"expected {wanted}, got {got}")

    def take(self, *texts: str) -> _Token | None:
        """The next token if it is one of these."""
        if self.now.text not in texts or not self.now.text:
            return None
        self.next += 1
        return self.tokens[self.next - 1]

    def need(self, text: str) -> _Token:
        token = self.take(text)
        if token is None:
            raise self.unexpected(repr(text))
        return token

    def implication(self) -> _Node:
        left = self.chain("or", lambda: self.chain("and", self.negation))
        arrow = self.take("->")
        return left if arrow is None else _Node("->", arrow, (left, self.implication()))

    def chain(self, word: str, part: Callable[[], _Node]) -> _Node:
        token, parts = self.now, [part()]
        while self.take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else _Node(word, token, tuple(parts))

    def negation(self) -> _Node:
        token = self.take("not")
        return self.comparison() if token is None else _Node("not", token, (self.negation(),))

    def comparison(self) -> _Node:
        left = self.sum()
        token = self.take("=", "!=", "<=", ">=", "<", ">", "in")
        if token is None:
            return left
        if token.text != "in":
            return _Node(token.text, token, (left, self.sum()))
        self.need("{")
        members = [self.atom()]
        while self.take(","):
            members.append(self.atom())
        self.need("}")
        return _Node("or", token, tuple(_Node("=", token, (left, m)) for m in members))

    def sum(self) -> _Node:
        left = self.atom()
        while token := self.take("+", "-"):
            left = _Node(token.text, token, (left, self.atom()))
        return left

    def atom(self) -> _Node:
        if token := self.take("("):
            inner = self.choice(token) if self.now.text == "if" else self.implication()
            self.need(")")
            return inner
        if self.now.text == "if":
            return self.choice(self.now)
        token = self.now
        sign = "-" if self.take("-") else ""
        if self.now.text.isdigit():
            self.next += 1
            return _Node("number", _Token(sign + self.tokens[self.next - 1].text, token.at))
        if sign or not re.match(r"[A-Za-z_]", self.now.text) or self.now.text in _KEYWORDS:
            raise self.unexpected("a name or a number")
        self.next += 1
        return _Node("name", token)

    def choice(self, token: _Token) -> _Node:
        self.need("if")
        cond = self.implication()
        self.need("then")
        then = self.implication()
        self.need("else")
        return _Node("if", token, (cond, then, self.implication()))


class _Builder:
    """Gives names their meaning, and parts their sorts."""

    def __init__(self, text: str, machine: Machine) -> None:
        self.text = text
        declared: Sequence[Var | Param] = (*machine.variables, *machine.params)
        self.named = {d.name: d for d in declared}
        self.enums = dict.fromkeys(d.sort for d in declared if isinstance(d.sort, EnumSort))

    def build(self, node: _Node, sort: Sort) -> Expr:
        try:
            made = self._make(node, sort)
        except LanguageError as error:
            raise _wrong(self.text, node.token.at, str(error)) from error
        if made.sort != sort:
            raise _wrong(self.text, node.token.at, f"expected {sort}, got {made.sort}: {made!r}")
        return made

    def _make(self, node: _Node, sort: Sort) -> Expr:
        match node.head:
            case "name":
                return self._name(node.token, sort)
            case "number":
                return const(int(node.token.text))
            case "not":
                return ~self.build(node.parts[0], BOOL)
            case "if":
                cond, then, other = node.parts
                return ite(self.build(cond, BOOL), self.build(then, sort), self.build(other, sort))
            case "+" | "-":
                left, right = (self.build(part, INT) for part in node.parts)
                return left + right if node.head == "+" else left - right
            case "and":
                return all_of(*(self.build(part, BOOL) for part in node.parts))
            case "or":
                return any_of(*(self.build(part, BOOL) for part in node.parts))
            case "->":
                return implies(*(self.build(part, BOOL) for part in node.parts))
        return self._comparison(node)

    def _comparison(self, node: _Node) -> Expr:
        sorts = [self._sort(part) for part in node.parts]
        sort = sorts[0] or sorts[1]
        if sort is None:
            raise _wrong(self.text, node.token.at, "neither side says which values are compared")
        left, right = (self.build(part, sort) for part in node.parts)
        plain = _NEGATED.get(node.head, node.head)
        made = left == right if plain == "=" else left <= right if plain == "<=" else right <= left
        return made if plain == node.head else ~made

    def _sort(self, node: _Node) -> Sort | None:
        """The sort of a part; None where only the other side can say it."""
        match node.head:
            case "name":
                name = node.token.text
                if name in self.named:
                    return self.named[name].sort
                enums = [e for e in self.enums if name in e.cls.__members__]
                return BOOL if name in ("true", "false") else enums[0] if len(enums) == 1 else None
            case "number" | "+" | "-":
                return INT
            case "if":
                return self._sort(node.parts[1]) or self._sort(node.parts[2])
        return BOOL

    def _name(self, token: _Token, sort: Sort) -> Expr:
        name = token.text
        if name in self.named:
            return self.named[name]
        if name in ("true", "false"):
            return const(name == "true")
        if isinstance(sort, EnumSort):
            if name in sort.cls.__members__:
                return lift(sort.cls[name])
            known = [*sort.cls.__members__, *(n for n, d in self.named.items() if d.sort == sort)]
            raise _wrong(self.text, token.at, f"no value {name!r} of {sort}{nearest(name, known)}")
        known = [n for n, d in self.named.items() if sort in (d.sort, BOOL)]
        what = "variable or parameter"
        raise _wrong(self.text, token.at, f"no {what} {name!r}{nearest(name, known)}")
