"""Where new images go: the datastore that the configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.errors import EC2Error
from econed.opennebula.states import DatastoreType

if TYPE_CHECKING:
    from econed.actions.call import Call


async def check_datastore(call: Call) -> None:
    """Raise `EC2Error` UnauthorizedOperation where the caller does not see the datastore that new images go to."""
    stores = [store for store in await call.session.datastores() if store.id == call.settings.datastore_id]
    if not any(store.type is DatastoreType.IMAGE_DS for store in stores):
        raise EC2Error("UnauthorizedOperation", "You may not use the datastore that new images go to.", 403)
