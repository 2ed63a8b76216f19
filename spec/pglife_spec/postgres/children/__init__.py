"""What children do by themselves: recover, write the shutdown checkpoint, exit at a signal.

Crashes and the operator's signals are in `actions/faults.py`.
"""

from pglife_spec.postgres.children import (
    after_wal,
    autovacuum,
    checkpointer,
    exits,
    replication,
    standby,
    startup,
    workers,
)

ACTIONS = [
    *startup.ACTIONS,
    *standby.ACTIONS,
    *replication.ACTIONS,
    *checkpointer.ACTIONS,
    *exits.ACTIONS,
    *after_wal.ACTIONS,
    *workers.ACTIONS,
    *autovacuum.ACTIONS,
]

__all__ = ["ACTIONS"]
