"""The grammar of all statements but queries, by recursive descent over sqlglot's tokens.

Begin with parse_utility(), then the table READERS. sqlglot itself parses most of these statements
only as an opaque command.
Source: parser/gram.y.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pglife_impl.protocol.report import SqlError, SqlState, error
from pglife_impl.session.queries import tree
from pglife_impl.session.transaction import TransactionVerb


@dataclass(frozen=True)
class Word:
    """One token: its meaning, its text in the query, its position."""

    text: str
    source: str
    position: int
    is_string: bool = False
    is_quoted_name: bool = False

    @property
    def keyword(self) -> str:
        """The word in lower case, or "" if it is quoted and so no keyword."""
        return "" if self.is_string or self.is_quoted_name else self.text.lower()


class Words:
    """A statement's tokens, read from left to right."""

    def __init__(self, words: Sequence[Word], end_position: int) -> None:
        self._words = words
        self._next = 0
        self._end_position = end_position

    def peek(self) -> str:
        """Return the next keyword without consuming it; "" at the end."""
        return self._words[self._next].keyword if self._next < len(self._words) else ""

    @property
    def position(self) -> int:
        """The position of the next word in the query."""
        return self._end_position if self.at_end else self._words[self._next].position

    @property
    def at_end(self) -> bool:
        """Whether all words are consumed."""
        return self._next >= len(self._words)

    def accept(self, *keywords: str) -> str:
        """Consume the next word if it is one of these; else return ""."""
        keyword = self.peek()
        if keyword and keyword in keywords:
            self._next += 1
            return keyword
        return ""

    def expect(self, *keywords: str) -> str:
        """Consume the next word, which must be one of these."""
        keyword = self.accept(*keywords)
        if not keyword:
            raise self.syntax_error()
        return keyword

    def take(self) -> Word:
        """Consume and return the next word."""
        if self.at_end:
            raise self.syntax_error()
        self._next += 1
        return self._words[self._next - 1]

    def name(self) -> str:
        """Consume an identifier; unquoted ones are folded to lower case."""
        if self.at_end:
            raise self.syntax_error()
        word = self._words[self._next]
        if word.is_quoted_name:
            self._next += 1
            return word.text
        if word.is_string or not (word.text[:1].isalpha() or word.text[:1] == "_"):
            raise self.syntax_error()
        self._next += 1
        return word.text.lower()

    def end(self) -> None:
        """SqlError 42601 if words remain."""
        if not self.at_end:
            raise self.syntax_error()

    def skip_rest(self) -> None:
        """Consume all words."""
        self._next = len(self._words)

    def syntax_error(self) -> SqlError:
        """Return the error that points at the next word."""
        if self.at_end:
            return error(
                SqlState.SYNTAX_ERROR, "syntax error at end of input", position=self._end_position
            )
        word = self._words[self._next]
        message = f'syntax error at or near "{word.source}"'
        return error(SqlState.SYNTAX_ERROR, message, position=word.position)


Reader = Callable[[Words], tree.Statement]


def parse_utility(words: Sequence[Word], *, end_position: int) -> tree.Statement:
    """Return the statement of these words; SqlError 42601 for a syntax error."""
    stream = Words(words, end_position)
    keyword = stream.peek()
    reader = READERS.get(keyword)
    if reader is not None:
        stream.take()
        statement = reader(stream)
    elif keyword in UNSUPPORTED:
        statement = tree.Unsupported(keyword.upper())
        stream.skip_rest()
    else:
        raise stream.syntax_error()
    stream.end()
    return statement


# fmt: off
UNSUPPORTED = frozenset((
    "analyze", "call", "close", "cluster", "comment", "copy", "declare", "do",
    "execute", "explain", "fetch", "import", "listen", "load", "lock", "merge",
    "move", "notify", "prepare", "reassign", "refresh", "reindex", "security", "truncate",
    "unlisten", "vacuum",
))
# fmt: on
"""Statements that PostgreSQL has and this server does not support."""


def _transaction_settings(words: Words) -> tuple[tuple[str, str], ...]:
    settings: list[tuple[str, str]] = []
    while not words.at_end:
        if words.accept("isolation"):
            words.expect("level")
            level = words.expect("serializable", "repeatable", "read")
            if level == "repeatable":
                level += " " + words.expect("read")
            elif level == "read":
                level += " " + words.expect("committed", "uncommitted")
            settings.append(("transaction_isolation", level))
        elif words.accept("read"):
            only = words.expect("only", "write") == "only"
            settings.append(("transaction_read_only", "on" if only else "off"))
        elif words.accept("not"):
            words.expect("deferrable")
            settings.append(("transaction_deferrable", "off"))
        else:
            words.expect("deferrable")
            settings.append(("transaction_deferrable", "on"))
        if words.accept(","):
            if words.at_end:
                raise words.syntax_error()
            continue
    return tuple(settings)


def _begin(words: Words) -> tree.Statement:
    words.accept("work", "transaction")
    settings = _transaction_settings(words)
    return tree.TransactionControl(TransactionVerb.BEGIN, settings=settings)


def _start(words: Words) -> tree.Statement:
    words.expect("transaction")
    settings = _transaction_settings(words)
    return tree.TransactionControl(TransactionVerb.START, settings=settings)


def _chain(words: Words) -> bool:
    if not words.accept("and"):
        return False
    negated = bool(words.accept("no"))
    words.expect("chain")
    return not negated


def _commit(words: Words) -> tree.Statement:
    if words.accept("prepared"):
        words.skip_rest()
        return tree.Unsupported("COMMIT PREPARED")
    words.accept("work", "transaction")
    return tree.TransactionControl(TransactionVerb.COMMIT, chain=_chain(words))


def _rollback(words: Words) -> tree.Statement:
    if words.accept("prepared"):
        words.skip_rest()
        return tree.Unsupported("ROLLBACK PREPARED")
    words.accept("work", "transaction")
    if words.accept("to"):
        words.accept("savepoint")
        return tree.TransactionControl(TransactionVerb.ROLLBACK_TO, words.name())
    return tree.TransactionControl(TransactionVerb.ROLLBACK, chain=_chain(words))


def _savepoint(words: Words) -> tree.Statement:
    return tree.TransactionControl(TransactionVerb.SAVEPOINT, words.name())


def _release(words: Words) -> tree.Statement:
    words.accept("savepoint")
    return tree.TransactionControl(TransactionVerb.RELEASE, words.name())


def _setting_name(words: Words) -> str:
    name = words.name()
    while words.accept("."):
        name += "." + words.name()
    return name


def _setting_value(words: Words) -> str | None:
    """Return the value as text, a list joined by commas; DEFAULT is None."""
    if words.accept("default"):
        return None
    parts = []
    while True:
        sign = words.accept("-", "+")
        word = words.take()
        parts.append(("-" if sign == "-" else "") + word.text)
        if not words.accept(","):
            return ", ".join(parts)


def _set(words: Words) -> tree.Statement:
    scope = words.accept("local", "session")
    if words.accept("transaction"):
        return tree.SetTransaction(_transaction_settings(words))
    if scope == "session" and words.accept("characteristics"):
        words.expect("as")
        words.expect("transaction")
        return tree.SetTransaction(_transaction_settings(words), session=True)
    if words.accept("time"):
        words.expect("zone")
        words.accept("local")
        value = None if words.at_end else _setting_value(words)
        return tree.Set("timezone", value, scope == "local")
    if words.peek() in ("role", "authorization", "constraints"):
        tag = f"SET {words.take().text.upper()}"
        words.skip_rest()
        return tree.Unsupported(tag)
    if words.accept("names"):
        value = None if words.at_end else _setting_value(words)
        return tree.Set("client_encoding", value, scope == "local")
    name = _setting_name(words)
    words.expect("to", "=")
    return tree.Set(name, _setting_value(words), scope == "local")


def _special_setting(words: Words) -> str | None:
    """Consume a setting whose name is written in several words, or return None."""
    if words.accept("time"):
        words.expect("zone")
        return "timezone"
    if words.accept("transaction"):
        words.expect("isolation")
        words.expect("level")
        return "transaction_isolation"
    if words.accept("session"):
        words.expect("authorization")
        return "session_authorization"
    return None


def _show(words: Words) -> tree.Statement:
    if words.accept("all"):
        return tree.Show(None)
    return tree.Show(_special_setting(words) or _setting_name(words))


def _reset(words: Words) -> tree.Statement:
    if words.accept("all"):
        return tree.Reset(None)
    return tree.Reset(_special_setting(words) or _setting_name(words))


def _checkpoint(words: Words) -> tree.Statement:
    return tree.Checkpoint()


def _discard(words: Words) -> tree.Statement:
    what = words.expect("all", "plans", "sequences", "temp", "temporary")
    return tree.Discard("TEMP" if what == "temporary" else what.upper())


def _deallocate(words: Words) -> tree.Statement:
    words.accept("prepare")
    return tree.Deallocate(None if words.accept("all") else words.name())


_OBJECTS = {
    "role": tree.ObjectKind.ROLE,
    "user": tree.ObjectKind.ROLE,
    "group": tree.ObjectKind.ROLE,
    "database": tree.ObjectKind.DATABASE,
}


def _catalog_change(change: tree.Change) -> Reader:
    def read(words: Words) -> tree.Statement:
        word = words.take().keyword
        kind = _OBJECTS.get(word)
        if kind is None or (change is tree.Change.ALTER and words.peek() == "set"):
            words.skip_rest()
            return tree.Unsupported(f"{change.value} {word.upper()}".rstrip())
        if_exists = bool(words.accept("if"))
        if if_exists:
            words.expect("exists")
        name = words.name()
        if kind is tree.ObjectKind.ROLE:
            options = _role_options(words)
            if word == "user" and change is tree.Change.CREATE:
                options = (("login", True), *options)
        else:
            options = _database_options(words)
        return tree.CatalogChange(change, kind, name, options, if_exists)

    return read


_ROLE_FLAGS = ("superuser", "login", "replication", "createdb", "createrole", "inherit")
_Options = tuple[tuple[str, str | int | bool], ...]


def _role_options(words: Words) -> _Options:
    words.accept("with")
    options: list[tuple[str, str | int | bool]] = []
    while not words.at_end:
        word = words.take()
        keyword = word.keyword
        if keyword in _ROLE_FLAGS:
            options.append((keyword, True))
        elif keyword.startswith("no") and keyword[2:] in _ROLE_FLAGS:
            options.append((keyword[2:], False))
        elif keyword == "connection":
            words.expect("limit")
            options.append(("connection_limit", _integer(words)))
        elif keyword == "password":
            words.take()
        elif keyword in ("in", "role"):
            if keyword == "in":
                words.expect("role", "group")
            options.append(("in_role", words.name()))
        else:
            message = f'unrecognized role option "{keyword}"'
            raise error(SqlState.SYNTAX_ERROR, message, position=word.position)
    return tuple(options)


def _database_options(words: Words) -> _Options:
    words.accept("with")
    options: list[tuple[str, str | int | bool]] = []
    while not words.at_end:
        if words.accept("("):
            words.expect("force")
            words.expect(")")
            options.append(("force", True))
            continue
        option = words.name()
        if option == "connection":
            words.expect("limit")
            option = "connection_limit"
        words.accept("=")
        if option == "connection_limit":
            options.append((option, _integer(words)))
        elif option in ("allow_connections", "is_template"):
            truth = words.expect("true", "false", "on", "off")
            options.append((option, truth in ("true", "on")))
        elif option in ("owner", "template"):
            options.append((option, words.name()))
        else:
            words.take()
    return tuple(options)


def _integer(words: Words) -> int:
    sign = -1 if words.accept("-") else 1
    word = words.take()
    if not word.text.isdigit():
        message = f'syntax error at or near "{word.source}"'
        raise error(SqlState.SYNTAX_ERROR, message, position=word.position)
    return sign * int(word.text)


def _grant(revoke: bool) -> Reader:
    def read(words: Words) -> tree.Statement:
        roles = [words.name()]
        while words.accept(","):
            roles.append(words.name())
        if not words.accept("from" if revoke else "to"):
            words.skip_rest()
            return tree.Unsupported("REVOKE" if revoke else "GRANT")
        members = [words.name()]
        while words.accept(","):
            members.append(words.name())
        return tree.GrantRole(tuple(roles), tuple(members), revoke)

    return read


def _table_writer(tag: str, preposition: str) -> Reader:
    """Return a reader of INSERT, UPDATE or DELETE up to the table's name."""

    def read(words: Words) -> tree.Statement:
        if preposition:
            words.expect(preposition)
        words.accept("only")
        position = words.position
        name = words.name()
        if words.accept("."):
            name = words.name()
        words.skip_rest()
        return tree.WriteTable(tag, name, position=position)

    return read


READERS: dict[str, Reader] = {
    "insert": _table_writer("INSERT", "into"),
    "update": _table_writer("UPDATE", ""),
    "delete": _table_writer("DELETE", "from"),
    "begin": _begin,
    "start": _start,
    "commit": _commit,
    "end": _commit,
    "rollback": _rollback,
    "abort": _rollback,
    "savepoint": _savepoint,
    "release": _release,
    "set": _set,
    "show": _show,
    "reset": _reset,
    "checkpoint": _checkpoint,
    "discard": _discard,
    "deallocate": _deallocate,
    "create": _catalog_change(tree.Change.CREATE),
    "alter": _catalog_change(tree.Change.ALTER),
    "drop": _catalog_change(tree.Change.DROP),
    "grant": _grant(revoke=False),
    "revoke": _grant(revoke=True),
}
