"""The pure parts of a session: transactions, interrupts, timers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglife_impl.protocol import SqlError
from pglife_impl.session.interrupts import RAISES, Interrupt, serve
from pglife_impl.session.protocol.portal import ends_failed_block
from pglife_impl.session.queries.tree import TransactionControl
from pglife_impl.session.timers import Timer, Timers
from pglife_impl.session.transaction import Block, Happening, Transaction, TransactionVerb

VERBS = {verb.name: verb for verb in TransactionVerb}
NO_TRANSACTION = "there is no transaction in progress"
ALREADY = "there is already a transaction in progress"

# block  verb  chain -> block  tag  effects  warning
CONTROL = """
    NONE      BEGIN     -      -> OPEN    BEGIN              -                   -
    NONE      START     -      -> OPEN    START_TRANSACTION  -                   -
    NONE      COMMIT    -      -> NONE    COMMIT             COMMITTED           none
    NONE      ROLLBACK  -      -> NONE    ROLLBACK           ABORTED             none
    IMPLICIT  BEGIN     -      -> OPEN    BEGIN              -                   -
    IMPLICIT  COMMIT    -      -> NONE    COMMIT             COMMITTED           none
    IMPLICIT  ROLLBACK  -      -> NONE    ROLLBACK           ABORTED             none
    OPEN      BEGIN     -      -> OPEN    BEGIN              -                   already
    OPEN      COMMIT    -      -> NONE    COMMIT             COMMITTED           -
    OPEN      COMMIT    chain  -> OPEN    COMMIT             COMMITTED,STARTED   -
    OPEN      ROLLBACK  -      -> NONE    ROLLBACK           ABORTED             -
    OPEN      ROLLBACK  chain  -> OPEN    ROLLBACK           ABORTED,STARTED     -
    FAILED    COMMIT    -      -> NONE    ROLLBACK           ABORTED             -
    FAILED    COMMIT    chain  -> OPEN    ROLLBACK           ABORTED,STARTED     -
    FAILED    ROLLBACK  -      -> NONE    ROLLBACK           ABORTED             -
"""
ROWS = [line.split() for line in CONTROL.strip().splitlines()]


@pytest.mark.parametrize("cells", ROWS, ids=lambda cells: "-".join(cells[:3]))
def test_transaction_statements_move_the_block(cells: list[str]) -> None:
    """Block, tag, effects and warning agree with PostgreSQL 18.6."""
    before, verb, chain, _, after, tag, happened, warned = cells
    transaction = Transaction(Block[before], in_progress=True)
    outcome = transaction.control(VERBS[verb], chain=chain == "chain")
    assert transaction.block is Block[after]
    assert outcome.tag == tag.replace("_", " ")
    names = ",".join(effect.happening.name for effect in outcome.effects)
    assert names == happened.removeprefix("-")
    text = outcome.notice.message if outcome.notice else ""
    assert text == {"-": "", "none": NO_TRANSACTION, "already": ALREADY}[warned]


@pytest.mark.parametrize("block", [Block.NONE, Block.IMPLICIT])
@pytest.mark.parametrize(
    ("verb", "chain"),
    [
        (TransactionVerb.SAVEPOINT, False),
        (TransactionVerb.RELEASE, False),
        (TransactionVerb.ROLLBACK_TO, False),
        (TransactionVerb.COMMIT, True),
    ],
)
def test_statements_of_a_block_are_refused_outside_of_one(
    block: Block, verb: TransactionVerb, chain: bool
) -> None:
    """The error is 25P01, and nothing changes."""
    transaction = Transaction(block, in_progress=True)
    with pytest.raises(SqlError, match="can only be used in transaction blocks") as caught:
        transaction.control(verb, "a", chain=chain)
    assert caught.value.report.sqlstate == "25P01"
    assert (transaction.block, transaction.in_progress) == (block, True)
    assert not transaction.savepoints


def test_savepoints_are_a_stack_and_the_newest_of_a_name_is_meant() -> None:
    """ROLLBACK TO keeps the savepoint, RELEASE removes it and all above."""
    transaction = Transaction(Block.OPEN, in_progress=True)
    for name in ("a", "b", "a", "c"):
        transaction.control(TransactionVerb.SAVEPOINT, name)
    transaction.block = Block.FAILED
    back = transaction.control(TransactionVerb.ROLLBACK_TO, "a")
    assert (back.effects[0].happening, back.effects[0].depth) == (Happening.ROLLED_BACK_TO, 3)
    assert transaction.savepoints == ["a", "b", "a"]
    assert transaction.block is Block.OPEN
    transaction.control(TransactionVerb.RELEASE, "b")
    assert transaction.savepoints == ["a"]
    with pytest.raises(SqlError, match='savepoint "b" does not exist'):
        transaction.control(TransactionVerb.ROLLBACK_TO, "b")


@pytest.mark.parametrize("verb", TransactionVerb)
def test_a_failed_block_accepts_only_statements_that_end_it(verb: TransactionVerb) -> None:
    """The set of postgres.c: IsTransactionExitStmt()."""
    ends = verb.name in ("COMMIT", "ROLLBACK", "ROLLBACK_TO")
    assert ends_failed_block(TransactionControl(verb, "a")) is ends


@given(
    st.lists(
        st.sampled_from([*TransactionVerb, "statement", "error", "end of string", "implicit"]),
        max_size=30,
    )
)
def test_every_transaction_that_begins_ends_exactly_once(
    events: list[TransactionVerb | str],
) -> None:
    """STARTED and COMMITTED or ABORTED alternate in every sequence of statements and errors."""
    transaction = Transaction()
    open_transactions = 0
    for event in events:
        try:
            if isinstance(event, TransactionVerb):
                effects = transaction.start_statement()
                effects += transaction.control(event, "a").effects
            elif event in ("statement", "implicit"):
                effects = transaction.start_statement(implicit_block=event == "implicit")
            elif event == "error":
                effects = transaction.fail()
            else:
                effects = transaction.finish()
        except SqlError:
            effects = ()
            if not open_transactions:
                open_transactions += 1
            effects += transaction.fail()
        for effect in effects:
            if effect.happening is Happening.STARTED:
                assert open_transactions == 0
                open_transactions += 1
            elif effect.happening in (Happening.COMMITTED, Happening.ABORTED):
                assert open_transactions == 1
                open_transactions -= 1
        assert transaction.in_progress == bool(open_transactions)
        assert transaction.in_progress or transaction.block is Block.NONE


ORDER = list(Interrupt)


@given(st.sets(st.sampled_from(ORDER)), st.booleans())
def test_the_most_urgent_interrupt_is_served_first(pending: set[Interrupt], reading: bool) -> None:
    """The order of SE-40; a cancel request of an idle session is dropped (SE-42)."""
    decision = serve(pending, reading_command=reading)
    effective = [i for i in ORDER if i in pending and not (reading and i is Interrupt.CANCEL)]
    if not effective:
        assert decision.raised is None
        assert decision.settled == frozenset(pending)
        return
    first = effective[0]
    assert decision.raised is not None
    assert decision.raised.report == RAISES[first]().report
    assert first in decision.settled
    assert all(
        ORDER.index(i) <= ORDER.index(first) or i is Interrupt.CANCEL for i in decision.settled
    )


@pytest.mark.parametrize(
    ("interrupt", "severity", "sqlstate", "text"),
    [
        (Interrupt.DIE, "FATAL", "57P01", "terminating connection due to administrator command"),
        (Interrupt.CLIENT_LOST, "FATAL", "08006", "connection to client lost"),
        (
            Interrupt.STATEMENT_TIMEOUT,
            "ERROR",
            "57014",
            "canceling statement due to statement timeout",
        ),
        (Interrupt.CANCEL, "ERROR", "57014", "canceling statement due to user request"),
        (
            Interrupt.IDLE_IN_TRANSACTION_TIMEOUT,
            "FATAL",
            "25P03",
            "terminating connection due to idle-in-transaction timeout",
        ),
        (
            Interrupt.TRANSACTION_TIMEOUT,
            "FATAL",
            "25P04",
            "terminating connection due to transaction timeout",
        ),
        (
            Interrupt.IDLE_SESSION_TIMEOUT,
            "FATAL",
            "57P05",
            "terminating connection due to idle-session timeout",
        ),
    ],
)
def test_each_interrupt_raises_its_error(
    interrupt: Interrupt, severity: str, sqlstate: str, text: str
) -> None:
    """Severity, SQLSTATE and text are PostgreSQL's."""
    report = RAISES[interrupt]().report
    assert (report.severity, report.sqlstate, report.message) == (severity, sqlstate, text)


def test_timers_expire_in_the_order_of_their_deadlines() -> None:
    """The earlier deadline is first (TO-13); a delay of 0 stops the timer."""
    now = 100.0
    timers = Timers(lambda: now)
    assert timers.remaining_s() is None
    timers.arm(Timer.TRANSACTION, 300)
    timers.arm(Timer.STATEMENT, 200)
    timers.arm(Timer.IDLE_SESSION, 0)
    assert timers.remaining_s() == pytest.approx(0.2)
    now = 100.25
    assert timers.take_expired() == [Timer.STATEMENT]
    assert timers.remaining_s() == pytest.approx(0.05)
    now = 101.0
    assert timers.remaining_s() == 0.0
    timers.arm(Timer.STATEMENT, 0)
    assert timers.take_expired() == [Timer.TRANSACTION]
    assert timers.remaining_s() is None
