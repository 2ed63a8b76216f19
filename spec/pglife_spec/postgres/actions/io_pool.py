"""The pool of io workers follows the setting: it grows at once and shrinks one by one.

Begin with shrink_io_pool; launch.py has what makes it grow.

Source: postmaster.c: maybe_adjust_io_workers().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.machine import Actor, emit, when
from pglife_spec.postgres.actions.effects import MAY_ADJUST_IO_WORKERS
from pglife_spec.postgres.state.children import COUNT, number
from pglife_spec.postgres.state.io_pool import IN_FILE, SHRINKS, WANTED
from pglife_spec.postgres.state.postmaster import ALIVE, BETWEEN_EVENTS, state_is
from pglife_spec.postgres.words import PM, Kind, Life, Signal
from pglife_spec.postgres.words.parameters import IO_WORKERS, POOL_CHANGES

RUNNING = COUNT[Kind.IO_WORKER, Life.RUNNING]
TERMINATING = COUNT[Kind.IO_WORKER, Life.TERMINATING]


@action(Actor.POSTMASTER, "postmaster.c: maybe_adjust_io_workers()", "IO-04", "INV-107")
def shrink_io_pool() -> Step:
    """With more io workers than io_workers the postmaster sends SIGUSR2 to the one in the highest
    slot, and to the next one when that has exited."""
    return Step(
        when=[
            BETWEEN_EVENTS,
            *MAY_ADJUST_IO_WORKERS,
            number(Kind.IO_WORKER) > WANTED,
            ~SHRINKS,
        ],
        then=[
            SHRINKS.becomes(True),
            when(
                RUNNING >= 1,
                [
                    emit("signal", Signal.SIGUSR2.name, Kind.IO_WORKER.name),
                    emit("pool", "shrinks"),
                    RUNNING.becomes(RUNNING - 1),
                    TERMINATING.becomes(TERMINATING + 1),
                ],
            ),
        ],
    )


@action(Actor.OPERATOR, "the configuration file", "IO-02", by=("one more", "one fewer"))
def operator_changes_io_workers(by: str) -> Step:
    """The operator writes another io_workers into the configuration file; the next reload reads
    it."""
    more = by == "one more"
    room = IN_FILE < IO_WORKERS if more else IN_FILE > 1
    return Step(
        when=[POOL_CHANGES, ALIVE, ~state_is(PM.PM_INIT), room],
        then=[IN_FILE.becomes(IN_FILE + 1 if more else IN_FILE - 1)],
    )


ACTIONS = [*shrink_io_pool, *operator_changes_io_workers]
