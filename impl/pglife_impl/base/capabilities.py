"""What this server does, by the names that the conformance suite has for a target's capabilities.

`python -m pglife_impl.commands.postgres --capabilities` prints the names.
"""

CAPABILITIES = (
    "os_signals",
    "crash_injection",
    "process_titles",
    "pmstate_log",
    "io_workers",
    "logger",
    "pg_ctl",
    "control_file",
    "tcp",
    "protocol_3_2",
    "sql_functions",
    "startup_barrier",
)
