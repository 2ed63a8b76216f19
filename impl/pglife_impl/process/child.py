"""The first steps of every child.

Source: postmaster/launch_backend.c: postmaster_child_launch(); rules PR-26, PR-27.
"""

import gc

from pglife_impl.base.kinds import Kind, info
from pglife_impl.log import elog
from pglife_impl.process.registry import ROLES
from pglife_impl.process.world import Birth, World


def child_main(world: World, kind: Kind, birth: Birth) -> int:
    """Run the child: close what belongs to the postmaster, then hand over to the kind's role.

    Returns:
        The exit code.
    """
    elog.become(info(kind).backend_type)
    world.close_postmaster_files(is_logger=kind is Kind.LOGGER)
    gc.enable()
    return ROLES[kind](world, birth).run()
