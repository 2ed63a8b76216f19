"""The text and position of syntax errors.

Begin with syntax_error(), which translates sqlglot's error.
Source: parser/scan.l: scanner_yyerror().
"""

from collections.abc import Sequence

from sqlglot.errors import ParseError
from sqlglot.tokenizer_core import Token

from pglife_impl.protocol.report import SqlError, SqlState, error


def syntax_error_at(sql: str, token: Token) -> SqlError:
    """Return the error that points at a token."""
    shown = sql[token.start : token.end + 1]
    return error(
        SqlState.SYNTAX_ERROR, f'syntax error at or near "{shown}"', position=token.start + 1
    )


def syntax_error(sql: str, tokens: Sequence[Token], problem: ParseError) -> SqlError:
    """Return the error for sqlglot's; at the end of input sqlglot names the last token."""
    at_end = error(
        SqlState.SYNTAX_ERROR, "syntax error at end of input", position=len(sql.rstrip()) + 1
    )
    details = problem.errors[0] if problem.errors else {}
    place = (details.get("line"), details.get("col"))
    for token in tokens:
        if (token.line, token.col) == place:
            unexpected = "Unexpected token" in str(details.get("description"))
            if token is tokens[-1] and not unexpected:
                return at_end
            return syntax_error_at(sql, token)
    return at_end


def unterminated(sql: str) -> SqlError:
    """Return the error for a quote or comment without an end."""
    kinds = (("'", "quoted string"), ('"', "quoted identifier"), ("/*", "/* comment"))
    offset = 0
    while offset < len(sql):
        rest = sql[offset:]
        if rest.startswith("--"):
            offset += rest.find("\n") + 1 or len(rest)
            continue
        for opening, name in kinds:
            if rest.startswith(opening):
                closing = "*/" if opening == "/*" else opening
                end = rest.find(closing, len(opening))
                if end < 0:
                    text = f'unterminated {name} at or near "{rest}"'
                    return error(SqlState.SYNTAX_ERROR, text, position=offset + 1)
                offset += end + len(closing)
                break
        else:
            offset += 1
    return error(SqlState.SYNTAX_ERROR, "syntax error at end of input", position=len(sql) + 1)
