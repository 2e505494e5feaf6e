"""The configured datastore for new images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.errors import EC2Error
from econed.opennebula.states import DatastoreType

if TYPE_CHECKING:
    from econed.actions.call import Call


async def check_datastore(call: Call) -> None:
    """Raise `EC2Error` UnauthorizedOperation if the caller cannot see the configured datastore for new images."""
    datastores = [store for store in await call.session.datastores() if store.id == call.settings.datastore_id]
    if not any(store.type is DatastoreType.IMAGE_DS for store in datastores):
        raise EC2Error("UnauthorizedOperation", "You are not authorized to use the datastore for new images.", 403)
