"""A server with every background process, and how often each process has run."""

from pathlib import Path

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster

ARCHIVING = {"archive_mode": "on", "archive_command": "true"}


def start_with_all_processes(cluster: Cluster, **more: object) -> None:
    """Start a server with every background process that a primary may have."""
    cluster.configure(logging_collector="on", **ARCHIVING, **more)
    if Need.WALSUMMARIZER in cluster.target.capabilities:
        cluster.configure(summarize_wal="on")
    cluster.start()


def run_counts(pid: Pid) -> tuple[int, int]:
    """How often the process has slept, and its processor time in ticks."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0, 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines["voluntary_ctxt_switches"]), int(stat[11]) + int(stat[12])
