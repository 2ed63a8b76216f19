"""The loop of a session over a scripted client: messages, states, interrupts, ends."""

import pytest
from session_fakes import (
    OTHER_PID,
    OWN_PID,
    FakeContext,
    Happens,
    Says,
    cancel,
    client_vanishes,
    converse,
    die,
    postmaster_dies,
    row,
)

from pglife_impl.base.kinds import Kind
from pglife_impl.protocol.frontend import (
    Bind,
    Close,
    Describe,
    Execute,
    Flush,
    Message,
    Parse,
    Sync,
    Target,
    Terminate,
    encode,
)

CANCELED = ("ERROR", "57014", "canceling statement due to user request")
TERMINATED = ("FATAL", "57P01", "terminating connection due to administrator command")


def say(*messages: Message) -> Says:
    return Says(b"".join(encode(message) for message in messages))


def test_a_query_is_answered_and_the_session_is_ready_again() -> None:
    """SE-03, SE-04: T, D, C, Z; active, then idle."""
    heard = converse("select 1 as a, null")
    assert heard.letters == "ZTDCZ"
    assert heard.rows == [("1", None)]
    assert heard.status == "II"
    assert heard.context.states == ["idle", "active", "idle"]
    assert heard.context.titles == ["idle", "SELECT", "idle"]
    assert heard.code == 0


def test_terminate_and_end_of_file_both_end_with_0() -> None:
    """SE-44, SE-47."""
    assert converse(say(Terminate())).code == 0
    gone = converse("begin")
    assert gone.code == 0
    assert [line.message for line in gone.context.logged] == [
        "unexpected EOF on client connection with an open transaction"
    ]
    assert converse("select 1").context.logged == []


def test_an_unknown_message_ends_the_session() -> None:
    """SE-47."""
    heard = converse(Says(b"y\0\0\0\4"))
    assert heard.reports == [("FATAL", "08P01", "invalid frontend message type 121")]
    assert heard.code == 1


def test_an_impossible_length_ends_it_without_a_word() -> None:
    """pqcomm.c: pq_getmessage(): the stream is lost."""
    heard = converse(Says(b"Q\0\0\0\2"))
    assert heard.letters == "Z"
    assert heard.context.logged[0].message == "invalid message length"


def test_the_states_of_a_transaction() -> None:
    """SE-04..06, SE-10: state, title and byte go together."""
    heard = converse("begin", "select 1/0", "select 1", "rollback")
    assert heard.status == "ITEEI"
    waiting = [
        "idle",
        "idle in transaction",
        "idle in transaction (aborted)",
        "idle in transaction (aborted)",
        "idle",
    ]
    assert [state for state in heard.context.states if state != "active"] == waiting
    assert [title for title in heard.context.titles if title.startswith("idle")] == waiting
    assert [report[1] for report in heard.reports] == ["22012", "25P02"]


def test_xact_start_is_there_while_a_transaction_is() -> None:
    """pg_stat_activity.xact_start."""
    inside = converse("begin").context
    assert inside.columns["xact_start"] > 0
    outside = converse("begin", "commit").context
    assert outside.columns["xact_start"] == 0.0


def test_an_error_ends_a_string_of_statements() -> None:
    """What follows it is not run, and what went before is undone with it."""
    heard = converse("set application_name = 'a'; select 1/0; select 2", "show application_name")
    assert heard.tags == ["SET", "SHOW"]
    assert heard.rows == [("",)]


def test_a_cancel_ends_the_statement_only() -> None:
    """SE-31: 57014, then ready."""
    heard = converse("select pg_sleep(60)", Happens(cancel, after_s=1), "select 1")
    assert heard.reports == [CANCELED]
    assert heard.letters == "ZTEZTDCZ"
    assert heard.context.clock < 1_700_000_002
    assert heard.context.logged[0].statement == "select pg_sleep(60)"


@pytest.mark.parametrize("prelude", ["select 1", "begin"])
def test_a_cancel_of_a_waiting_session_is_forgotten(prelude: str) -> None:
    """SE-42: also in a transaction."""
    heard = converse(prelude, Happens(cancel), "select 2")
    assert heard.reports == []
    assert heard.tags[-1] == "SELECT 1"


def test_term_ends_a_waiting_session_at_once() -> None:
    """SE-20, SE-41."""
    heard = converse("select 1", Happens(die), "select 2")
    assert heard.reports == [TERMINATED]
    assert heard.letters.endswith("ZE")
    assert heard.code == 1
    assert heard.context.logged[0].level == "FATAL"


def test_term_ends_a_running_statement() -> None:
    """SE-20: no ERROR before it, no ReadyForQuery after it."""
    heard = converse("select pg_sleep(60)", Happens(die, after_s=1))
    assert heard.letters == "ZTE"
    assert heard.reports == [TERMINATED]
    assert heard.code == 1


def test_term_comes_before_cancel() -> None:
    """SE-40."""

    def both(context: FakeContext) -> None:
        cancel(context)
        die(context)

    assert converse("select pg_sleep(60)", Happens(both, after_s=1)).reports == [TERMINATED]


def test_the_postmasters_death_ends_a_waiting_session() -> None:
    """SE-28."""
    heard = converse("select 1", Happens(postmaster_dies))
    text = "terminating connection due to unexpected postmaster exit"
    assert heard.reports == [("FATAL", "57P01", text)]
    assert heard.code == 1


def test_the_postmasters_death_ends_a_sleep_without_a_word() -> None:
    """pg_sleep waits with WL_EXIT_ON_PM_DEATH, as 18.6 was seen to."""
    heard = converse("select pg_sleep(60)", Happens(postmaster_dies, after_s=1))
    assert heard.letters == "ZT"
    assert heard.code == 1


def test_statement_timeout() -> None:
    """TO-02: counted over the whole string, and gone with it."""
    heard = converse(
        "set statement_timeout = '1s'",
        "select pg_sleep(0.6); select pg_sleep(0.6)",
        "select pg_sleep(0.6)",
        "select pg_sleep(0.6)",
    )
    text = "canceling statement due to statement timeout"
    assert heard.reports == [("ERROR", "57014", text)]
    assert heard.tags == ["SET", "SELECT 1", "SELECT 1", "SELECT 1"]


def wait(seconds: float) -> Happens:
    return Happens(lambda context: None, after_s=seconds)


FATAL_TIMEOUTS = {
    "idle": (["set idle_session_timeout = '1s'"], "57P05", "idle-session timeout"),
    "idle in transaction": (
        ["set idle_in_transaction_session_timeout = '1s'", "begin"],
        "25P03",
        "idle-in-transaction timeout",
    ),
    "idle in failed transaction": (
        ["set idle_in_transaction_session_timeout = '1s'", "begin", "select 1/0"],
        "25P03",
        "idle-in-transaction timeout",
    ),
    "transaction": (["set transaction_timeout = '1s'", "begin"], "25P04", "transaction timeout"),
    "set within": (["begin", "set transaction_timeout = '1s'"], "25P04", "transaction timeout"),
    "transaction first": (
        [
            "set idle_in_transaction_session_timeout = '2s'",
            "set transaction_timeout = '1s'",
            "begin",
        ],
        "25P04",
        "transaction timeout",
    ),
}


@pytest.mark.parametrize("name", FATAL_TIMEOUTS)
def test_timeouts_that_end_a_session(name: str) -> None:
    """TO-04..06."""
    prelude, sqlstate, what = FATAL_TIMEOUTS[name]
    heard = converse(*prelude, wait(2), "select 1")
    assert heard.reports[-1] == ("FATAL", sqlstate, f"terminating connection due to {what}")
    assert heard.code == 1


@pytest.mark.parametrize(
    "prelude",
    [
        ["set idle_session_timeout = '1s'", "begin"],
        ["set idle_in_transaction_session_timeout = '1s'"],
        ["set transaction_timeout = '1s'"],
        ["set transaction_timeout = '1s'", "begin", "select 1/0"],
        ["begin", "set transaction_timeout = '1s'", "set transaction_timeout = 0"],
    ],
)
def test_timeouts_that_do_not_run(prelude: list[str]) -> None:
    """Each runs in its own state only; a failed block has lost its transaction's clock."""
    heard = converse(*prelude, wait(5), "rollback")
    assert heard.code == 0
    assert heard.tags[-1] == "ROLLBACK"


def test_a_client_that_vanishes_is_noticed_if_asked_for() -> None:
    """SE-45, TO-07."""
    gone = Happens(client_vanishes, after_s=0.5)
    heard = converse("set client_connection_check_interval = '1s'", "select pg_sleep(60)", gone)
    assert heard.reports == [("FATAL", "08006", "connection to client lost")]
    assert heard.context.clock < 1_700_000_010
    assert heard.code == 1
    patient = converse("select pg_sleep(60)", gone)
    assert patient.context.clock >= 1_700_000_060
    assert patient.code == 0


def test_a_client_that_cannot_be_written_to_ends_the_session() -> None:
    """pqcomm.c: internal_flush(): only the log hears of it."""

    def breaks(context: FakeContext) -> None:
        context.can_send = False

    heard = converse("select pg_sleep(2), 1", Happens(breaks, after_s=1))
    assert heard.code == 1
    assert heard.context.logged[-1].message == "connection to client lost"


def test_a_reload_is_served_between_commands() -> None:
    """SG-28."""

    def hup(context: FakeContext) -> None:
        context.interrupts.reload = True

    heard = converse("select pg_sleep(1)", Happens(hup, after_s=0.5), "select 1")
    assert heard.context.reloads == 1
    assert heard.reports == []


def test_changed_settings_are_told_before_ready() -> None:
    """ParameterStatus for reported settings, once, and again when a rollback undoes it."""
    heard = converse("begin; set application_name = 'a'", "rollback", "set work_mem = '8MB'")
    assert heard.letters == "ZCCSZCSZCZ"
    told = [body for code, body in heard.messages if code == "S"]
    assert told == [b"application_name\0a\0", b"application_name\0\0"]
    assert heard.context.columns["application_name"] == ""


def prepared(sql: str, *values: bytes | None) -> Says:
    return say(
        Parse("", sql), Bind("", "", (), values), Describe(Target.PORTAL, ""), Execute(""), Sync()
    )


def test_the_extended_protocol_answers_step_by_step() -> None:
    """1, 2, T, D, C, and Z at Sync only."""
    heard = converse(prepared("select $1::int + 1, $2", b"41", None))
    assert heard.letters == "Z12TDCZ"
    assert heard.rows == [("42", None)]


def test_after_an_error_everything_is_skipped_until_sync() -> None:
    """One ERROR, which constants meet when they are bound, and one ReadyForQuery."""
    heard = converse(prepared("select 1/0"), prepared("select 1"))
    assert heard.letters == "Z1EZ12TDCZ"


def test_between_parse_and_sync_a_session_is_active() -> None:
    """SE-09: no idle timeout runs there, and a cancel is forgotten."""
    heard = converse(
        "set idle_session_timeout = '1s'",
        say(Parse("a", "select 1")),
        Happens(cancel),
        wait(5),
        say(Sync()),
    )
    assert heard.reports == []
    assert heard.letters == "ZCZ1Z"
    assert heard.context.titles[-2:] == ["PARSE", "idle"]


def test_a_statement_timeout_also_runs_between_messages() -> None:
    """TO-02: from the first message until an Execute is done or Sync comes."""
    heard = converse(
        "set statement_timeout = '1s'", say(Parse("a", "select 1")), wait(2), say(Sync())
    )
    assert [report[1] for report in heard.reports] == ["57014"]


def test_a_portal_is_run_in_portions() -> None:
    """PortalSuspended while there may be more; the portal ends with its transaction."""
    bind = say(Parse("", "select g from generate_series(1, 3) g"), Bind("p", ""))
    two = say(Execute("p", 2))
    heard = converse(bind, two, two, say(Sync()), two, say(Sync()))
    assert heard.letters == "Z12DDsDCZEZ"
    assert heard.tags == ["SELECT 1"]
    assert heard.reports == [("ERROR", "34000", 'portal "p" does not exist')]


@pytest.mark.parametrize(
    ("message", "sqlstate"),
    [
        (Bind("", "nope"), "26000"),
        (Bind("", ""), "26000"),
        (Execute("nope"), "34000"),
        (Describe(Target.STATEMENT, "nope"), "26000"),
        (Describe(Target.PORTAL, "nope"), "34000"),
        (Parse("", "select 1; select 2"), "42601"),
        (Parse("", "selec"), "42601"),
    ],
    ids=repr,
)
def test_what_is_not_there_is_refused(message: Message, sqlstate: str) -> None:
    """The session goes on after Sync."""
    heard = converse(say(message, Sync()))
    assert heard.letters == "ZEZ"
    assert heard.reports[0][1] == sqlstate


def test_statements_live_until_closed_or_deallocated() -> None:
    """Close of what is not there is no error; DEALLOCATE of it is."""
    heard = converse(
        say(Parse("a", "select 1"), Parse("b", ""), Sync()),
        say(Parse("a", "select 1"), Sync()),
        say(Close(Target.STATEMENT, "a"), Close(Target.PORTAL, "zz"), Flush(), Sync()),
        "deallocate b",
        "deallocate b",
    )
    assert heard.letters == "Z11ZEZ33ZCZEZ"
    assert [report[1] for report in heard.reports] == ["42P05", "26000"]


def other(**fields: object) -> FakeContext:
    """A context in which another session runs."""
    context = FakeContext(**fields)  # type: ignore[arg-type]
    context.shmem.others = [
        row(OTHER_PID, Kind.BACKEND, user="postgres", database="postgres", superuser=True),
        row(99, Kind.CHECKPOINTER),
        row(98, Kind.AUTOVAC_LAUNCHER),
    ]
    return context


def test_backends_are_signalled_and_auxiliary_processes_are_not() -> None:
    """SE-43."""
    context = other()
    context.living |= {98, 99}
    heard = converse(
        f"select pg_cancel_backend({OTHER_PID}), pg_terminate_backend({OTHER_PID})",
        "select pg_terminate_backend(99), pg_terminate_backend(1), pg_terminate_backend(98)",
        context=context,
    )
    assert heard.rows == [("t", "t"), ("f", "f", "t")]
    assert context.signals == [(OTHER_PID, 2), (OTHER_PID, 15), (98, 15)]
    assert [report[2] for report in heard.reports] == [
        "PID 99 is not a PostgreSQL backend process",
        "PID 1 is not a PostgreSQL backend process",
    ]


@pytest.mark.parametrize(
    ("function", "noun"),
    [("pg_cancel_backend", "cancel query"), ("pg_terminate_backend", "terminate process")],
)
def test_a_superusers_session_is_out_of_reach_for_others(function: str, noun: str) -> None:
    """SE-43."""
    context = other(user="bob", authenticated_superuser=False)
    heard = converse(f"select {function}({OTHER_PID})", context=context)
    assert heard.reports == [("ERROR", "42501", f"permission denied to {noun}")]
    assert context.signals == []


def test_terminate_waits_as_long_as_it_is_told() -> None:
    """SE-43: WARNING and false if the process is still there, true as soon as it is gone."""
    stays = converse(f"select pg_terminate_backend({OTHER_PID}, 500)", context=other())
    text = f"backend with PID {OTHER_PID} did not terminate within 500 milliseconds"
    assert stays.reports == [("WARNING", "01000", text)]
    assert stays.rows == [("f",)]

    def leaves(context: FakeContext) -> None:
        context.living.clear()

    goes = converse(
        f"select pg_terminate_backend({OTHER_PID}, 5000)",
        Happens(leaves, after_s=0.05),
        context=other(),
    )
    assert goes.rows == [("t",)]
    assert goes.reports == []


def test_a_defect_of_ours_ends_a_statement_and_not_the_cluster() -> None:
    """An exception that left the process would be taken for a crash."""
    context = FakeContext()
    context.shmem.activities = None  # type: ignore[assignment]
    heard = converse("select * from pg_stat_activity", "select 1", context=context)
    assert heard.reports[0][:2] == ("ERROR", "XX000")
    assert heard.tags == ["SELECT 1"]


def test_the_own_row_is_in_pg_stat_activity() -> None:
    """SE-02, SE-03: background processes have no state."""
    heard = converse(
        "select pid, state, backend_type from pg_stat_activity order by pid", context=other()
    )
    assert heard.rows == [
        ("98", None, "autovacuum launcher"),
        ("99", None, "checkpointer"),
        (str(OWN_PID), "active", "client backend"),
        (str(OTHER_PID), None, "client backend"),
    ]


def test_checkpoint_asks_the_checkpointer() -> None:
    """PG-33; for superusers only."""
    assert converse("checkpoint").context.checkpoints == 1
    context = FakeContext(user="bob", authenticated_superuser=False)
    heard = converse("checkpoint", context=context)
    assert heard.reports[0][1] == "42501"
    assert context.checkpoints == 0
