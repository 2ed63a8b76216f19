"""The children: one variable for each single process, one counter for each state of the others."""

from pglife_spec.lang.expr import BOOL, INT, EnumSort, Expr, Var, all_of, any_of, in_, total
from pglife_spec.postgres.words import Kind, Life
from pglife_spec.postgres.words.kinds import COUNTED, SINGLETONS, short

#: Before a child receives SIGQUIT.
UNQUIT_LIVES = (Life.RUNNING, Life.TERMINATING, Life.CHECKPOINTING, Life.XLOG_SHUT_DOWN)
ALIVE_LIVES = (*UNQUIT_LIVES, Life.QUITTING)
ZOMBIE_LIVES = (Life.EXITED_0, Life.EXITED_1, Life.EXITED_3, Life.CRASHED)
#: States of a counted child; exit codes 0 and 1 mean the same for all of them.
COUNTED_LIVES = (Life.RUNNING, Life.TERMINATING, Life.QUITTING, Life.EXITED_0, Life.CRASHED)

LIFE: dict[Kind, Var] = {
    kind: Var(short(kind), EnumSort(Life), f"the {kind.value}", initial=Life.ABSENT)
    for kind in SINGLETONS
}
COUNT: dict[tuple[Kind, Life], Var] = {
    (kind, life): Var(
        f"{short(kind)}.{life.name.lower()}",
        INT,
        f"{kind.value}s: {life.value}",
        bound=short(kind),
        initial=0,
    )
    for kind in COUNTED
    for life in COUNTED_LIVES
}


CHECKPOINTER_MAY_EXIT = Var(
    "checkpointer_may_exit",
    BOOL,
    "18: SIGUSR2 has reached the checkpointer while it writes the shutdown checkpoint (SG-11)",
    initial=False,
)


def some_in(kind: Kind, *lives: Life) -> Expr:
    """Whether a child of the kind is in one of these states."""
    if kind in LIFE:
        return in_(LIFE[kind], *lives)
    return any_of(*(COUNT[kind, life] >= 1 for life in lives if life in COUNTED_LIVES))


def alive(kind: Kind) -> Expr:
    """Whether a child of the kind is alive."""
    return some_in(kind, *ALIVE_LIVES)


def zombie(kind: Kind) -> Expr:
    """Whether a child of the kind has exited and was not reaped."""
    return some_in(kind, *ZOMBIE_LIVES)


def none_recorded(*kinds: Kind) -> Expr:
    """Whether the postmaster has no record of any child of these kinds."""
    parts: list[Expr] = []
    for kind in kinds:
        if kind in LIFE:
            parts.append(LIFE[kind] == Life.ABSENT)
        else:
            parts.extend(COUNT[kind, life] == 0 for life in COUNTED_LIVES)
    return all_of(*parts)


def recorded(*kinds: Kind) -> Expr:
    """Whether the postmaster has a record of some child of these kinds, alive or a zombie."""
    return ~none_recorded(*kinds)


def number(kind: Kind) -> Expr:
    """How many children of a counted kind the postmaster has on record."""
    return total(COUNT[kind, life] for life in COUNTED_LIVES)


NO_ZOMBIE = ~any_of(*(zombie(kind) for kind in Kind))
