"""Transaction ids that are used up, for what happens when they run out."""

from pglife_conformance.cluster.session import Session

USE_UP_LIMIT_S = 200.0
"""For a hundred thousand; two seconds of pure work."""


def use_up_xids(session: Session, count: int) -> None:
    """Use up this many transaction ids, each for a row of a table."""
    session.query("create table if not exists burnt(number int)")
    session.query(
        f"do $$ begin for i in 1..{count} loop begin insert into burnt values (i); "
        "exception when others then null; end; end loop; end $$",
        USE_UP_LIMIT_S,
    )
