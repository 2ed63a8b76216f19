"""From a query string to the tree, by sqlglot; the only module that names the library.

Begin with parse_statements(). This module is imported at a session's first statement and never
before, unless shared_preload_libraries names pglife_sql: loading sqlglot takes 0.1 s, and memory
that makes every fork of the postmaster slower. Utility statements are read from sqlglot's tokens by
utility_grammar.py.
Source: parser/gram.y, parser/scan.l: scanner_yyerror().
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokenizer_core import Token, TokenType

from pglife_impl.protocol.report import SqlError, SqlState, error
from pglife_impl.session.queries import tree
from pglife_impl.session.queries.syntax_errors import syntax_error, syntax_error_at, unterminated
from pglife_impl.session.queries.utility_grammar import Word, parse_utility

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its warnings would go to the server log


class _Dialect(Postgres):
    """PostgreSQL's dialect, with every statement split into tokens to its end."""

    class Tokenizer(Postgres.Tokenizer):
        COMMANDS: ClassVar[set[TokenType]] = set()


class _Parser(PostgresParser):
    """Keeps function calls by name, which sqlglot would translate into classes of its own."""

    FUNCTIONS: ClassVar[dict[str, Callable[..., Any]]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., Any]]] = {
        name: parser
        for name, parser in PostgresParser.FUNCTION_PARSERS.items()
        if name in ("CAST", "EXTRACT")
    }


_DIALECT = _Dialect()
REMEMBERED = 100
_QUERY_WORDS = frozenset(("select", "values", "with", "table", "("))
_TEXTUAL = frozenset(
    (
        TokenType.STRING,
        TokenType.IDENTIFIER,
        TokenType.HEREDOC_STRING,
        TokenType.BYTE_STRING,
        TokenType.UNICODE_STRING,
    )
)


@lru_cache(maxsize=REMEMBERED)
def parse_statements(sql: str) -> tuple[tree.Statement, ...]:
    """Return the statements of a query string; SqlError 42601 for a syntax error in any of them.

    Statements are immutable, so the results of recent strings are cached.
    """
    try:
        tokens = _DIALECT.tokenize(sql)
    except TokenError:
        raise unterminated(sql) from None
    return tuple(_statement(sql, group) for group in _split(tokens))


def _split(tokens: Iterable[Token]) -> Iterator[list[Token]]:
    group: list[Token] = []
    for token in tokens:
        if token.token_type is not TokenType.SEMICOLON:
            group.append(token)
        elif group:
            yield group
            group = []
    if group:
        yield group


def _statement(sql: str, tokens: list[Token]) -> tree.Statement:
    if tokens[0].text.lower() in _QUERY_WORDS and tokens[0].token_type not in _TEXTUAL:
        return _query_statement(sql, tokens)
    words = [
        Word(
            text=token.text,
            source=sql[token.start : token.end + 1],
            position=token.start + 1,
            is_string=token.token_type in _TEXTUAL - {TokenType.IDENTIFIER},
            is_quoted_name=token.token_type is TokenType.IDENTIFIER,
        )
        for token in tokens
    ]
    return parse_utility(words, end_position=len(sql) + 1)


def _query_statement(sql: str, tokens: list[Token]) -> tree.Statement:
    try:
        roots = _Parser(dialect=_DIALECT).parse(tokens, sql)
    except ParseError as problem:
        raise syntax_error(sql, tokens, problem) from None
    root = roots[0] if roots else None
    if root is None:
        raise syntax_error_at(sql, tokens[0])
    try:
        return _Reader().query(root)
    except SqlError as problem:
        if problem.report.sqlstate != SqlState.FEATURE_NOT_SUPPORTED:
            raise
        # The grammar is right, so the statement fails when it runs, after those before it.
        return tree.Unsupported("SELECT", problem.report.message)


def _unsupported(what: str) -> SqlError:
    return error(SqlState.FEATURE_NOT_SUPPORTED, f"{what} is not supported by this server")


_OPERATORS: dict[type[exp.Expression], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.DPipe: "||",
    exp.Like: "~~",
    exp.ILike: "~~*",
    exp.RegexpLike: "~",
    exp.RegexpILike: "~*",
}

_NAMED_VALUES: dict[type[exp.Expression], str] = {
    exp.CurrentUser: "current_user",
    exp.CurrentRole: "current_role",
    exp.SessionUser: "session_user",
    exp.CurrentCatalog: "current_catalog",
    exp.CurrentSchema: "current_schema",
    exp.CurrentTimestamp: "current_timestamp",
    exp.CurrentDate: "current_date",
}

_SELECT_PARTS = frozenset(
    (
        "expressions",
        "from",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "distinct",
        "order",
        "limit",
        "offset",
    )
)


class _Reader:
    """Translates sqlglot's tree into tree.py's."""

    def query(self, node: Any) -> tree.Query:
        """Read a SELECT, VALUES, or either in parentheses."""
        while isinstance(node, exp.Subquery) and not node.alias:
            node = node.this
        if isinstance(node, exp.Values):
            return self._values(node)
        if not isinstance(node, exp.Select):
            raise _unsupported(node.key.upper())
        for part, value in node.args.items():
            if value and part not in _SELECT_PARTS:
                raise _unsupported(f"{part.rstrip('_').upper()} in a query")
        distinct = node.args.get("distinct")
        if distinct is not None and distinct.args.get("on"):
            raise _unsupported("DISTINCT ON")
        return tree.Select(
            items=tuple(self._item(item) for item in node.expressions),
            sources=self._sources(node),
            where=self._optional(node, "where"),
            group=tuple(self.expression(e) for e in self._list(node, "group")),
            having=self._optional(node, "having"),
            distinct=distinct is not None,
            order=tuple(self._order(e) for e in self._list(node, "order")),
            limit=self._count(node.args.get("limit")),
            offset=self._count(node.args.get("offset")),
        )

    def _values(self, node: exp.Values) -> tree.Values:
        rows = []
        for row in node.expressions:
            cells = row.expressions if isinstance(row, exp.Tuple) else [row]
            rows.append(tuple(self.expression(cell) for cell in cells))
            if len(rows[-1]) != len(rows[0]):
                raise error(
                    SqlState.SYNTAX_ERROR,
                    "VALUES lists must all be the same length",
                    position=next((_position(n) for n in cells[0].walk() if _position(n)), None),
                )
        return tree.Values(tuple(rows))

    def _list(self, node: exp.Expression, part: str) -> list[exp.Expression]:
        value = node.args.get(part)
        return list(value.expressions) if value is not None else []

    def _optional(self, node: exp.Expression, part: str) -> tree.Expression | None:
        value = node.args.get(part)
        return None if value is None else self.expression(value.this)

    def _count(self, node: exp.Expression | None) -> tree.Expression | None:
        if node is None:
            return None
        if not isinstance(node, (exp.Limit, exp.Offset)):
            raise _unsupported("FETCH FIRST")
        return self.expression(node.expression)

    def _item(self, node: exp.Expression) -> tree.SelectItem:
        if isinstance(node, exp.Alias):
            alias = _name(node.args["alias"])
            return tree.SelectItem(self.expression(node.this), alias, position=_position(node.this))
        return tree.SelectItem(self.expression(node), position=_position(node))

    def _order(self, node: exp.Expression) -> tree.Order:
        descending = bool(node.args.get("desc"))
        # By default PostgreSQL sorts nulls as larger than all values. sqlglot fills in its
        # dialect's default, which is the same here.
        nulls_first = node.args.get("nulls_first")
        return tree.Order(
            self.expression(node.this),
            descending,
            descending if nulls_first is None else bool(nulls_first),
        )

    def _sources(self, node: exp.Expression) -> tuple[tree.FromItem, ...]:
        first = node.args.get("from_") or node.args.get("from")
        if first is None:
            return ()
        sources = [self._source(first.this, tree.JoinKind.CROSS, None)]
        nested = list(first.this.args.get("joins") or ())
        for join in [*nested, *(node.args.get("joins") or ())]:
            side = (join.side or "").upper()
            if side not in ("", "LEFT") or join.args.get("using") or join.method:
                raise _unsupported("this kind of JOIN")
            condition = join.args.get("on")
            if side == "LEFT":
                kind = tree.JoinKind.LEFT
            else:
                kind = tree.JoinKind.INNER if condition is not None else tree.JoinKind.CROSS
            on = None if condition is None else self.expression(condition)
            sources.append(self._source(join.this, kind, on))
        return tuple(sources)

    def _source(
        self, node: exp.Expression, join: tree.JoinKind, condition: tree.Expression | None
    ) -> tree.FromItem:
        alias_node = node.args.get("alias")
        columns: tuple[str, ...] = ()
        alias = None
        if alias_node is not None:
            alias = _name(alias_node.this) if alias_node.this is not None else None
            columns = tuple(_name(column) for column in alias_node.args.get("columns") or ())
        what: str | tree.FuncCall | tree.Query
        position = _position(node)
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            what = _name(node.this)
            position = _position(node.this)
        elif isinstance(node, exp.Table):
            call = self.expression(node.this)
            if not isinstance(call, tree.FuncCall):
                raise _unsupported("this kind of FROM entry")
            what, position = call, call.position
        elif isinstance(node, (exp.Subquery, exp.Values)):
            what = self.query(node.this if isinstance(node, exp.Subquery) else node)
        else:
            raise _unsupported(f"{node.key.upper()} in FROM")
        return tree.FromItem(what, alias, columns, join, condition, position=position)

    def expression(self, node: exp.Expression) -> tree.Expression:
        """Read a scalar expression."""
        operator = _OPERATORS.get(type(node))
        if operator is not None:
            return self._operation(operator, node)
        if type(node) in _NAMED_VALUES:
            return tree.FuncCall(_NAMED_VALUES[type(node)], position=_position(node))
        method = getattr(self, f"_read_{type(node).__name__.lower()}", None)
        if method is None:
            raise _unsupported(f"{node.key.upper()} in an expression")
        result: tree.Expression = method(node)
        return result

    def _operation(self, operator: str, node: exp.Expression) -> tree.Expression:
        right = node.expression
        if isinstance(right, exp.Any):
            array = self.expression(right.this)
            return tree.AnyOf(operator, self.expression(node.this), array)
        operation = tree.Operation(operator, self.expression(node.this), self.expression(right))
        return _negated(operation) if node.args.get("negate") else operation

    def _read_literal(self, node: exp.Literal) -> tree.Expression:
        position = _position(node)
        if node.is_string:
            return tree.Constant(str(node.this), position=position)
        text = str(node.this)
        return tree.Constant(int(text) if text.isdigit() else Decimal(text), position=position)

    def _read_rawstring(self, node: exp.Expression) -> tree.Expression:
        return tree.Constant(str(node.this), position=_position(node))

    _read_bytestring = _read_unicodestring = _read_rawstring

    def _read_boolean(self, node: exp.Boolean) -> tree.Expression:
        return tree.Constant(bool(node.this), position=_position(node))

    def _read_null(self, node: exp.Null) -> tree.Expression:
        return tree.Constant(None, position=_position(node))

    def _read_parameter(self, node: exp.Parameter) -> tree.Expression:
        if not isinstance(node.this, exp.Literal) or node.this.is_string:
            raise _unsupported("this kind of parameter")
        position = _position(node.this)
        return tree.Parameter(int(node.this.this), position=position and position - 1)

    def _read_column(self, node: exp.Column) -> tree.Expression:
        table = node.args.get("table")
        table_name = None if table is None else _name(table)
        position = _position(table if table is not None else node.this)
        if isinstance(node.this, exp.Star):
            return tree.Star(table_name, position=position)
        name = _name(node.this)
        is_plain = table is None and not node.this.args.get("quoted")
        if is_plain and name in ("user", "current_role"):
            return tree.FuncCall(name, position=position)
        return tree.ColumnRef(name, table_name, position=position)

    def _read_star(self, node: exp.Star) -> tree.Expression:
        return tree.Star(position=_position(node))

    def _read_paren(self, node: exp.Paren) -> tree.Expression:
        return self.expression(node.this)

    def _read_dot(self, node: exp.Dot) -> tree.Expression:
        # A schema in front of a function: only pg_catalog exists.
        return self.expression(node.expression)

    def _read_anonymous(self, node: exp.Anonymous) -> tree.Expression:
        arguments = list(node.expressions)
        distinct = len(arguments) == 1 and isinstance(arguments[0], exp.Distinct)
        if distinct:
            arguments = list(arguments[0].expressions)
        star = len(arguments) == 1 and isinstance(arguments[0], exp.Star)
        return tree.FuncCall(
            str(node.this).lower(),
            () if star else tuple(self.expression(argument) for argument in arguments),
            star,
            distinct,
            position=_position(node),
        )

    def _read_filter(self, node: exp.Filter) -> tree.Expression:
        call = self.expression(node.this)
        if not isinstance(call, tree.FuncCall):
            raise _unsupported("FILTER here")
        condition = self.expression(node.expression.this)
        return tree.FuncCall(
            call.name, call.arguments, call.star, call.distinct, condition, position=call.position
        )

    def _read_neg(self, node: exp.Neg) -> tree.Expression:
        inner = self.expression(node.this)
        if isinstance(inner, tree.Constant) and type(inner.value) in (int, Decimal):
            return tree.Constant(-inner.value, position=inner.position)  # type: ignore[operator]
        return tree.Operation("-", None, inner)

    def _read_not(self, node: exp.Not) -> tree.Expression:
        return _negated(self.expression(node.this))

    def _read_and(self, node: exp.Expression) -> tree.Expression:
        connective = tree.Connective.AND if isinstance(node, exp.And) else tree.Connective.OR
        sides = (self.expression(node.this), self.expression(node.expression))
        return tree.Logical(connective, sides)

    _read_or = _read_and

    def _read_is(self, node: exp.Is) -> tree.Expression:
        right, negated = node.expression, bool(node.args.get("negate"))
        if isinstance(right, exp.Not):
            right, negated = right.this, not negated
        argument = self.expression(node.this)
        if isinstance(right, exp.Null):
            return tree.Is(argument, None, negated)
        if isinstance(right, exp.Boolean):
            return tree.Is(argument, bool(right.this), negated)
        raise _unsupported("this kind of IS")

    def _read_in(self, node: exp.In) -> tree.Expression:
        argument = self.expression(node.this)
        query = node.args.get("query")
        if query is not None:
            inside: tree.Expression = tree.InQuery(argument, self.query(query))
        else:
            items = tuple(self.expression(item) for item in node.expressions)
            inside = tree.InList(argument, items)
        return _negated(inside) if node.args.get("negate") else inside

    def _read_between(self, node: exp.Between) -> tree.Expression:
        argument = self.expression(node.this)
        low, high = self.expression(node.args["low"]), self.expression(node.args["high"])
        sides = (tree.Operation(">=", argument, low), tree.Operation("<=", argument, high))
        inside = tree.Logical(tree.Connective.AND, sides)
        return _negated(inside) if node.args.get("negate") else inside

    def _read_case(self, node: exp.Case) -> tree.Expression:
        operand, default = node.args.get("this"), node.args.get("default")
        branches = tuple(
            (self.expression(branch.this), self.expression(branch.args["true"]))
            for branch in node.args["ifs"]
        )
        return tree.Case(
            None if operand is None else self.expression(operand),
            branches,
            None if default is None else self.expression(default),
        )

    def _read_cast(self, node: exp.Cast) -> tree.Expression:
        type_name = node.args["to"].sql(dialect="postgres").lower()
        argument = self.expression(node.this)
        return tree.Cast(argument, type_name, position=argument.position)

    def _read_interval(self, node: exp.Interval) -> tree.Expression:
        unit = node.args.get("unit")
        words = [str(node.this.this), "" if unit is None else unit.name.lower()]
        return tree.Cast(tree.Constant(" ".join(words).strip()), "interval")

    def _read_extract(self, node: exp.Extract) -> tree.Expression:
        unit = tree.Constant(node.this.name.lower())
        return tree.FuncCall("extract", (unit, self.expression(node.expression)))

    def _read_attimezone(self, node: exp.AtTimeZone) -> tree.Expression:
        zone = self.expression(node.args["zone"])
        return tree.FuncCall("timezone", (zone, self.expression(node.this)))

    def _read_array(self, node: exp.Array) -> tree.Expression:
        return tree.ArrayOf(tuple(self.expression(item) for item in node.expressions))

    def _read_subquery(self, node: exp.Subquery) -> tree.Expression:
        return tree.Scalar(self.query(node.this))

    def _read_select(self, node: exp.Expression) -> tree.Expression:
        return tree.Scalar(self.query(node))

    def _read_exists(self, node: exp.Exists) -> tree.Expression:
        return tree.Exists(self.query(node.this))


def _negated(expression: tree.Expression) -> tree.Expression:
    return tree.Logical(tree.Connective.NOT, (expression,), position=expression.position)


def _name(node: Any) -> str:
    """Return an identifier as PostgreSQL folds it."""
    if isinstance(node, exp.Identifier) and node.args.get("quoted"):
        return str(node.this)
    return str(node.name).lower()


def _position(node: Any) -> int | None:
    start = node.meta.get("start") if isinstance(node, exp.Expression) else None
    return None if start is None else int(start) + 1
