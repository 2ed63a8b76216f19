"""Positions in the WAL."""

from pglife_conformance.cluster.session import Session


def place(session: Session) -> str:
    """The insert position at the end of the WAL."""
    ((found,),) = session.query("select pg_current_wal_insert_lsn()")
    assert found is not None
    return found
