"""Whether oned lets the caller manage a machine, asked before anything is done or recorded that does not ask it.

A chore works in the session of the user. The request that records work for it may have been made with fewer rights, by
credentials of one group, and its own session is the only one that knows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.opennebula.template import removal

if TYPE_CHECKING:
    from econed.opennebula.session import Session
    from econed.opennebula.views import OwnedView

_WRITE_CHECK = "EC2_WRITE_CHECK"
"""An attribute that no machine has: its removal changes nothing, and oned refuses it if the caller may not manage."""


async def check_may_manage(session: Session, machine: OwnedView) -> None:
    """Raise `OpenNebulaRefusal` if the user of a session may not manage a machine."""
    await session.vm_update(machine.id, removal(_WRITE_CHECK))
