"""Names of result columns without an alias.

Source: parser/parse_target.c: FigureColnameInternal().
"""

from pglife_impl.session.queries import tree, types

NAMELESS = "?column?"


def column_name(node: tree.Expression) -> str:
    """Return the default name of an expression."""
    return _strong_name(node) or _weak_name(node) or NAMELESS


def _strong_name(node: tree.Expression) -> str:
    """Return the name that a cast keeps, or None."""
    match node:
        case tree.ColumnRef(name=name) | tree.FuncCall(name=name):
            return name
        case tree.Cast(argument=argument):
            return _strong_name(argument)
        case tree.Case(default=default) if default is not None:
            return _strong_name(default)
        case tree.Exists():
            return "exists"
        case tree.ArrayOf():
            return "array"
        case tree.Scalar(query=tree.Select(items=items)) if items:
            name = items[0].alias or column_name(items[0].expression)
            return "" if name == NAMELESS else name
    return ""


def _weak_name(node: tree.Expression) -> str:
    """Return the name that a cast replaces by its type's name, or None."""
    match node:
        case tree.Cast(type_name=type_name):
            return types.type_named(type_name).name
        case tree.Case():
            return "case"
    return ""
