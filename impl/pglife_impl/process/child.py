"""The first steps of every child.

Begin with   child_main().
Owns         which role a kind has; what a child sheds of its parent.
Leaves out   the fork (fork.py) and the rest of the child's life (role.py, backend.py).
Source       postmaster/launch_backend.c: postmaster_child_launch(); rules PR-26, PR-27.
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import Protocol

from pglife_impl.base.kinds import Kind, info
from pglife_impl.log import elog
from pglife_impl.process.world import Birth, World


class Living(Protocol):
    """What a role is to the skeleton."""

    def live(self) -> int:
        """Everything up to the exit code."""
        ...


class RoleClass(Protocol):
    """How a role is made."""

    def __call__(self, world: World, birth: Birth) -> Living: ...


def load_roles() -> dict[Kind, RoleClass]:
    """The class of every kind. Done before the first fork, so that children share the code."""
    roles: dict[Kind, RoleClass] = {}
    for kind in Kind:
        module, _, name = info(kind).role.partition(":")
        roles[kind] = getattr(import_module(f"pglife_impl.{module}"), name)
    return roles


def child_main(world: World, role: RoleClass, kind: Kind, birth: Birth) -> int:
    """Be that child; the exit code."""
    elog.become(info(kind).backend_type)
    world.leave_postmaster(is_logger=kind is Kind.LOGGER)
    gc.enable()
    return role(world, birth).live()
