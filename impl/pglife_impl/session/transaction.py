"""A session's transaction as a pure state machine.

Begin with Transaction, then control(). The effects that it returns are applied by xact_commands.py.
Source: access/transam/xact.c: BeginTransactionBlock(), EndTransactionBlock(),
UserAbortTransactionBlock(), BeginImplicitTransactionBlock(), DefineSavepoint().
"""

from enum import Enum, auto

from pglife_impl.base.record import Record
from pglife_impl.protocol import Report, SqlState, TransactionStatus
from pglife_impl.protocol.report import SqlError, error, warning


class TransactionVerb(Enum):
    """The transaction statements; the value is the command tag."""

    BEGIN = "BEGIN"
    START = "START TRANSACTION"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"
    SAVEPOINT = "SAVEPOINT"
    RELEASE = "RELEASE"
    ROLLBACK_TO = "ROLLBACK TO"


class Block(Enum):
    """The kind of block that is open. IMPLICIT: a query string of several statements."""

    NONE = auto()
    IMPLICIT = auto()
    OPEN = auto()
    FAILED = auto()


class Happening(Enum):
    """A change of a transaction or savepoint."""

    STARTED = auto()
    COMMITTED = auto()
    ABORTED = auto()
    SAVEPOINT_DEFINED = auto()
    ROLLED_BACK_TO = auto()
    RELEASED = auto()


class Effect(Record):
    """One change; `depth` is the number of its savepoint."""

    happening: Happening
    depth: int = 0


class Outcome(Record):
    """The result of a transaction statement: command tag, effects, warning."""

    tag: str
    effects: tuple[Effect, ...] = ()
    notice: Report | None = None


STARTED = Effect(Happening.STARTED)
COMMITTED = Effect(Happening.COMMITTED)
ABORTED = Effect(Happening.ABORTED)


class Transaction:
    """The transaction of one session."""

    def __init__(self, block: Block = Block.NONE, *, in_progress: bool = False) -> None:
        self.block = block
        self.in_progress = in_progress
        self.savepoints: list[str] = []

    @property
    def status(self) -> TransactionStatus:
        """The byte of ReadyForQuery (SE-10)."""
        if self.block is Block.FAILED:
            return TransactionStatus.FAILED
        return TransactionStatus.IN_BLOCK if self.block is Block.OPEN else TransactionStatus.IDLE

    def start_statement(self, *, implicit_block: bool = False) -> tuple[Effect, ...]:
        """Start a transaction for a statement, unless there is one."""
        effects = () if self.in_progress else (STARTED,)
        self.in_progress = True
        if implicit_block and self.block is Block.NONE:
            self.block = Block.IMPLICIT
        return effects

    def finish(self) -> tuple[Effect, ...]:
        """Commit after the last statement, unless a block is open."""
        if not self.in_progress or self.block in (Block.OPEN, Block.FAILED):
            return ()
        return self._end(COMMITTED)

    def fail(self) -> tuple[Effect, ...]:
        """After an ERROR: mark an open block as failed, or abort the transaction."""
        if self.block in (Block.OPEN, Block.FAILED):
            self.block = Block.FAILED
            return ()
        return self._end(ABORTED) if self.in_progress else ()

    def _end(self, effect: Effect) -> tuple[Effect, ...]:
        self.block = Block.NONE
        self.in_progress = False
        self.savepoints.clear()
        return (effect,)

    def forbid_in_block(self, what: str) -> None:
        """SqlError 25001 inside a block, implicit or not."""
        if self.block is not Block.NONE:
            raise error(
                SqlState.ACTIVE_SQL_TRANSACTION, f"{what} cannot run inside a transaction block"
            )

    def outside_block(self, what: str) -> Report | None:
        """Return the warning for a statement that has no effect outside a block, else None."""
        if self.block is not Block.NONE:
            return None
        message = f"{what} can only be used in transaction blocks"
        return warning(SqlState.NO_ACTIVE_SQL_TRANSACTION, message)

    def control(
        self, verb: TransactionVerb, savepoint: str = "", *, chain: bool = False
    ) -> Outcome:
        """Run a transaction statement; SqlError if it is not allowed in this state."""
        match verb:
            case TransactionVerb.BEGIN | TransactionVerb.START:
                return self._begin(verb.value)
            case TransactionVerb.COMMIT | TransactionVerb.ROLLBACK:
                return self._end_block(verb, chain)
            case TransactionVerb.SAVEPOINT:
                self._require_block("SAVEPOINT")
                self.savepoints.append(savepoint)
                depth = len(self.savepoints)
                return Outcome("SAVEPOINT", (Effect(Happening.SAVEPOINT_DEFINED, depth),))
            case TransactionVerb.RELEASE:
                self._require_block("RELEASE SAVEPOINT")
                depth = self._depth_of(savepoint)
                del self.savepoints[depth - 1 :]
                return Outcome("RELEASE", (Effect(Happening.RELEASED, depth),))
            case TransactionVerb.ROLLBACK_TO:
                self._require_block("ROLLBACK TO SAVEPOINT")
                depth = self._depth_of(savepoint)
                del self.savepoints[depth:]
                self.block = Block.OPEN
                return Outcome("ROLLBACK", (Effect(Happening.ROLLED_BACK_TO, depth),))

    def _begin(self, tag: str) -> Outcome:
        if self.block is Block.OPEN:
            message = "there is already a transaction in progress"
            return Outcome(tag, notice=warning(SqlState.ACTIVE_SQL_TRANSACTION, message))
        self.block = Block.OPEN
        return Outcome(tag)

    def _end_block(self, verb: TransactionVerb, chain: bool) -> Outcome:
        committed = verb is TransactionVerb.COMMIT and self.block is not Block.FAILED
        notice = None
        if self.block in (Block.NONE, Block.IMPLICIT):
            if chain:
                raise self._not_in_block(f"{verb.value} AND CHAIN")
            message = "there is no transaction in progress"
            notice = warning(SqlState.NO_ACTIVE_SQL_TRANSACTION, message)
        effects = self._end(COMMITTED if committed else ABORTED)
        if chain:
            self.block = Block.OPEN
            self.in_progress = True
            effects += (STARTED,)
        return Outcome("COMMIT" if committed else "ROLLBACK", effects, notice)

    def _require_block(self, what: str) -> None:
        if self.block in (Block.NONE, Block.IMPLICIT):
            raise self._not_in_block(what)

    def _not_in_block(self, what: str) -> SqlError:
        return error(
            SqlState.NO_ACTIVE_SQL_TRANSACTION, f"{what} can only be used in transaction blocks"
        )

    def _depth_of(self, name: str) -> int:
        for depth in range(len(self.savepoints), 0, -1):
            if self.savepoints[depth - 1] == name:
                return depth
        raise error(SqlState.INVALID_SAVEPOINT_SPECIFICATION, f'savepoint "{name}" does not exist')


def failed_block() -> SqlError:
    """Return the ERROR of a statement in a failed block."""
    return error(
        SqlState.IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
