"""What a background worker does by itself: it finishes, or fails.

Source: postmaster/bgworker.c: BackgroundWorkerMain().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.machine import Actor
from pglife_spec.postgres.state.children import LIFE
from pglife_spec.postgres.state.history import WORKER_FINISHED
from pglife_spec.postgres.words import Kind, Life


@action(
    Actor.FAULT,
    "bgworker.c: BackgroundWorkerMain()",
    "BG-12",
    "BG-13",
    life=(Life.EXITED_0, Life.EXITED_1),
)
def background_worker_ends(life: Life) -> Step:
    """A background worker is done and exits with 0, or fails and exits with 1."""
    worker = LIFE[Kind.STATIC_WORKER]
    finished = WORKER_FINISHED.becomes(True) if life is Life.EXITED_0 else ()
    return Step(when=[worker == Life.RUNNING], then=[worker.becomes(life), finished])


ACTIONS = [*background_worker_ends]
