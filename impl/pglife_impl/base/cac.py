"""The postmaster's answer to a new connection.

Source: tcop/backend_startup.h: CAC_state; rules CN-01..07.
"""

from enum import IntEnum


class Cac(IntEnum):
    """canAcceptConnections(): a session, or the reason why a dead-end child refuses the client."""

    OK = 0
    STARTUP = 1
    SHUTDOWN = 2
    RECOVERY = 3
    NOT_HOT_STANDBY = 4
    TOO_MANY = 5
