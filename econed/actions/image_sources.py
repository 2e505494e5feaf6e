"""What new images are made of: the datastore they go to, URLs that oned fetches."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from econed.errors import EC2Error
from econed.opennebula.states import DatastoreType

if TYPE_CHECKING:
    from econed.actions.call import Call

# oned's datastore drivers hand the URL to curl by a shell. They quote it; nothing that a shell or curl's own patterns
# would read as more than text gets that far all the same.
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~%/+:=,@-]*)?(\?[A-Za-z0-9._~%/+:=,@&-]*)?", re.ASCII)
_MAX_URL = 2048


def is_url(location: str) -> bool:
    """Whether an ImageLocation means a URL."""
    return location.lower().startswith(("http://", "https://"))


def checked_url(location: str) -> str:
    """Return the URL of an image for oned to fetch; raises `EC2Error` InvalidParameterValue.

    Not one on the machine where oned runs, or of the link's own services, by its address: what listens there is not for
    everybody who may make an image.
    """
    try:
        parts = urlsplit(location)
        port = parts.port
    except ValueError:
        raise _bad_url("it is no URL.") from None
    if len(location) > _MAX_URL or not _URL.fullmatch(location) or not parts.hostname or port == 0:
        raise _bad_url("give a plain http or https URL, with everything unusual in it percent-encoded.")
    if _is_inside(parts.hostname):
        raise _bad_url("its host is not one that images are fetched from.")
    return location


async def demand_datastore(call: Call) -> None:
    """Raise `EC2Error` UnauthorizedOperation where the caller does not see the datastore that new images go to."""
    stores = [store for store in await call.one.datastores() if store.id == call.settings.datastore_id]
    if not any(store.type is DatastoreType.IMAGE_DS for store in stores):
        raise EC2Error("UnauthorizedOperation", "You may not use the datastore that new images go to.", 403)


def _is_inside(host: str) -> bool:
    if host.lower().rstrip(".") in ("localhost", "localhost.localdomain"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2]
        return last.isdigit() or last.lower().startswith("0x")  # 127.1, 2130706433, 0x7f.1: addresses in disguise
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified or mapped.is_multicast


def _bad_url(reason: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", f"The ImageLocation is invalid: {reason}")
