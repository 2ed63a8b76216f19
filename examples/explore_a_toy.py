"""Declare a small machine, explore it, and see the shortest run that breaks a claim.

    python examples/explore_a_toy.py

A parent has one worker. The parent may stop only after the worker has ended; the first version
forgets that.
"""

import enum

from pglife_spec import Actor, Config, Machine, explore
from pglife_spec.lang.declare import Statement, Step, action, claim
from pglife_spec.lang.expr import EnumSort, Expr, Var, implies


class Parent(enum.Enum):
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Worker(enum.Enum):
    RUNNING = "running"
    TERMINATING = "sent SIGTERM"
    EXITED = "exited"


parent = Var("parent", EnumSort(Parent))
worker = Var("worker", EnumSort(Worker))


@action(Actor.OPERATOR, "toy.c: handle_shutdown_request()")
def request_shutdown() -> Step:
    """The operator requests a shutdown; the parent sends SIGTERM to the worker."""
    return Step(
        when=[parent == Parent.RUNNING],
        then=[parent.becomes(Parent.STOPPING), worker.becomes(Worker.TERMINATING)],
    )


@action(Actor.CHILD, "toy.c: WorkerMain()")
def worker_exits() -> Step:
    """SIGTERM ends the worker."""
    return Step(when=[worker == Worker.TERMINATING], then=[worker.becomes(Worker.EXITED)])


def stop(*guards: Expr) -> list:
    @action(Actor.POSTMASTER, "toy.c: main()")
    def parent_stops() -> Step:
        """The parent ends."""
        return Step(
            when=[parent == Parent.STOPPING, *guards], then=[parent.becomes(Parent.STOPPED)]
        )

    return parent_stops


@claim("TOY-1", source="toy.c: main()")
def no_orphan_is_left() -> Statement:
    """When the parent has ended, so has the worker."""
    ended = parent == Parent.STOPPED
    return Statement(implies(ended, worker == Worker.EXITED), reaches=ended)


def machine(*guards: Expr) -> Machine:
    return Machine(
        name="toy",
        variables=(parent, worker),
        params=(),
        assumptions=(),
        init=(parent == Parent.RUNNING, worker == Worker.RUNNING),
        actions=(*request_shutdown, *worker_exits, *stop(*guards)),
        claims=(no_orphan_is_left,),
    )


def main() -> None:
    ended = parent == Parent.STOPPED
    hasty = explore(machine(), Config("hasty", {}), final=ended)
    state = hasty.violated["no_orphan_is_left"]
    print("violated after:", ", ".join(hasty.trace_to(state).actions))
    patient = explore(machine(worker == Worker.EXITED), Config("patient", {}), final=ended)
    print(f"with the guard: {patient.states} states, violated: {list(patient.violated) or 'none'}")


if __name__ == "__main__":
    main()
