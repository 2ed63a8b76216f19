"""Which class runs each kind of child.

roles/ and backend/ register their classes when they are imported. The postmaster imports both
before its first fork, so that all children share the code; a library of background workers may
register classes of its own in the same way.
"""

from typing import Protocol, TypeVar

from pglife_impl.base.kinds import Kind
from pglife_impl.process.world import Birth, World


class RunningRole(Protocol):
    """A role inside its process."""

    def run(self) -> int:
        """Do the work of the process; return its exit code."""
        ...


class RoleClass(Protocol):
    """A class that runs one kind of child."""

    @property
    def kind(self) -> Kind: ...

    def __call__(self, world: World, birth: Birth) -> RunningRole: ...


ROLES: dict[Kind, RoleClass] = {}
AnyRole = TypeVar("AnyRole", bound=RoleClass)


def register(role: AnyRole) -> AnyRole:
    """Class decorator: run children of this class's kind with it."""
    assert role.kind not in ROLES, f"{role.kind} has a class already"
    ROLES[role.kind] = role
    return role
