"""The system views: pg_stat_activity, pg_settings, pg_roles, pg_database.

Begin with RELATIONS.
Source: catalog/system_views.sql; utils/adt/pgstatfuncs.c: pg_stat_get_activity().
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pglife_impl.base.kinds import Attached, info
from pglife_impl.config.guc import Source
from pglife_impl.config.value import ValueType
from pglife_impl.session.queries import types
from pglife_impl.session.queries.functions import moment
from pglife_impl.session.queries.run import Row, Run
from pglife_impl.session.queries.types import PgType


@dataclass(frozen=True)
class Relation:
    """Columns of a view, and the function that yields its rows."""

    columns: tuple[tuple[str, PgType], ...]
    rows: Callable[[Run], Iterator[Row]]


_HIDDEN_QUERY = "<insufficient privilege>"


def _activity_rows(run: Run) -> Iterator[Row]:
    context = run.session.context
    catalog = context.catalog
    catalog.refresh()
    for row in context.activities():
        role = catalog.roles.get(row.user)
        database = catalog.databases.get(row.database)
        visible = run.session.settings.superuser or row.user == context.user
        is_backend = info(row.kind).attached is Attached.BACKEND
        yield (
            database.oid if database else None,
            row.database or None,
            row.pid,
            None,
            role.oid if role else None,
            row.user or None,
            row.application_name,
            (row.client or None) if visible else None,
            None,
            (row.client_port if row.client else -1) if is_backend and visible else None,
            moment(row.backend_start) if visible else None,
            moment(row.xact_start) if visible else None,
            moment(row.query_start) if visible else None,
            moment(row.state_change) if visible else None,
            None,
            None,
            (row.state or None) if visible else None,
            None,
            None,
            None,
            row.query if visible else _HIDDEN_QUERY,
            info(row.kind).backend_type if visible else None,
        )


def _settings_rows(run: Run) -> Iterator[Row]:
    gucs = run.session.settings.gucs
    for name in run.session.settings.listed():
        definition = gucs.definition(name)
        bounded = definition.type in (ValueType.INTEGER, ValueType.REAL)
        value = gucs.get(name)
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        yield (
            definition.name,
            f"{value:g}" if isinstance(value, float) else str(value) if plain else gucs.show(name),
            definition.unit or None,
            None,
            None,
            None,
            definition.context.value,
            definition.type.value,
            _SOURCES[gucs.sources.get(name.lower(), Source.DEFAULT)],
            f"{definition.low:g}" if bounded else None,
            f"{definition.high:g}" if bounded else None,
            list(definition.choices) if definition.type is ValueType.ENUM else None,
            definition.boot,
            None,
            None,
            None,
            False,
        )


_SOURCES = {
    Source.DEFAULT: "default",
    Source.FILE: "configuration file",
    Source.COMMAND_LINE: "command line",
    Source.CLIENT: "client",
    Source.SESSION: "session",
}


def _role_rows(run: Run) -> Iterator[Row]:
    catalog = run.session.context.catalog
    catalog.refresh()
    for role in catalog.roles.values():
        yield (
            role.name,
            role.superuser,
            role.login,
            role.replication,
            role.connection_limit,
            role.oid,
        )


def _database_rows(run: Run) -> Iterator[Row]:
    catalog = run.session.context.catalog
    catalog.refresh()
    for database in catalog.databases.values():
        yield (
            database.oid,
            database.name,
            database.is_template,
            database.allow_connections,
            database.connection_limit,
        )


def _columns(text: str) -> tuple[tuple[str, PgType], ...]:
    """Return the columns of `name:type name:type ...`."""
    pairs = (word.split(":") for word in text.split())
    return tuple((name, types.BY_NAME[of]) for name, of in pairs)


RELATIONS: dict[str, Relation] = {
    "pg_stat_activity": Relation(
        _columns(
            "datid:oid datname:name pid:int4 leader_pid:int4 usesysid:oid usename:name "
            "application_name:text client_addr:inet client_hostname:text client_port:int4 "
            "backend_start:timestamptz xact_start:timestamptz query_start:timestamptz "
            "state_change:timestamptz wait_event_type:text wait_event:text state:text "
            "backend_xid:xid backend_xmin:xid query_id:int8 query:text backend_type:text"
        ),
        _activity_rows,
    ),
    "pg_settings": Relation(
        _columns(
            "name:text setting:text unit:text category:text short_desc:text extra_desc:text "
            "context:text vartype:text source:text min_val:text max_val:text enumvals:_text "
            "boot_val:text reset_val:text sourcefile:text sourceline:int4 pending_restart:bool"
        ),
        _settings_rows,
    ),
    "pg_roles": Relation(
        _columns(
            "rolname:name rolsuper:bool rolcanlogin:bool rolreplication:bool rolconnlimit:int4 "
            "oid:oid"
        ),
        _role_rows,
    ),
    "pg_database": Relation(
        _columns("oid:oid datname:name datistemplate:bool datallowconn:bool datconnlimit:int4"),
        _database_rows,
    ),
}
