"""The PostgreSQL wire protocol, versions 3.0 to 3.2: bytes in, messages out, and no socket.

Begin with startup.py for the first packets, then frontend.py, then backend.py.
Source: PostgreSQL 18: tcop/backend_startup.c, tcop/postgres.c: SocketBackend(), libpq/pqformat.c,
utils/error/elog.c: send_message_to_frontend().
"""

from pglife_impl.protocol.backend import (
    TransactionStatus,
    authentication_ok,
    backend_key_data,
    error_protocol2,
    error_response,
    negotiate_protocol_version,
    notice_response,
    parameter_status,
    ready_for_query,
    startup_refusal,
)
from pglife_impl.protocol.report import Report, Severity, SqlError, SqlState
from pglife_impl.protocol.startup import (
    NEWEST_PROTOCOL,
    Replication,
    StartupKind,
    StartupPacket,
    cancel_key_length,
    incomplete_startup,
    parse_startup,
)

__all__ = [
    "NEWEST_PROTOCOL",
    "Replication",
    "Report",
    "Severity",
    "SqlError",
    "SqlState",
    "StartupKind",
    "StartupPacket",
    "TransactionStatus",
    "authentication_ok",
    "backend_key_data",
    "cancel_key_length",
    "error_protocol2",
    "error_response",
    "incomplete_startup",
    "negotiate_protocol_version",
    "notice_response",
    "parameter_status",
    "parse_startup",
    "ready_for_query",
    "startup_refusal",
]
