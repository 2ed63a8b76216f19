"""What a column is called when nobody named it.

Begin with   column_name().
Owns         the rules for `?column?` and its exceptions.
Leaves out   aliases (query.py).
Source       parser/parse_target.c: FigureColnameInternal().
"""

from __future__ import annotations

from pglife_impl.session import tree, types

NAMELESS = "?column?"


def column_name(node: tree.Expression) -> str:
    """Return the default name of an expression."""
    match node:
        case tree.ColumnRef(name=name) | tree.Call(name=name):
            return name
        case tree.Cast(argument=argument, type_name=type_name):
            inner = column_name(argument)
            is_weak = inner == NAMELESS or isinstance(argument, (tree.Case, tree.ArrayOf))
            return types.type_named(type_name).name if is_weak else inner
        case tree.Case(default=default):
            named = isinstance(default, tree.ColumnRef)
            return column_name(default) if named and default is not None else "case"
        case tree.Exists():
            return "exists"
        case tree.ArrayOf():
            return "array"
        case tree.Scalar(query=tree.Select(items=items)) if items:
            return items[0].alias or column_name(items[0].expression)
    return NAMELESS
