"""The whole machine, put together. Begin with build(); build_watched() adds the evidence claims."""

from dataclasses import replace
from functools import cache

from pglife_spec.lang.declare import declared
from pglife_spec.lang.expr import Param, Var
from pglife_spec.lang.machine import Machine
from pglife_spec.lang.watch import watched
from pglife_spec.postgres import children
from pglife_spec.postgres.actions import (
    admission,
    archiver,
    autovacuum,
    faults,
    io_pool,
    launch,
    reaping,
    requests,
    standby,
    workers,
)
from pglife_spec.postgres.claims import CLAIMS, WATCHES
from pglife_spec.postgres.loop import in_order, progress
from pglife_spec.postgres.properties import PROPERTIES
from pglife_spec.postgres.state import autovacuum as state_of_autovacuum
from pglife_spec.postgres.state import children as state_of_children
from pglife_spec.postgres.state import history, postmaster, shared
from pglife_spec.postgres.state import io_pool as state_of_io_pool
from pglife_spec.postgres.state import workers as state_of_workers
from pglife_spec.postgres.words import parameters, releases, repairs


@cache
def build() -> Machine:
    """PostgreSQL's postmaster and its children, in every verified release."""
    children_state = (state_of_children, state_of_workers, state_of_autovacuum, state_of_io_pool)
    variables = declared(Var, postmaster, shared, history, *children_state)
    actions = (
        *launch.ACTIONS,
        *admission.ACTIONS,
        *children.ACTIONS,
        *requests.ACTIONS,
        *reaping.ACTIONS,
        *archiver.ACTIONS,
        *workers.ACTIONS,
        *autovacuum.ACTIONS,
        *io_pool.ACTIONS,
        *standby.ACTIONS,
        *faults.ACTIONS,
    )
    return Machine(
        name="postmaster",
        variables=variables,
        params=declared(Param, releases, parameters, repairs),
        assumptions=parameters.ASSUMPTIONS,
        init=(*(var.starts() for var in variables), *shared.INITIALLY),
        actions=in_order(actions),
        claims=(*CLAIMS, replace(progress(actions), explored_only=True)),
        properties=PROPERTIES,
    )


@cache
def build_watched() -> Machine:
    """The same machine in a product with the automata that check its evidence."""
    return watched(build(), WATCHES)
