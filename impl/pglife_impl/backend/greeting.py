"""The first messages to an admitted client: settings of the startup packet, then their report.

Begin with greet().
Source: utils/init/postinit.c: process_startup_options(), pg_split_opts(); utils/misc/guc.c:
BeginReportingGUCOptions().
"""

from collections.abc import Iterator

from pglife_impl.config.value import GucError
from pglife_impl.protocol import SqlError, backend_key_data, parameter_status
from pglife_impl.protocol.report import SqlState, fatal
from pglife_impl.session.context import SessionContext
from pglife_impl.session.settings import FIRST_REPORTED, define_hidden, normalize

NOT_SETTINGS = frozenset(("user", "database", "options", "replication"))


def greet(context: SessionContext) -> bytes:
    """Apply the settings of the startup packet; return ParameterStatus and BackendKeyData.

    Raises:
        SqlError: FATAL, a setting is unknown, invalid or not allowed.
    """
    gucs = context.gucs
    superuser = context.superuser
    facts = {"is_superuser": "on" if superuser else "off", "session_authorization": context.user}
    define_hidden(gucs, facts)
    gucs.put_internal("DateStyle", normalize("DateStyle", gucs.show("DateStyle")))
    for name, value in startup_settings(context.parameters):
        try:
            gucs.set_client(name, normalize(name, value), superuser=superuser)
        except GucError as problem:
            raise fatal_of(problem) from None
    context.report(application_name=gucs.show("application_name"))
    statuses = [parameter_status(name, gucs.show(name)) for name in FIRST_REPORTED]
    return b"".join(statuses) + backend_key_data(context.pid, context.cancel_key)


def fatal_of(problem: GucError) -> SqlError:
    """Return the FATAL for an invalid setting in a startup packet."""
    return fatal(
        SqlState(problem.sqlstate), problem.message, detail=problem.detail, hint=problem.hint
    )


def startup_settings(parameters: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the settings in `options`, then the other parameters."""
    yield from command_line_settings(parameters.get("options", ""))
    for name, value in parameters.items():
        if name not in NOT_SETTINGS:
            yield name, value


def command_line_settings(options: str) -> Iterator[tuple[str, str]]:
    """Yield the settings of `-c name=value` and `--name=value`; SqlError 42601 otherwise."""
    words = iter(split_options(options))
    for word in words:
        if word == "-c":
            assignment = next(words, "")
        elif word.startswith("-c") or (word.startswith("--") and len(word) > len("--")):
            assignment = word[2:]
        else:
            raise fatal(
                SqlState.SYNTAX_ERROR,
                f"invalid command-line argument for server process: {word}",
                hint='Try "postgres --help" for more information.',
            )
        name, equals, value = assignment.partition("=")
        if not equals:
            shown = f"--{assignment}" if word.startswith("--") else f"-c {assignment}"
            raise fatal(SqlState.SYNTAX_ERROR, f"{shown} requires a value")
        yield name.replace("-", "_"), value


def split_options(options: str) -> list[str]:
    """Split at white space; a backslash escapes the next character."""
    words: list[str] = []
    word: str | None = None
    characters = iter(options)
    for character in characters:
        if character.isspace():
            if word is not None:
                words.append(word)
            word = None
            continue
        if character == "\\":
            character = next(characters, "")
        word = (word or "") + character
    if word is not None:
        words.append(word)
    return words
