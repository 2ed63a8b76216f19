"""Queries: planning and execution over rows in memory.

Begin with plan_query().
Source: parser/analyze.c: transformSelectStmt(), parser/parse_target.c: FigureColname(), executor/.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pglife_impl.protocol import SqlState
from pglife_impl.protocol.report import error
from pglife_impl.session.queries import tree, types
from pglife_impl.session.queries.analysis import Analyzer
from pglife_impl.session.queries.functions import AGGREGATES
from pglife_impl.session.queries.names import column_name
from pglife_impl.session.queries.operators import sort_key
from pglife_impl.session.queries.relations import RELATIONS
from pglife_impl.session.queries.run import Row, Run
from pglife_impl.session.queries.scope import (
    OutputColumn,
    Parameters,
    Plan,
    Scope,
    ScopeColumn,
    Typed,
)


def plan_query(query: tree.Query, parameters: Parameters) -> Plan:
    """Check a query and return its plan."""
    if isinstance(query, tree.Values):
        return _plan_values(query, parameters)
    return _SelectPlanner(query, parameters).plan()


def _plan_values(query: tree.Values, parameters: Parameters) -> Plan:
    analyzer = Analyzer(Scope(), parameters, lambda q: plan_query(q, parameters))
    unify = analyzer.unified
    by_column = [unify(column, "VALUES") for column in zip(*query.rows, strict=True)]
    columns = tuple(
        OutputColumn(f"column{number}", cells[0].type) for number, cells in enumerate(by_column, 1)
    )
    cells_of_rows = list(zip(*by_column, strict=True))

    def rows(run: Run) -> Iterator[Row]:
        for cells in cells_of_rows:
            yield tuple(cell.evaluate((), run) for cell in cells)

    return Plan(columns, rows)


@dataclass(frozen=True)
class _Joined:
    """One entry of FROM with its plan and join condition."""

    plan: Plan
    kind: tree.JoinKind
    condition: Typed | None


class _SelectPlanner:
    """Plans one SELECT."""

    def __init__(self, query: tree.Select, parameters: Parameters) -> None:
        self.query = query
        self.parameters = parameters
        self.scope = Scope()
        self.analyzer = Analyzer(self.scope, parameters, self._subquery)
        self.sources: list[_Joined] = []

    def _subquery(self, query: tree.Query) -> Plan:
        return plan_query(query, self.parameters)

    def plan(self) -> Plan:
        """Check all clauses and return the plan."""
        query = self.query
        for source in query.sources:
            self.sources.append(self._source(source))
        where = None if query.where is None else self.analyzer.condition(query.where, "WHERE")
        items = list(self._expanded(query.items))
        groups = tuple(self._by_position(each, items, "GROUP BY") for each in query.group)
        is_grouped = bool(groups) or query.having is not None or _has_aggregate(items, query)
        keys = [self.analyzer.expression(each) for each in groups]
        if is_grouped:
            self.analyzer.group = groups
        outputs = [self._output(item) for item in items]
        having = None if query.having is None else self.analyzer.condition(query.having, "HAVING")
        orders = [self._order(each, items, outputs) for each in query.order]
        columns = tuple(
            OutputColumn(item.alias or column_name(item.expression), typed.type)
            for item, typed in zip(items, outputs, strict=True)
        )
        constants = tuple(output.evaluate for output in outputs if output.is_constant)
        limit, offset = self._count(query.limit, "LIMIT"), self._count(query.offset, "OFFSET")

        def rows(run: Run) -> Iterator[Row]:
            matching = self._matching(where, run)
            produced: Iterable[tuple[Row, Row]]
            if is_grouped:
                produced = _grouped(matching, keys, bool(groups), having, outputs, orders, run)
            else:
                produced = _projected(matching, outputs, orders, run)
            if query.distinct:
                produced = _distinct(produced)
            if orders:
                produced = _sorted(produced, query.order)
            start = _evaluate_count(offset, run, "OFFSET") or 0
            count = _evaluate_count(limit, run, "LIMIT")
            stop = None if count is None else start + count
            yield from (row for row, _ in islice(produced, start, stop))

        return Plan(columns, rows, constants)

    def _source(self, source: tree.FromItem) -> _Joined:
        plan, default_name = self._source_plan(source)
        name = source.alias or default_name
        if name in self.scope.tables:
            raise error(
                SqlState.DUPLICATE_ALIAS,
                f'table name "{name}" specified more than once',
                position=source.position,
            )
        self.scope.tables.append(name)
        first = len(self.scope.columns)
        for number, column in enumerate(plan.columns):
            shown = source.columns[number] if number < len(source.columns) else column.name
            if isinstance(source.what, tree.FuncCall) and not source.columns and source.alias:
                shown = source.alias
            self.scope.columns.append(ScopeColumn(name, shown, column.type, first + number))
        condition = source.condition
        typed = None if condition is None else self.analyzer.condition(condition, "JOIN/ON")
        return _Joined(plan, source.join, typed)

    def _source_plan(self, source: tree.FromItem) -> tuple[Plan, str]:
        what = source.what
        if isinstance(what, str):
            relation = RELATIONS.get(what)
            if relation is None:
                raise error(
                    SqlState.UNDEFINED_TABLE,
                    f'relation "{what}" does not exist',
                    position=source.position,
                )
            columns = tuple(OutputColumn(name, of) for name, of in relation.columns)
            return Plan(columns, relation.rows), what
        if not isinstance(what, tree.FuncCall):
            return plan_query(what, self.parameters), "unnamed_subquery"
        typed = self.analyzer.expression(what)

        def rows(run: Run) -> Iterator[Row]:
            value: Any = typed.evaluate((), run)
            if typed.returns_set:
                for each in value:
                    yield (each,)
            else:
                yield (value,)

        return Plan((OutputColumn(what.name, typed.type),), rows), what.name

    def _expanded(self, items: Iterable[tree.SelectItem]) -> Iterator[tree.SelectItem]:
        for item in items:
            star = item.expression
            if not isinstance(star, tree.Star):
                yield item
                continue
            if star.table is not None and star.table not in self.scope.tables:
                self.scope.find(tree.ColumnRef("", star.table, position=star.position))
            if not self.scope.tables:
                raise error(
                    SqlState.SYNTAX_ERROR,
                    "SELECT * with no tables specified is not valid",
                    position=star.position,
                )
            for column in self.scope.columns:
                if star.table in (None, column.table):
                    reference = tree.ColumnRef(column.name, column.table, position=star.position)
                    yield tree.SelectItem(reference, position=star.position)

    def _output(self, item: tree.SelectItem) -> Typed:
        typed = self.analyzer.expression(item.expression)
        return self.analyzer.coerce(typed, types.TEXT) if typed.type is types.UNKNOWN else typed

    def _by_position(
        self, node: tree.Expression, items: Sequence[tree.SelectItem], clause: str
    ) -> tree.Expression:
        """Resolve a number in the select list, or a name that is an alias there."""
        if isinstance(node, tree.Constant) and isinstance(node.value, int):
            if not 1 <= node.value <= len(items):
                raise error(
                    SqlState.INVALID_COLUMN_REFERENCE,
                    f"{clause} position {node.value} is not in select list",
                    position=node.position,
                )
            return items[node.value - 1].expression
        if isinstance(node, tree.ColumnRef) and node.table is None:
            known = any(column.name == node.name for column in self.scope.columns)
            for item in items:
                if item.alias == node.name and (clause == "ORDER BY" or not known):
                    return item.expression
        return node

    def _order(
        self, order: tree.Order, items: Sequence[tree.SelectItem], outputs: Sequence[Typed]
    ) -> Typed:
        node = self._by_position(order.expression, items, "ORDER BY")
        for item, output in zip(items, outputs, strict=True):
            if item.expression == node:
                return output
        if self.query.distinct:
            raise error(
                SqlState.INVALID_COLUMN_REFERENCE,
                "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                position=node.position,
            )
        return self.analyzer.expression(node)

    def _count(self, node: tree.Expression | None, clause: str) -> Typed | None:
        if node is None:
            return None
        return self.analyzer.coerce(self.analyzer.expression(node), types.INT8)

    def _matching(self, where: Typed | None, run: Run) -> Iterator[Row]:
        for row in _joined(self.sources, run):
            run.session.interrupts.check()
            if where is None or where.evaluate(row, run) is True:
                yield row


def _evaluate_count(typed: Typed | None, run: Run, clause: str) -> int | None:
    value = None if typed is None else typed.evaluate((), run)
    if not isinstance(value, int):
        return None
    if value < 0:
        raise error(
            SqlState.INVALID_ROW_COUNT_IN_LIMIT_CLAUSE
            if clause == "LIMIT"
            else SqlState.INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE,
            f"{clause} must not be negative",
        )
    return value


def _joined(sources: Sequence[_Joined], run: Run) -> Iterator[Row]:
    """Join by nested loops from left to right; each source is read once."""
    rows: Iterable[Row] = [()]
    for source in sources:
        rows = list(_join(rows, source, run)) if len(sources) > 1 else _only(source, run)
    yield from rows


def _only(source: _Joined, run: Run) -> Iterator[Row]:
    return source.plan.rows(run)


def _join(left: Iterable[Row], source: _Joined, run: Run) -> Iterator[Row]:
    right = [tuple(row) for row in _interruptible(source.plan.rows(run), run)]
    nulls = (None,) * len(source.plan.columns)
    for row in left:
        found = False
        for other in right:
            run.session.interrupts.check()
            combined = (*row, *other)
            if source.condition is None or source.condition.evaluate(combined, run) is True:
                found = True
                yield combined
        if not found and source.kind is tree.JoinKind.LEFT:
            yield (*row, *nulls)


def _interruptible(rows: Iterable[Row], run: Run) -> Iterator[Row]:
    for row in rows:
        run.session.interrupts.check()
        yield row


def _projected(
    matching: Iterable[Row], outputs: Sequence[Typed], orders: Sequence[Typed], run: Run
) -> Iterator[tuple[Row, Row]]:
    has_sets = any(output.returns_set for output in outputs)
    for row in matching:
        values = [output.evaluate(row, run) for output in outputs]
        keys = tuple(order.evaluate(row, run) for order in orders)
        if not has_sets:
            yield tuple(values), keys
            continue
        yield from ((each, keys) for each in _unrolled(values, outputs))


def _unrolled(values: Sequence[Any], outputs: Sequence[Typed]) -> Iterator[Row]:
    """Expand set-returning functions in parallel, padding the shorter ones with nulls."""
    is_set = [output.returns_set for output in outputs]
    longest = max(len(value) for value, each in zip(values, is_set, strict=True) if each)
    for number in range(longest):
        yield tuple(
            (value[number] if number < len(value) else None) if each else value
            for value, each in zip(values, is_set, strict=True)
        )


def _grouped(
    matching: Iterable[Row],
    keys: Sequence[Typed],
    has_keys: bool,
    having: Typed | None,
    outputs: Sequence[Typed],
    orders: Sequence[Typed],
    run: Run,
) -> Iterator[tuple[Row, Row]]:
    groups: dict[Row, list[Row]] = {} if has_keys else {(): []}
    for row in matching:
        key = tuple(each.evaluate(row, run) for each in keys)
        groups.setdefault(key, []).append(row)
    for members in groups.values():
        run.group = members
        first = members[0] if members else ()
        if having is None or having.evaluate(first, run) is True:
            values = tuple(output.evaluate(first, run) for output in outputs)
            yield values, tuple(order.evaluate(first, run) for order in orders)


def _distinct(produced: Iterable[tuple[Row, Row]]) -> Iterator[tuple[Row, Row]]:
    seen: set[Row] = set()
    for row, keys in produced:
        if row not in seen:
            seen.add(row)
            yield row, keys


def _sorted(
    produced: Iterable[tuple[Row, Row]], orders: Sequence[tree.Order]
) -> list[tuple[Row, Row]]:
    rows = list(produced)
    for index in range(len(orders) - 1, -1, -1):
        order = orders[index]

        def key(entry: tuple[Row, Row], index: int = index) -> tuple[bool, object]:
            value = entry[1][index]
            return (value is None, 0 if value is None else sort_key(value))

        present = [entry for entry in rows if entry[1][index] is not None]
        absent = [entry for entry in rows if entry[1][index] is None]
        present.sort(key=key, reverse=order.descending)
        rows = absent + present if order.nulls_first else present + absent
    return rows


def _has_aggregate(items: Iterable[tree.SelectItem], query: tree.Select) -> bool:
    nodes = [item.expression for item in items] + [order.expression for order in query.order]
    return any(_contains_aggregate(node) for node in nodes)


def _contains_aggregate(node: object) -> bool:
    if isinstance(node, tree.FuncCall) and node.name in AGGREGATES:
        return True
    if isinstance(node, (tree.Scalar, tree.Exists)):
        return False
    if isinstance(node, tuple):
        return any(_contains_aggregate(each) for each in node)
    if isinstance(node, tree.Node):
        return any(_contains_aggregate(value) for value in vars(node).values())
    return False
