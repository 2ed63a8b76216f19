"""The background writer lets go of files that have been dropped.

Source       rules BW-01, CK-01; bgwriter.c: BackgroundWriterMain(); checkpointer.c:
             FirstCallSinceLastCheckpoint().
"""

from __future__ import annotations

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.admission.test_sockets import files_of


@claim(
    "BW-01",
    "CK-01",
    source="checkpointer.c: FirstCallSinceLastCheckpoint()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL],
)
@settings(shared_buffers="1MB", bgwriter_delay="10ms", bgwriter_lru_multiplier="10")
def test_dropped_file_is_not_kept_open_after_a_checkpoint(cluster: Cluster) -> None:
    """A file that the background writer has written to, dropped, is gone with a checkpoint."""
    writer = cluster.child(Kind.BACKGROUND_WRITER)
    with cluster.session() as session:
        for _ in range(2):
            session.query("create table something(a int)")
            ((path,),) = session.query("select pg_relation_filepath('something')")
            assert path is not None
            file = str((cluster.data / path).resolve())

            def is_open(file: str = file) -> bool:
                session.query("insert into something select generate_series(1, 20000)")
                return file in files_of(writer.pid)

            cluster.wait_for("a background writer that writes to the table", is_open)
            session.query("drop table something")
            session.query("checkpoint")
            cluster.wait_for(
                "no file of the table held open",
                lambda file=file: (
                    not any(  # type: ignore[misc]
                        name.startswith(file) for name in files_of(writer.pid)
                    )
                ),
            )
