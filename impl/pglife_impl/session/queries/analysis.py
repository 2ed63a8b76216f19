"""Expression analysis: from the parse tree to typed expressions that can be evaluated.

Begin with Analyzer.expression(): names, types, implicit casts, placement of aggregates.
Source: parser/parse_expr.c, parse_relation.c, parse_coerce.c, parse_agg.c.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from pglife_impl.protocol import SqlError, SqlState
from pglife_impl.protocol.report import error
from pglife_impl.session.queries import functions, operators, tree, types
from pglife_impl.session.queries.run import Row, Run
from pglife_impl.session.queries.scope import Parameters, Scope, SubqueryPlanner, Typed, constant
from pglife_impl.session.queries.types import Category, PgType, Value


def _null(row: Row, run: Run) -> Value:
    return None


class Analyzer:
    """Analyzes the expressions of one query level."""

    def __init__(self, scope: Scope, parameters: Parameters, plan: SubqueryPlanner) -> None:
        self.scope = scope
        self.parameters = parameters
        self._plan = plan
        self.group: tuple[tree.Expression, ...] | None = None
        self._inside_aggregate = False
        self._readers: dict[type, Callable[[Any], Typed]] = {
            tree.Constant: self._constant,
            tree.Parameter: self._parameter,
            tree.ColumnRef: self._column,
            tree.FuncCall: self._call,
            tree.Operation: self._operation,
            tree.Logical: self._logical,
            tree.Is: self._is,
            tree.InList: self._in_list,
            tree.InQuery: self._in_query,
            tree.AnyOf: self._any_of,
            tree.ArrayOf: self._array,
            tree.Case: self._case,
            tree.Cast: self._cast,
            tree.Scalar: self._scalar,
            tree.Exists: self._exists,
        }

    def expression(self, node: tree.Expression) -> Typed:
        """Analyze an expression; one that GROUP BY lists may use any column inside it."""
        if self.group is not None and not self._inside_aggregate and node in self.group:
            group, self.group = self.group, None
            try:
                return self.expression(node)
            finally:
                self.group = group
        reader = self._readers.get(type(node))
        if reader is None:
            raise error(
                SqlState.SYNTAX_ERROR, 'syntax error at or near "*"', position=node.position
            )
        return reader(node)

    def condition(self, node: tree.Expression, where: str) -> Typed:
        """Analyze an expression that must be Boolean."""
        typed = self.expression(node)
        if typed.type not in (types.BOOL, types.UNKNOWN):
            raise error(
                SqlState.DATATYPE_MISMATCH,
                f"argument of {where} must be type boolean, not type {typed.type}",
                position=node.position,
            )
        return self.coerce(typed, types.BOOL)

    def coerce(self, typed: Typed, target: PgType) -> Typed:
        """Convert to another type; literals are read now, so that errors have their position."""
        if typed.type is target or target is functions.ANY:
            return typed
        if typed.parameter is not None and typed.type is types.UNKNOWN:
            self.parameters.decide(typed.parameter, target)
            return replace(typed, type=target)
        if typed.literal is not None:
            return self._read_literal(typed, typed.literal, target)
        source, evaluate = typed.type, typed.evaluate
        if not types.can_be_cast(source, target):
            raise error(
                SqlState.CANNOT_COERCE,
                f"cannot cast type {source} to {target}",
                position=typed.position,
            )

        def converted(row: Row, run: Run) -> Value:
            return types.coerce(evaluate(row, run), source, target, run.zone)

        return replace(typed, type=target, evaluate=converted)

    def _read_literal(self, typed: Typed, text: str, target: PgType) -> Typed:
        try:
            if target.category is not Category.MOMENT:
                return constant(types.read_text(text, target), target, typed.position)
            types.read_text(text, target)
        except SqlError as problem:
            raise problem.at(typed.position) from None
        # A timestamp without a zone depends on the session's TimeZone.
        return Typed(
            target,
            lambda row, run: types.read_text(text, target, run.zone),
            position=typed.position,
        )

    def _constant(self, node: tree.Constant) -> Typed:
        value = node.value
        if value is None:
            return Typed(types.UNKNOWN, _null, position=node.position)
        if isinstance(value, bool):
            return constant(value, types.BOOL, node.position)
        if isinstance(value, str):
            return replace(constant(value, types.UNKNOWN, node.position), literal=value)
        if isinstance(value, int):
            for each, bits in ((types.INT4, 31), (types.INT8, 63)):
                if -(1 << bits) <= value < 1 << bits:
                    return constant(value, each, node.position)
            return constant(Decimal(value), types.NUMERIC, node.position)
        return constant(value, types.NUMERIC, node.position)

    def _parameter(self, node: tree.Parameter) -> Typed:
        if node.number < 1 or not self.parameters.allowed:
            raise error(
                SqlState.UNDEFINED_PARAMETER,
                f"there is no parameter ${node.number}",
                position=node.position,
            )
        known = self.parameters.use(node.number)
        index = node.number - 1
        return Typed(
            known or types.UNKNOWN,
            lambda row, run: run.parameters[index],
            parameter=node.number,
            position=node.position,
        )

    def _column(self, node: tree.ColumnRef) -> Typed:
        column = self.scope.find(node)
        if self.group is not None and not self._inside_aggregate:
            with_table = tree.ColumnRef(column.name, column.table)
            if with_table not in self.group and tree.ColumnRef(column.name) not in self.group:
                raise error(
                    SqlState.GROUPING_ERROR,
                    f'column "{column.table}.{column.name}" must appear in the GROUP BY clause'
                    " or be used in an aggregate function",
                    position=node.position,
                )
        index = column.index
        return Typed(column.type, lambda row, run: row[index], position=node.position)

    def _call(self, node: tree.FuncCall) -> Typed:
        if node.name in functions.AGGREGATES:
            return self._aggregate(node)
        if node.name in ("coalesce", "nullif", "greatest", "least"):
            return self._special(node)
        arguments = [self.expression(argument) for argument in node.arguments]
        try:
            function = functions.find(node.name, [argument.type for argument in arguments])
        except SqlError as problem:
            raise problem.at(node.position) from None
        coerced = [
            self.coerce(argument, wanted).evaluate
            for argument, wanted in zip(arguments, function.arguments, strict=True)
        ]
        call, strict = function.call, function.strict

        def evaluate(row: Row, run: Run) -> Value:
            values = [argument(row, run) for argument in coerced]
            if strict and None in values:
                return [] if function.returns_set else None
            return call(run, *values)

        return Typed(
            function.result, evaluate, position=node.position, returns_set=function.returns_set
        )

    def _aggregate(self, node: tree.FuncCall) -> Typed:
        if self.group is None:
            raise error(
                SqlState.GROUPING_ERROR,
                "aggregate functions are not allowed here",
                position=node.position,
            )
        if self._inside_aggregate:
            raise error(
                SqlState.GROUPING_ERROR,
                "aggregate function calls cannot be nested",
                position=node.position,
            )
        self._inside_aggregate = True
        try:
            arguments = [self.expression(argument) for argument in node.arguments]
            chosen = None if node.filter is None else self.condition(node.filter, "FILTER")
        finally:
            self._inside_aggregate = False
        aggregate = functions.AGGREGATES[node.name]
        wanted = 0 if node.star else 1
        given = [argument.type for argument in arguments]
        fits = aggregate.takes is None or all(each.category in aggregate.takes for each in given)
        if len(arguments) != wanted or not fits or (node.star and node.name != "count"):
            problem = functions.no_such_function(node.name, given)
            raise problem.at(node.position) if isinstance(problem, SqlError) else problem
        argument = arguments[0] if arguments else constant(True, types.BOOL)
        if argument.type is types.UNKNOWN:
            argument = self.coerce(argument, types.TEXT)

        def evaluate(row: Row, run: Run) -> Value:
            members = run.group
            if chosen is not None:
                members = [member for member in members if chosen.evaluate(member, run)]
            values = [argument.evaluate(member, run) for member in members]
            if node.distinct:
                values = list(dict.fromkeys(values))
            return aggregate.call(values)

        return Typed(aggregate.result(argument.type), evaluate, position=node.position)

    def _special(self, node: tree.FuncCall) -> Typed:
        """Analyze COALESCE, NULLIF, GREATEST, LEAST, whose arguments share one type."""
        if not node.arguments or (node.name == "nullif" and len(node.arguments) != len("ab")):
            raise functions.no_such_function(node.name, ())
        arguments = self.unified(node.arguments, node.name.upper())
        evaluators = [argument.evaluate for argument in arguments]

        def coalesce(row: Row, run: Run) -> Value:
            return next((v for e in evaluators if (v := e(row, run)) is not None), None)

        def nullif(row: Row, run: Run) -> Value:
            first, second = (each(row, run) for each in evaluators)
            return None if first == second else first

        def extreme(row: Row, run: Run) -> Value:
            present = [v for e in evaluators if (v := e(row, run)) is not None]
            choose: Any = max if node.name == "greatest" else min
            return choose(present, key=operators.sort_key, default=None)  # type: ignore[no-any-return]

        evaluate = {"coalesce": coalesce, "nullif": nullif}.get(node.name, extreme)
        return Typed(arguments[0].type, evaluate, position=node.position)

    def unified(self, nodes: Sequence[tree.Expression], what: str) -> list[Typed]:
        """Analyze expressions and convert them to a common type (parse_coerce.c)."""
        typed = [self.expression(node) for node in nodes]
        common: PgType = types.UNKNOWN
        for each in typed:
            merged = operators.common_type(common, each.type)
            if types.UNKNOWN in (common, each.type):
                merged = each.type if common is types.UNKNOWN else common
            if merged is None:
                raise error(
                    SqlState.DATATYPE_MISMATCH,
                    f"{what} types {common} and {each.type} cannot be matched",
                    position=each.position,
                )
            common = merged
        if common is types.UNKNOWN:
            common = types.TEXT
        return [self.coerce(each, common) for each in typed]

    def _operation(self, node: tree.Operation) -> Typed:
        left = None if node.left is None else self.expression(node.left)
        return self._apply(node.operator, left, self.expression(node.right), node.position)

    def _apply(
        self, operator: str, left: Typed | None, right: Typed, position: int | None
    ) -> Typed:
        try:
            found = operators.resolve(operator, None if left is None else left.type, right.type)
        except SqlError as problem:
            raise problem.at(position) from None
        apply = found.apply
        second = self.coerce(right, found.right).evaluate
        if left is None or found.left is None:

            def prefix(row: Row, run: Run) -> Value:
                value = second(row, run)
                return None if value is None else apply(value)

            return Typed(found.result, prefix, position=position, is_constant=right.is_constant)
        first = self.coerce(left, found.left).evaluate

        def infix(row: Row, run: Run) -> Value:
            a, b = first(row, run), second(row, run)
            return None if a is None or b is None else apply(a, b)

        is_constant = left.is_constant and right.is_constant
        return Typed(found.result, infix, position=left.position, is_constant=is_constant)

    def _logical(self, node: tree.Logical) -> Typed:
        where = node.connective.value
        parts = [self.condition(each, where).evaluate for each in node.arguments]
        if node.connective is tree.Connective.NOT:

            def negation(row: Row, run: Run) -> Value:
                value = parts[0](row, run)
                return None if value is None else not value

            return Typed(types.BOOL, negation, position=node.position)
        decisive = node.connective is tree.Connective.OR

        def connection(row: Row, run: Run) -> Value:
            unknown = False
            for part in parts:
                value = part(row, run)
                if value is decisive:
                    return decisive
                unknown = unknown or value is None
            return None if unknown else not decisive

        return Typed(types.BOOL, connection, position=node.position)

    def _is(self, node: tree.Is) -> Typed:
        if node.value is None:
            argument = self.expression(node.argument).evaluate
        else:
            argument = self.condition(node.argument, f"IS {str(node.value).upper()}").evaluate
        wanted, negated = node.value, node.negated
        return Typed(types.BOOL, lambda row, run: (argument(row, run) is wanted) != negated)

    def _in_list(self, node: tree.InList) -> Typed:
        argument = self.expression(node.argument)
        tests = [
            self._apply("=", argument, self.expression(item), node.position).evaluate
            for item in node.items
        ]
        return Typed(types.BOOL, lambda row, run: _any_true(test(row, run) for test in tests))

    def _in_query(self, node: tree.InQuery) -> Typed:
        plan = self._plan(node.query)
        argument = self.coerce(self.expression(node.argument), plan.columns[0].type).evaluate

        def evaluate(row: Row, run: Run) -> Value:
            value = argument(row, run)
            return _any_true(_equal(value, found[0]) for found in plan.rows(run))

        return Typed(types.BOOL, evaluate, position=node.position)

    def _any_of(self, node: tree.AnyOf) -> Typed:
        left = self.expression(node.left)
        array_type = types.ARRAYS.get(left.type, types.TEXT_ARRAY)
        array = self.expression(node.array)
        if array.type is types.UNKNOWN:
            array = self.coerce(array, array_type)
        element = types.ELEMENTS.get(array.type)
        if element is None:
            raise error(
                SqlState.DATATYPE_MISMATCH,
                "op ANY/ALL (array) requires array on right side",
                position=node.position,
            )
        found = operators.resolve(node.operator, left.type, element)
        first = self.coerce(left, found.left or element).evaluate

        def evaluate(row: Row, run: Run) -> Value:
            value, items = first(row, run), array.evaluate(row, run)
            if value is None or not isinstance(items, list):
                return None
            return _any_true(None if i is None else found.apply(value, i) for i in items)

        return Typed(types.BOOL, evaluate, position=node.position)

    def _array(self, node: tree.ArrayOf) -> Typed:
        items = self.unified(node.items, "ARRAY")
        element = items[0].type if items else types.TEXT
        array = types.ARRAYS.get(element, types.TEXT_ARRAY)
        parts = [item.evaluate for item in items]
        return Typed(array, lambda row, run: [part(row, run) for part in parts])

    def _case(self, node: tree.Case) -> Typed:
        tests = []
        for condition, _ in node.branches:
            if node.operand is None:
                tests.append(self.condition(condition, "CASE/WHEN").evaluate)
            else:
                sides = (self.expression(node.operand), self.expression(condition))
                tests.append(self._apply("=", *sides, node.position).evaluate)
        default = node.default or tree.Constant(None)
        results = self.unified([*(result for _, result in node.branches), default], "CASE")
        outcomes = [result.evaluate for result in results]

        def evaluate(row: Row, run: Run) -> Value:
            for test, outcome in zip(tests, outcomes, strict=False):
                if test(row, run) is True:
                    return outcome(row, run)
            return outcomes[-1](row, run)

        return Typed(results[0].type, evaluate, position=node.position)

    def _cast(self, node: tree.Cast) -> Typed:
        target = types.type_named(node.type_name)
        return self.coerce(self.expression(node.argument), target)

    def _scalar(self, node: tree.Scalar) -> Typed:
        plan = self._plan(node.query)
        if len(plan.columns) != 1:
            raise error(SqlState.SYNTAX_ERROR, "subquery must return only one column")

        def evaluate(row: Row, run: Run) -> Value:
            rows = list(plan.rows(run))
            if len(rows) > 1:
                raise error(
                    SqlState.CARDINALITY_VIOLATION,
                    "more than one row returned by a subquery used as an expression",
                )
            return rows[0][0] if rows else None

        return Typed(plan.columns[0].type, evaluate, position=node.position)

    def _exists(self, node: tree.Exists) -> Typed:
        plan = self._plan(node.query)
        return Typed(types.BOOL, lambda row, run: any(True for _ in plan.rows(run)))


def _equal(a: Value, b: Value) -> Value:
    return None if a is None or b is None else a == b


def _any_true(values: Any) -> Value:
    """Return the three-valued OR: true if one is, else null if one is, else false."""
    unknown = False
    for value in values:
        if value:
            return True
        unknown = unknown or value is None
    return None if unknown else False
