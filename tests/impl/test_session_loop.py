"""The message loop with a scripted client: messages, states, interrupts, exit codes."""

import pytest
from session_fakes import (
    OTHER_PID,
    OWN_PID,
    FakeContext,
    Happens,
    Sends,
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


def sends(*messages: Message) -> Sends:
    return Sends(b"".join(encode(message) for message in messages))


def test_a_query_is_answered_and_the_session_is_ready_again() -> None:
    """The answer is T, D, C, Z; the session is active, then idle (SE-03, SE-04)."""
    result = converse("select 1 as a, null")
    assert result.letters == "ZTDCZ"
    assert result.rows == [("1", None)]
    assert result.status == "II"
    assert result.context.states == ["idle", "active", "idle"]
    assert result.context.titles == ["idle", "SELECT", "idle"]
    assert result.code == 0


def test_terminate_and_end_of_file_end_the_session_with_0() -> None:
    """Only a lost transaction is logged (SE-44, SE-47)."""
    assert converse(sends(Terminate())).code == 0
    gone = converse("begin")
    assert gone.code == 0
    assert [report.message for report, _ in gone.context.logged] == [
        "unexpected EOF on client connection with an open transaction"
    ]
    assert converse("select 1").context.logged == []


def test_an_unknown_message_ends_the_session() -> None:
    """The error is FATAL 08P01 (SE-47)."""
    result = converse(Sends(b"y\0\0\0\4"))
    assert result.reports == [("FATAL", "08P01", "invalid frontend message type 121")]
    assert result.code == 1


def test_an_impossible_length_ends_the_session_silently() -> None:
    """The stream is out of step, so only the log gets a line (pqcomm.c: pq_getmessage())."""
    result = converse(Sends(b"Q\0\0\0\2"))
    assert result.letters == "Z"
    assert result.context.logged[0][0].message == "invalid message length"


def test_state_title_and_status_byte_follow_the_transaction() -> None:
    """Idle, in transaction, aborted (SE-04..06, SE-10)."""
    result = converse("begin", "select 1/0", "select 1", "rollback")
    assert result.status == "ITEEI"
    waiting = [
        "idle",
        "idle in transaction",
        "idle in transaction (aborted)",
        "idle in transaction (aborted)",
        "idle",
    ]
    assert [state for state in result.context.states if state != "active"] == waiting
    assert [title for title in result.context.titles if title.startswith("idle")] == waiting
    assert [report[1] for report in result.reports] == ["22012", "25P02"]


def test_xact_start_is_set_during_a_transaction() -> None:
    """pg_stat_activity.xact_start is null again after COMMIT."""
    inside = converse("begin").context
    assert inside.columns["xact_start"] > 0
    outside = converse("begin", "commit").context
    assert outside.columns["xact_start"] == 0.0


def test_an_error_ends_a_string_of_statements() -> None:
    """Later statements do not run, and earlier ones are rolled back."""
    result = converse("set application_name = 'a'; select 1/0; select 2", "show application_name")
    assert result.tags == ["SET", "SHOW"]
    assert result.rows == [("",)]


def test_a_cancel_ends_only_the_statement() -> None:
    """The session answers 57014 and is ready again (SE-31)."""
    result = converse("select pg_sleep(60)", Happens(cancel, after_s=1), "select 1")
    assert result.reports == [CANCELED]
    assert result.letters == "ZTEZTDCZ"
    assert result.context.clock < 1_700_000_002
    assert result.context.logged[0][1] == "select pg_sleep(60)"


@pytest.mark.parametrize("prelude", ["select 1", "begin"])
def test_a_cancel_of_an_idle_session_is_dropped(prelude: str) -> None:
    """The next statement runs, in a transaction too (SE-42)."""
    result = converse(prelude, Happens(cancel), "select 2")
    assert result.reports == []
    assert result.tags[-1] == "SELECT 1"


def test_sigterm_ends_an_idle_session_at_once() -> None:
    """FATAL 57P01 and exit 1 (SE-20, SE-41)."""
    result = converse("select 1", Happens(die), "select 2")
    assert result.reports == [TERMINATED]
    assert result.letters.endswith("ZE")
    assert result.code == 1
    assert result.context.logged[0][0].severity == "FATAL"


def test_sigterm_ends_a_running_statement() -> None:
    """FATAL is the only error, and no ReadyForQuery follows (SE-20)."""
    result = converse("select pg_sleep(60)", Happens(die, after_s=1))
    assert result.letters == "ZTE"
    assert result.reports == [TERMINATED]
    assert result.code == 1


def test_sigterm_is_served_before_a_cancel() -> None:
    """Both are pending; only FATAL 57P01 is sent (SE-40)."""

    def both(context: FakeContext) -> None:
        cancel(context)
        die(context)

    assert converse("select pg_sleep(60)", Happens(both, after_s=1)).reports == [TERMINATED]


def test_the_postmasters_death_ends_an_idle_session() -> None:
    """FATAL 57P01 with its own text (SE-28)."""
    result = converse("select 1", Happens(postmaster_dies))
    text = "terminating connection due to unexpected postmaster exit"
    assert result.reports == [("FATAL", "57P01", text)]
    assert result.code == 1


def test_the_postmasters_death_ends_a_sleep_silently() -> None:
    """pg_sleep waits with WL_EXIT_ON_PM_DEATH, as observed in 18.6."""
    result = converse("select pg_sleep(60)", Happens(postmaster_dies, after_s=1))
    assert result.letters == "ZT"
    assert result.code == 1


def test_the_statement_timeout_covers_a_whole_string() -> None:
    """It starts with the string and stops with it (TO-02)."""
    result = converse(
        "set statement_timeout = '1s'",
        "select pg_sleep(0.6); select pg_sleep(0.6)",
        "select pg_sleep(0.6)",
        "select pg_sleep(0.6)",
    )
    text = "canceling statement due to statement timeout"
    assert result.reports == [("ERROR", "57014", text)]
    assert result.tags == ["SET", "SELECT 1", "SELECT 1", "SELECT 1"]


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
def test_an_expired_timeout_ends_the_session(name: str) -> None:
    """FATAL with the SQLSTATE of the timeout (TO-04..06)."""
    prelude, sqlstate, what = FATAL_TIMEOUTS[name]
    result = converse(*prelude, wait(2), "select 1")
    assert result.reports[-1] == ("FATAL", sqlstate, f"terminating connection due to {what}")
    assert result.code == 1


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
def test_a_timeout_does_not_run_in_other_states(prelude: list[str]) -> None:
    """Each runs in its own state; the ERROR that failed a block stopped transaction_timeout."""
    result = converse(*prelude, wait(5), "rollback")
    assert result.code == 0
    assert result.tags[-1] == "ROLLBACK"


def test_client_connection_check_interval_finds_a_lost_client() -> None:
    """FATAL 08006 within the interval; without it the statement runs on (SE-45, TO-07)."""
    gone = Happens(client_vanishes, after_s=0.5)
    result = converse("set client_connection_check_interval = '1s'", "select pg_sleep(60)", gone)
    assert result.reports == [("FATAL", "08006", "connection to client lost")]
    assert result.context.clock < 1_700_000_010
    assert result.code == 1
    unchecked = converse("select pg_sleep(60)", gone)
    assert unchecked.context.clock >= 1_700_000_060
    assert unchecked.code == 0


def test_a_client_that_cannot_be_written_to_ends_the_session() -> None:
    """The loss is logged (pqcomm.c: internal_flush())."""

    def breaks(context: FakeContext) -> None:
        context.can_send = False

    result = converse("select pg_sleep(2), 1", Happens(breaks, after_s=1))
    assert result.code == 1
    assert result.context.logged[-1][0].message == "connection to client lost"


def test_a_reload_is_served_between_commands() -> None:
    """SIGHUP does not interrupt the statement (SG-28)."""

    def hup(context: FakeContext) -> None:
        context.interrupts.reload = True

    result = converse("select pg_sleep(1)", Happens(hup, after_s=0.5), "select 1")
    assert result.context.conf_load_time > result.context.start_time
    assert result.reports == []


def test_changed_settings_are_reported_before_ready() -> None:
    """ParameterStatus is sent once for a change, and again when a rollback undoes it."""
    result = converse("begin; set application_name = 'a'", "rollback", "set work_mem = '8MB'")
    assert result.letters == "ZCCSZCSZCZ"
    statuses = [body for code, body in result.messages if code == "S"]
    assert statuses == [b"application_name\0a\0", b"application_name\0\0"]
    assert result.context.columns["application_name"] == ""


def prepared(sql: str, *values: bytes | None) -> Sends:
    return sends(
        Parse("", sql), Bind("", "", (), values), Describe(Target.PORTAL, ""), Execute(""), Sync()
    )


def test_the_extended_protocol_answers_step_by_step() -> None:
    """The answers are 1, 2, T, D, C, and Z at Sync only."""
    result = converse(prepared("select $1::int + 1, $2", b"41", None))
    assert result.letters == "Z12TDCZ"
    assert result.rows == [("42", None)]


def test_after_an_error_everything_is_skipped_until_sync() -> None:
    """Bind evaluates the constant: one ERROR, then one ReadyForQuery."""
    result = converse(prepared("select 1/0"), prepared("select 1"))
    assert result.letters == "Z1EZ12TDCZ"


def test_between_parse_and_sync_a_session_is_active() -> None:
    """No idle timeout runs, and a cancel request is dropped (SE-09)."""
    result = converse(
        "set idle_session_timeout = '1s'",
        sends(Parse("a", "select 1")),
        Happens(cancel),
        wait(5),
        sends(Sync()),
    )
    assert result.reports == []
    assert result.letters == "ZCZ1Z"
    assert result.context.titles[-2:] == ["PARSE", "idle"]


def test_a_statement_timeout_also_runs_between_messages() -> None:
    """It runs from the first message to the end of Execute or to Sync (TO-02)."""
    result = converse(
        "set statement_timeout = '1s'", sends(Parse("a", "select 1")), wait(2), sends(Sync())
    )
    assert [report[1] for report in result.reports] == ["57014"]


def test_a_portal_can_be_executed_in_portions() -> None:
    """PortalSuspended while rows may remain; the portal ends with its transaction."""
    bind = sends(Parse("", "select g from generate_series(1, 3) g"), Bind("p", ""))
    two = sends(Execute("p", 2))
    result = converse(bind, two, two, sends(Sync()), two, sends(Sync()))
    assert result.letters == "Z12DDsDCZEZ"
    assert result.tags == ["SELECT 1"]
    assert result.reports == [("ERROR", "34000", 'portal "p" does not exist')]


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
def test_a_missing_statement_or_portal_is_an_error(message: Message, sqlstate: str) -> None:
    """The session is ready again after Sync."""
    result = converse(sends(message, Sync()))
    assert result.letters == "ZEZ"
    assert result.reports[0][1] == sqlstate


def test_statements_live_until_closed_or_deallocated() -> None:
    """Close of a missing statement succeeds; DEALLOCATE of one fails."""
    result = converse(
        sends(Parse("a", "select 1"), Parse("b", ""), Sync()),
        sends(Parse("a", "select 1"), Sync()),
        sends(Close(Target.STATEMENT, "a"), Close(Target.PORTAL, "zz"), Flush(), Sync()),
        "deallocate b",
        "deallocate b",
    )
    assert result.letters == "Z11ZEZ33ZCZEZ"
    assert [report[1] for report in result.reports] == ["42P05", "26000"]


def other(**fields: object) -> FakeContext:
    """A context with another session, a checkpointer and an autovacuum launcher."""
    context = FakeContext(**fields)  # type: ignore[arg-type]
    context.others = [
        row(OTHER_PID, Kind.BACKEND, user="postgres", database="postgres", superuser=True),
        row(99, Kind.CHECKPOINTER),
        row(98, Kind.AUTOVAC_LAUNCHER),
    ]
    return context


def test_backends_are_signalled_and_auxiliary_processes_are_not() -> None:
    """An auxiliary process is no backend to pg_cancel_backend (SE-43)."""
    context = other()
    context.living |= {98, 99}
    result = converse(
        f"select pg_cancel_backend({OTHER_PID}), pg_terminate_backend({OTHER_PID})",
        "select pg_terminate_backend(99), pg_terminate_backend(1), pg_terminate_backend(98)",
        context=context,
    )
    assert result.rows == [("t", "t"), ("f", "f", "t")]
    assert context.signals == [(OTHER_PID, 2), (OTHER_PID, 15), (98, 15)]
    assert [report[2] for report in result.reports] == [
        "PID 99 is not a PostgreSQL backend process",
        "PID 1 is not a PostgreSQL backend process",
    ]


@pytest.mark.parametrize(
    ("function", "noun"),
    [("pg_cancel_backend", "cancel query"), ("pg_terminate_backend", "terminate process")],
)
def test_only_a_superuser_may_signal_a_superusers_session(function: str, noun: str) -> None:
    """The error is 42501, and no signal is sent (SE-43)."""
    context = other(user="bob", superuser=False)
    result = converse(f"select {function}({OTHER_PID})", context=context)
    assert result.reports == [("ERROR", "42501", f"permission denied to {noun}")]
    assert context.signals == []


def test_pg_terminate_backend_waits_for_its_timeout() -> None:
    """WARNING and false after the timeout, true as soon as the process exits (SE-43)."""
    timed_out = converse(f"select pg_terminate_backend({OTHER_PID}, 500)", context=other())
    text = f"backend with PID {OTHER_PID} did not terminate within 500 milliseconds"
    assert timed_out.reports == [("WARNING", "01000", text)]
    assert timed_out.rows == [("f",)]

    def exits(context: FakeContext) -> None:
        context.living.clear()

    ended = converse(
        f"select pg_terminate_backend({OTHER_PID}, 5000)",
        Happens(exits, after_s=0.05),
        context=other(),
    )
    assert ended.rows == [("t",)]
    assert ended.reports == []


def test_an_internal_error_ends_only_the_statement() -> None:
    """An exception that ended the process would be a crash to the postmaster."""
    context = FakeContext()
    context.activities = None  # type: ignore[method-assign, assignment]
    result = converse("select * from pg_stat_activity", "select 1", context=context)
    assert result.reports[0][:2] == ("ERROR", "XX000")
    assert result.tags == ["SELECT 1"]


def test_pg_stat_activity_includes_the_session_itself() -> None:
    """The session is active; background processes have no state (SE-02, SE-03)."""
    result = converse(
        "select pid, state, backend_type from pg_stat_activity order by pid", context=other()
    )
    assert result.rows == [
        ("98", None, "autovacuum launcher"),
        ("99", None, "checkpointer"),
        (str(OWN_PID), "active", "client backend"),
        (str(OTHER_PID), None, "client backend"),
    ]


def test_checkpoint_requests_a_checkpoint_for_superusers_only() -> None:
    """Other roles get 42501 (PG-33)."""
    assert converse("checkpoint").context.checkpoints == 1
    context = FakeContext(user="bob", superuser=False)
    result = converse("checkpoint", context=context)
    assert result.reports[0][1] == "42501"
    assert context.checkpoints == 0
