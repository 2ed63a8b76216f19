"""Titles of sessions."""

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session

HEAD = "postgres: postgres postgres [local] "


def expect_title(cluster: Cluster, session: Session, activity: str) -> None:
    """The session's title shows this activity, sooner or later."""
    cluster.wait_for(
        f"the activity {activity!r}",
        lambda: session.child.title == HEAD + activity,
        describe=lambda: session.child.title,
    )
