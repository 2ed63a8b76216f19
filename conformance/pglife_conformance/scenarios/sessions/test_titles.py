"""Titles of sessions, their pg_stat_activity rows, and the status in ReadyForQuery."""

from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.client import Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.support.titles import expect_title

MAIN = "tcop/postgres.c: PostgresMain()"
HEAD = "postgres: postgres postgres [local] "
IN_FAILED_TRANSACTION = "25P02"
UNDEFINED_OBJECT = "42704"


@claim("TI-32 SE-03", source=MAIN, needs=[*SQL, Need.EXTENDED_QUERY])
def test_title_names_the_message_that_waits_for_a_lock(cluster: Cluster) -> None:
    """The title of a session that waits for a lock is its command, PARSE or BIND, and "waiting"."""
    holder = cluster.session()
    holder.query("create table held(a int)")
    waiter = cluster.session()
    parse = b"s\0select a from held\0\0\0"
    waiter.client.send_message(b"P", parse)
    waiter.client.send_message(b"S")
    while (answer := waiter.receive()) is not None and answer.tag is not Tag.READY_FOR_QUERY:
        assert answer.tag is Tag.PARSE_COMPLETE
    messages = {
        "SELECT": [(b"Q", b"select a from held\0")],
        "LOCK TABLE": [(b"Q", b"begin; lock table held; rollback\0")],
        "PARSE": [(b"P", b"\0select a from held\0\0\0"), (b"S", b"")],
        "BIND": [(b"B", b"\0s\0\0\0\0\0\0\0"), (b"S", b"")],
    }
    for activity, sent in messages.items():
        holder.query("begin; lock table held")
        for tag, body in sent:
            waiter.client.send_message(tag, body)
        expect_title(cluster, waiter, f"{activity} waiting")
        assert waiter.is_silent()
        holder.query("rollback")
        answers = []
        while (answer := waiter.receive()) is not None:
            answers.append(answer.tag)
            if answer.tag is Tag.READY_FOR_QUERY:
                break
        assert Tag.ERROR not in answers
        expect_title(cluster, waiter, "idle")


@claim("SE-08", source="backend_status.c: pgstat_report_activity()", needs=SQL)
def test_session_that_does_not_track_activities(cluster: Cluster) -> None:
    """With track_activities off pg_stat_activity says "disabled"; the title still changes."""
    with cluster.session() as session, cluster.session() as observer:
        asked = f"select state, query from pg_stat_activity where pid = {session.backend_pid}"
        assert observer.query(asked)[0][0] == "idle"
        session.query("set track_activities = off")
        session.query("begin")
        assert observer.query(asked) == [("disabled", "")]
        expect_title(cluster, session, "idle in transaction")
        session.query("rollback; set track_activities = on")
        session.query("begin")
        assert observer.query(asked) == [("idle in transaction", "begin")]


@claim("SE-10", source=MAIN)
def test_ready_for_query_has_the_transaction_status(cluster: Cluster) -> None:
    """ReadyForQuery says I without a transaction, T in a good one, E in a failed one."""
    with cluster.session() as session:
        statuses, errors = [session.client.transaction_status], []
        for sql in ("begin", "show does_not_exist", "select 1", "rollback", "select 1"):
            try:
                session.query(sql)
            except ServerError as error:
                errors.append(error.sqlstate)
            statuses.append(session.client.transaction_status)
    assert statuses == ["I", "T", "E", "E", "I", "I"]
    assert errors == [UNDEFINED_OBJECT, IN_FAILED_TRANSACTION]
