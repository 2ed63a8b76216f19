"""What a scenario may need of a target: the one registry of capabilities.

Begin with Need; NEEDS has the reason and the rule of each. A target declares what it has
(targets/); a report counts what was left out for lack of it.
"""

from dataclasses import dataclass
from enum import StrEnum


class Need(StrEnum):
    """A capability of a target."""

    OS_SIGNALS = "os_signals"
    CRASH_INJECTION = "crash_injection"
    PROCESS_TITLES = "process_titles"
    PMSTATE_LOG = "pmstate_log"
    SIGNAL_LOG = "signal_log"
    IO_WORKERS = "io_workers"
    LOGGER = "logger"
    ARCHIVER = "archiver"
    WALSENDER = "walsender"
    STANDBY = "standby"
    WALSUMMARIZER = "walsummarizer"
    PG_CTL = "pg_ctl"
    PG_CTL_ANY_PROGRAM = "pg_ctl_any_program"
    SINGLE_USER = "single_user"
    DATA_DIRECTORY_CHECKS = "data_directory_checks"
    CONTROL_FILE = "control_file"
    PG_CONTROLDATA = "pg_controldata"
    PASSWORD = "password"
    TCP = "tcp"
    PROTOCOL_3_2 = "protocol_3_2"
    EXTENDED_QUERY = "extended_query"
    SQL_FUNCTIONS = "sql_functions"
    ROLES = "roles"
    FULL_SQL = "full_sql"
    AUTOVACUUM_WORKER = "autovacuum_worker"
    RESTORE_COMMAND = "restore_command"
    STARTUP_BARRIER = "startup_barrier"
    PG_PREWARM = "pg_prewarm"
    SYSV_SHM = "sysv_shm"
    COUNTED_PROCESSES = "counted_processes"
    CONTAINERS = "containers"


@dataclass(frozen=True)
class NeedFacts:
    """What the target can do that has it, and the rule or chapter that is about it."""

    reason: str
    reference: str


NEEDS: dict[Need, NeedFacts] = {
    Need.OS_SIGNALS: NeedFacts("children are processes that one can signal", "PR-26"),
    Need.CRASH_INJECTION: NeedFacts("a child can be killed with SIGKILL", "CR-02"),
    Need.PROCESS_TITLES: NeedFacts("children show PostgreSQL's titles", "TI-01"),
    Need.PMSTATE_LOG: NeedFacts("each step of pmState is logged at DEBUG1", "PM-01"),
    Need.SIGNAL_LOG: NeedFacts(
        "at debug3 the log shows each signal that the postmaster sends", "PR-26"
    ),
    Need.IO_WORKERS: NeedFacts("io_method = worker has io worker processes", "IO-01"),
    Need.LOGGER: NeedFacts("logging_collector starts a logger", "LG-01"),
    Need.ARCHIVER: NeedFacts("archive_mode starts an archiver", "PR-07"),
    Need.WALSENDER: NeedFacts("a client may ask for replication", "PR-18"),
    Need.STANDBY: NeedFacts("standby.signal makes a standby", "RC-05"),
    Need.WALSUMMARIZER: NeedFacts("summarize_wal starts a walsummarizer", "WS-02"),
    Need.PG_CTL: NeedFacts("pg_ctl with PostgreSQL's words and exit codes", "CT-01"),
    Need.PG_CTL_ANY_PROGRAM: NeedFacts(
        "pg_ctl -p starts any program, pg_ctl init too; a directory may have configuration alone",
        "CT-20",
    ),
    Need.DATA_DIRECTORY_CHECKS: NeedFacts(
        "data_directory is obeyed; owner, mode and PG_VERSION are checked and reported in detail",
        "ST-01",
    ),
    Need.SINGLE_USER: NeedFacts("postgres --single serves its own terminal", "SH-43"),
    Need.CONTROL_FILE: NeedFacts("the control file has the cluster state", "CT-20"),
    Need.PG_CONTROLDATA: NeedFacts("pg_controldata prints the last checkpoint", "CT-20"),
    Need.PASSWORD: NeedFacts("pg_hba.conf may ask a client for a password", "SG-29"),
    Need.TCP: NeedFacts("listen_addresses opens TCP sockets", "ST-06"),
    Need.PROTOCOL_3_2: NeedFacts("protocol 3.2 with cancel keys of 32 bytes", "CN-45"),
    Need.EXTENDED_QUERY: NeedFacts("Parse, Bind, Execute", "SE-09"),
    Need.SQL_FUNCTIONS: NeedFacts(
        "pg_sleep, pg_terminate_backend, pg_cancel_backend and similar functions", "SE-43"
    ),
    Need.ROLES: NeedFacts("roles and databases can have limits of their own", "CN-33"),
    Need.FULL_SQL: NeedFacts("tables, and a query long enough to be caught", "SE-09"),
    Need.AUTOVACUUM_WORKER: NeedFacts("autovacuum workers are started", "AV-01"),
    Need.RESTORE_COMMAND: NeedFacts("archive recovery with a restore_command", "OB-01"),
    Need.STARTUP_BARRIER: NeedFacts("the startup process reads pg_logical's origins", "OB-01"),
    Need.PG_PREWARM: NeedFacts("a library registers background workers of its own", "PR-13"),
    Need.SYSV_SHM: NeedFacts("a System V segment guards the data directory", "SH-45"),
    Need.COUNTED_PROCESSES: NeedFacts(
        "a limit of processes counts one server's alone: root, or user namespaces", "OB-13"
    ),
    Need.CONTAINERS: NeedFacts(
        "unshare(1) runs a server in pid and IPC namespaces of its own: root, or user namespaces",
        "SH-44",
    ),
}

SIGNALS = (Need.OS_SIGNALS, Need.PROCESS_TITLES)
"""What the commonest scenarios need."""
CRASH = (*SIGNALS, Need.CRASH_INJECTION)
SQL = (*SIGNALS, Need.FULL_SQL)
