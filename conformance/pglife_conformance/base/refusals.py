"""SQLSTATEs and texts of errors that scenarios compare with; each cites its rule.

Source: errcodes.txt.
"""

CANNOT_CONNECT_NOW = "57P03"
ADMIN_SHUTDOWN = "57P01"
CRASH_SHUTDOWN = "57P02"
QUERY_CANCELED = "57014"
TOO_MANY_CONNECTIONS = "53300"

SHUTTING_DOWN = "the database system is shutting down"
"""CN-01, SE-32"""
STARTING_UP = "the database system is starting up"
"""CN-02"""
IN_RECOVERY_MODE = "the database system is in recovery mode"
"""CN-04"""
TOO_MANY_CLIENTS = "sorry, too many clients already"
"""CN-30, CN-31"""
TERMINATED_BY_ADMINISTRATOR = "terminating connection due to administrator command"
"""SE-20"""
TERMINATED_BY_IMMEDIATE = "terminating connection due to immediate shutdown command"
"""SE-23"""
TERMINATED_BY_CRASH = "terminating connection because of crash of another server process"
"""SE-24"""
