"""The system views: pg_stat_activity, pg_settings, pg_roles, pg_database.

Begin with RELATIONS.
Source: catalog/system_views.sql; utils/adt/pgstatfuncs.c: pg_stat_get_activity().
"""

from __future__ import annotations

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


RELATIONS: dict[str, Relation] = {
    "pg_stat_activity": Relation(
        (
            ("datid", types.OID),
            ("datname", types.NAME),
            ("pid", types.INT4),
            ("leader_pid", types.INT4),
            ("usesysid", types.OID),
            ("usename", types.NAME),
            ("application_name", types.TEXT),
            ("client_addr", types.INET),
            ("client_hostname", types.TEXT),
            ("client_port", types.INT4),
            ("backend_start", types.TIMESTAMPTZ),
            ("xact_start", types.TIMESTAMPTZ),
            ("query_start", types.TIMESTAMPTZ),
            ("state_change", types.TIMESTAMPTZ),
            ("wait_event_type", types.TEXT),
            ("wait_event", types.TEXT),
            ("state", types.TEXT),
            ("backend_xid", types.XID),
            ("backend_xmin", types.XID),
            ("query_id", types.INT8),
            ("query", types.TEXT),
            ("backend_type", types.TEXT),
        ),
        _activity_rows,
    ),
    "pg_settings": Relation(
        (
            ("name", types.TEXT),
            ("setting", types.TEXT),
            ("unit", types.TEXT),
            ("category", types.TEXT),
            ("short_desc", types.TEXT),
            ("extra_desc", types.TEXT),
            ("context", types.TEXT),
            ("vartype", types.TEXT),
            ("source", types.TEXT),
            ("min_val", types.TEXT),
            ("max_val", types.TEXT),
            ("enumvals", types.TEXT_ARRAY),
            ("boot_val", types.TEXT),
            ("reset_val", types.TEXT),
            ("sourcefile", types.TEXT),
            ("sourceline", types.INT4),
            ("pending_restart", types.BOOL),
        ),
        _settings_rows,
    ),
    "pg_roles": Relation(
        (
            ("rolname", types.NAME),
            ("rolsuper", types.BOOL),
            ("rolcanlogin", types.BOOL),
            ("rolreplication", types.BOOL),
            ("rolconnlimit", types.INT4),
            ("oid", types.OID),
        ),
        _role_rows,
    ),
    "pg_database": Relation(
        (
            ("oid", types.OID),
            ("datname", types.NAME),
            ("datistemplate", types.BOOL),
            ("datallowconn", types.BOOL),
            ("datconnlimit", types.INT4),
        ),
        _database_rows,
    ),
}
