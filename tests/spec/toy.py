"""A toy machine for the tests of the spec's tools: a parent that stops two kinds of children."""

import enum
from dataclasses import replace

from pglife_spec.lang.expr import BOOL, INT, EnumSort, Param, Var, implies, in_
from pglife_spec.lang.machine import (
    Action,
    Actor,
    Claim,
    Config,
    Fairness,
    Machine,
    Property,
    emit,
    when,
)


class Pm(enum.Enum):
    """The parent."""

    START = 0
    RUN = 1
    STOP = 2
    GONE = 3


class Child(enum.Enum):
    """The one writer."""

    ABSENT = 0
    RUNNING = 1
    SIGNALLED = 2
    DEAD = 3


pm = Var("pm.state", EnumSort(Pm))
writer = Var("writer", EnumSort(Child))
fatal = Var("pm.fatal_error", BOOL)
clients = Var("clients", INT, bound="clients")
signalled = Var("clients_signalled", INT, bound="clients")
limit = Param("max_connections", INT)
patient = Param("patient", BOOL)


def action(name, actor, guards, effects, **more):
    return Action(
        name=name,
        family=name.split("[")[0],
        actor=actor,
        doc=f"{name} happens.",
        source="toy.c: main()",
        rules=("TOY-1",),
        guards=tuple(guards),
        effects=tuple(effects),
        **more,
    )


def end(how, bad):
    return action(
        f"writer_ends[{how}]",
        Actor.FAULT if bad else Actor.CHILD,
        [writer == (Child.RUNNING if bad else Child.SIGNALLED)],
        [writer.becomes(Child.DEAD), when(bad, fatal.becomes(True)), emit("death", "writer", how)],
        choices={"how": how},
    )


ACTIONS = (
    action(
        "start_up",
        Actor.POSTMASTER,
        [pm == Pm.START, writer == Child.ABSENT],
        [
            pm.becomes(Pm.RUN),
            writer.becomes(Child.RUNNING),
            emit("fork", "writer"),
            emit("pmstate", pm),
        ],
    ),
    action(
        "connect",
        Actor.CLIENT,
        [pm == Pm.RUN, clients + signalled < limit],
        [clients.becomes(clients + 1), emit("count", clients, fatal)],
    ),
    action("disconnect", Actor.CLIENT, [clients >= 1], [clients.becomes(clients - 1)]),
    action(
        "signalled_client_ends", Actor.CHILD, [signalled >= 1], [signalled.becomes(signalled - 1)]
    ),
    action(
        "shut_down",
        Actor.OPERATOR,
        [pm == Pm.RUN],
        [
            pm.becomes(Pm.STOP),
            when(
                ~patient,
                [
                    signalled.becomes(signalled + clients),
                    clients.becomes(0),
                    emit("signal", "clients"),
                ],
            ),
            when(
                writer == Child.RUNNING,
                [writer.becomes(Child.SIGNALLED), emit("signal", "writer", writer)],
                emit("log", "no writer"),
            ),
        ],
    ),
    end("exit", False),
    end("crash", True),
    action(
        "reap_writer",
        Actor.POSTMASTER,
        [writer == Child.DEAD],
        [
            writer.becomes(Child.ABSENT),
            when(fatal & (pm == Pm.RUN), [pm.becomes(Pm.START), fatal.becomes(False)]),
        ],
    ),
    action(
        "leave",
        Actor.POSTMASTER,
        [pm == Pm.STOP, writer == Child.ABSENT, clients == 0, signalled == 0],
        [pm.becomes(Pm.GONE), emit("pmstate", pm)],
    ),
)


def claim(name, holds, reaches, **more):
    return Claim(name, ("TOY-1",), f"{name}.", "toy.c", holds, reaches, **more)


CLAIMS = (
    claim("gone_means_alone", implies(pm == Pm.GONE, writer == Child.ABSENT), pm == Pm.GONE),
    claim("limit_is_kept", clients <= limit, clients.__eq__(limit)),
)

SYSTEM = Fairness("system", "children and parent go on", lambda a: not a.actor.is_environment)

PROPERTIES = (
    Property(
        "shutdown_ends",
        ("TOY-2",),
        "A shutdown ends.",
        "toy.c",
        pm == Pm.STOP,
        pm == Pm.GONE,
        (SYSTEM,),
    ),
)

TOY = Machine(
    name="toy",
    variables=(pm, writer, fatal, clients, signalled),
    params=(limit, patient),
    assumptions=(limit >= 1,),
    init=(pm == Pm.START, writer == Child.ABSENT, ~fatal, clients == 0, signalled == 0),
    actions=ACTIONS,
    claims=CLAIMS,
    properties=PROPERTIES,
)

SMALL = Config("small", {"max_connections": 2, "patient": False}, {"clients": 2})
PATIENT = replace(SMALL, name="patient", params={"max_connections": 2, "patient": True})
GONE = in_(pm, Pm.GONE)
