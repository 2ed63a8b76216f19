"""The extended query protocol: prepared statements and portals, by name.

Begin with ExtendedProtocol.act().
Source: tcop/postgres.c: exec_parse_message(), exec_bind_message(), exec_execute_message(),
exec_describe_statement_message(), exec_describe_portal_message().
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pglife_impl.protocol import SqlError, SqlState
from pglife_impl.protocol.backend import (
    bind_complete,
    close_complete,
    command_complete,
    empty_query_response,
    no_data,
    parameter_description,
    parse_complete,
    portal_suspended,
)
from pglife_impl.protocol.frontend import (
    Bind,
    Close,
    Describe,
    Execute,
    Flush,
    Message,
    Parse,
    Target,
)
from pglife_impl.protocol.report import error
from pglife_impl.session.protocol.portal import (
    BINARY_FORMAT,
    TEXT_FORMAT,
    Ready,
    control_transaction,
    describe,
    encode_row,
    format_of,
    make_ready,
    require_working_transaction,
)
from pglife_impl.session.queries import tree, types
from pglife_impl.session.queries.parser import parse_statements
from pglife_impl.session.queries.run import Row, Run
from pglife_impl.session.queries.types import PgType, Value
from pglife_impl.session.state import SessionState
from pglife_impl.session.timers import Timer

UNSPECIFIED = 0


@dataclass(frozen=True)
class Prepared:
    """A prepared statement; `ready` is None for an empty query string."""

    sql: str
    ready: Ready | None
    parameter_types: tuple[PgType, ...]


@dataclass
class Portal:
    """A prepared statement with parameters, partly or fully executed."""

    prepared: Prepared
    parameters: Sequence[Value]
    result_formats: tuple[int, ...]
    rows: Iterator[Row] | None = None
    count: int = 0


class ExtendedProtocol:
    """The prepared statements and portals of one session."""

    def __init__(self, session: SessionState) -> None:
        self._session = session
        self._statements: dict[str, Prepared] = {}
        self._portals: dict[str, Portal] = {}
        session.xact.at_end.append(self.forget_portals)

    def act(self, message: Message) -> None:
        """Act on a message of the extended protocol; the loop handles Sync."""
        match message:
            case Parse():
                self._parse(message)
            case Bind():
                self._bind(message)
            case Describe(Target.STATEMENT, name):
                self._session.xact.start()
                self._describe_statement(name)
            case Describe(Target.PORTAL, name):
                self._session.xact.start()
                self._describe_portal(name)
            case Execute():
                self._execute(message)
            case Close(target, name):
                known = self._statements if target is Target.STATEMENT else self._portals
                known.pop(name, None)
                self._send(close_complete())
            case Flush():
                self._session.output.flush()
            case _:
                raise AssertionError(f"not of the extended protocol: {message}")

    def forget_unnamed(self) -> None:
        """Drop the unnamed statement and portal, as a simple query does."""
        self._statements.pop("", None)
        self._portals.pop("", None)

    def forget_portals(self) -> None:
        """Drop all portals, as the end of a transaction does."""
        self._portals.clear()

    def deallocate(self, name: str | None) -> None:
        """Drop a prepared statement, or all if the name is None."""
        if name is None:
            self._statements.clear()
        else:
            self._statement(name)
            del self._statements[name]

    def _send(self, data: bytes) -> None:
        self._session.output.send(data)

    def _statement(self, name: str) -> Prepared:
        try:
            return self._statements[name]
        except KeyError:
            what = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise error(SqlState.INVALID_SQL_STATEMENT_NAME, f"{what} does not exist") from None

    def _portal(self, name: str) -> Portal:
        try:
            return self._portals[name]
        except KeyError:
            raise error(SqlState.INVALID_CURSOR_NAME, f'portal "{name}" does not exist') from None

    def _parse(self, message: Parse) -> None:
        session = self._session
        session.xact.begin_command(message.sql, "PARSE")
        session.xact.start()
        if not message.name:
            self._statements.pop("", None)
        elif message.name in self._statements:
            raise error(
                SqlState.DUPLICATE_PREPARED_STATEMENT,
                f'prepared statement "{message.name}" already exists',
            )
        statements = parse_statements(message.sql)
        if len(statements) > 1:
            raise error(
                SqlState.SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement"
            )
        ready = None
        if statements:
            require_working_transaction(statements[0], session)
            declared = [_declared(oid) for oid in message.parameter_types]
            ready = make_ready(statements[0], session, declared)
        kinds = tuple(ready.parameter_types) if ready is not None else ()
        self._statements[message.name] = Prepared(message.sql, ready, kinds)
        self._send(parse_complete())

    def _bind(self, message: Bind) -> None:
        session = self._session
        prepared = self._statement(message.statement)
        session.xact.begin_command(prepared.sql, "BIND")
        session.xact.start()
        wanted, given = len(prepared.parameter_types), len(message.parameters)
        if wanted != given:
            raise error(
                SqlState.PROTOCOL_VIOLATION,
                f"bind message supplies {given} parameters, but prepared statement"
                f' "{message.statement}" requires {wanted}',
            )
        if prepared.ready is not None:
            require_working_transaction(prepared.ready.statement, self._session)
        if message.portal and message.portal in self._portals:
            raise error(SqlState.DUPLICATE_CURSOR, f'cursor "{message.portal}" already exists')
        zone = session.settings.show("TimeZone")
        where = f'portal "{message.portal}"' if message.portal else "unnamed portal"
        values = [
            _read_parameter(
                raw,
                of,
                format_of(message.parameter_formats, index),
                zone,
                f"{where} parameter ${index + 1}",
            )
            for index, (raw, of) in enumerate(
                zip(message.parameters, prepared.parameter_types, strict=True)
            )
        ]
        columns = None if prepared.ready is None else prepared.ready.columns
        formats = len(message.result_formats)
        if columns is not None and formats > 1 and formats != len(columns):
            raise error(
                SqlState.PROTOCOL_VIOLATION,
                f"bind message has {formats} result formats but query has {len(columns)} columns",
            )
        if prepared.ready is not None:
            prepared.ready.fold(Run(session, self, values))
        self._portals[message.portal] = Portal(prepared, values, message.result_formats)
        self._send(bind_complete())

    def _describe_statement(self, name: str) -> None:
        prepared = self._statement(name)
        self._refuse_rows_in_failed_block(prepared)
        self._send(parameter_description([each.oid for each in prepared.parameter_types]))
        self._describe(prepared, ())

    def _describe_portal(self, name: str) -> None:
        portal = self._portal(name)
        self._refuse_rows_in_failed_block(portal.prepared)
        self._describe(portal.prepared, portal.result_formats)

    def _refuse_rows_in_failed_block(self, prepared: Prepared) -> None:
        if prepared.ready is not None and prepared.ready.columns is not None:
            require_working_transaction(prepared.ready.statement, self._session)

    def _describe(self, prepared: Prepared, formats: Sequence[int]) -> None:
        columns = None if prepared.ready is None else prepared.ready.columns
        self._send(no_data() if columns is None else describe(columns, formats))

    def _execute(self, message: Execute) -> None:
        session = self._session
        portal = self._portal(message.portal)
        ready = portal.prepared.ready
        if ready is None:
            self._send(empty_query_response())
            return
        session.xact.begin_command(portal.prepared.sql, ready.tag)
        session.xact.start()
        require_working_transaction(ready.statement, session)
        session.interrupts.check()
        if isinstance(ready.statement, tree.TransactionControl):
            tag = control_transaction(ready.statement, session)
            self._send(command_complete(tag))
            return
        run = Run(session, self, portal.parameters)
        if portal.rows is None:
            portal.rows = iter(ready.rows(run))
        if ready.columns is not None and not self._send_rows(portal, ready, message.max_rows, run):
            self._send(portal_suspended())
            return
        session.interrupts.disarm(Timer.STATEMENT)
        self._send(command_complete(ready.tag_with_rows(portal.count)))
        portal.count = 0

    def _send_rows(self, portal: Portal, ready: Ready, limit: int, run: Run) -> bool:
        """Send up to `limit` rows, all if it is 0; return whether the portal is at its end."""
        assert portal.rows is not None
        assert ready.columns is not None
        sent = 0
        zone = run.zone
        while limit <= 0 or sent < limit:
            row = next(portal.rows, None)
            if row is None:
                portal.count = sent
                return True
            self._send(encode_row(row, ready.columns, portal.result_formats, zone))
            self._session.interrupts.check()
            sent += 1
        return False


def _declared(oid: int) -> PgType | None:
    if oid in (UNSPECIFIED, types.UNKNOWN.oid):
        return None
    known = types.BY_OID.get(oid)
    if known is None:
        raise error(
            SqlState.FEATURE_NOT_SUPPORTED,
            f"parameters of the type with OID {oid} are not supported by this server",
        )
    return known


def _read_parameter(
    raw: bytes | None, of: PgType, format_code: int, zone: str, where: str
) -> Value:
    if raw is None:
        return None
    try:
        if format_code == BINARY_FORMAT:
            return types.read_binary(raw, of)
        if format_code != TEXT_FORMAT:
            raise error(SqlState.INVALID_PARAMETER_VALUE, f"unsupported format code: {format_code}")
        return types.read_text(raw.decode(), of, zone)
    except UnicodeDecodeError:
        raise _invalid_encoding().within(where) from None
    except SqlError as problem:
        is_text = format_code == TEXT_FORMAT
        raise problem.within(f"{where} = '...'" if is_text else where) from None


def _invalid_encoding() -> SqlError:
    return error(SqlState.CHARACTER_NOT_IN_REPERTOIRE, 'invalid byte sequence for encoding "UTF8"')
