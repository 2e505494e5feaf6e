"""Images from URLs: fetched by econed from the internet, or by oned from the hosts that the administrator has named.

oned follows redirects, looks names up itself and verifies no certificate. So it is given a URL only where the
administrator trusts the host (econe.conf, `image_url_hosts`).
"""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING

from econed.actions.call import dry_run_succeeded
from econed.actions.disk_images.ami_facts import AMI_NAME
from econed.actions.disk_images.datastore import check_datastore
from econed.actions.images.announcements import new_image_name
from econed.actions.images.names import check_name, creation_error
from econed.actions.watch import watch_caller
from econed.errors import EC2Error, OpenNebulaRefusal
from econed.hosts import matches_any
from econed.image_urls import ImageURL, forbidden_host
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.template import attribute, template

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.interfaces import IImageFetcher


def is_url(location: str) -> bool:
    """Whether an ImageLocation means a URL."""
    return location.lower().startswith(("http://", "https://"))


async def image_from_url(call: Call, location: str, name: str, facts: str) -> int:
    """Make an image of what is at a URL, with all that is to be said of it (`facts`), and return its id.

    Calls of a user that ask for the same while one is under way in this process are one: SDKs send a call again that
    takes long. Raises `EC2Error`, see `econed.actions.images.images.register_image`.
    """
    url = ImageURL.parse(location)
    if matches_any(url.host, call.settings.image_url_hosts):
        await check_datastore(call)
        return await _allocated(call, url.text, name, facts)
    if call.fetcher is None:
        raise forbidden_host()
    await call.fetcher.check_url(url, call.caller.id)
    await _own_name(call, name)
    await check_datastore(call)
    if call.dry_run:
        raise dry_run_succeeded()
    key = (call.caller.id, url.text, name, facts)
    return await call.fetcher.run_once(key, partial(_fetched, call, call.fetcher, url, name, facts))


async def _fetched(call: Call, fetcher: IImageFetcher, url: ImageURL, name: str, facts: str) -> int:
    """Fetch an image and hand it to oned, which copies it behind the answer; `upload_chore` then removes the file."""
    await watch_caller(call)
    path = await fetcher.fetch(url, call.caller.id)
    try:
        return await _allocated(call, path, name, facts)
    except (EC2Error, OpenNebulaRefusal):
        await fetcher.discard(path)
        raise


async def _allocated(call: Call, path: str, name: str, facts: str) -> int:
    own_name = await _own_name(call, name)
    made_of = template(attribute("NAME", own_name), attribute("TYPE", "OS"), attribute("PATH", path))
    named = attribute(AMI_NAME, name) if name not in ("", own_name) else ""
    try:
        return await call.session.image_allocate(template(made_of, named, facts), call.settings.datastore_id)
    except OpenNebulaRefusal as refusal:
        raise await creation_error(call, own_name, name, refusal) from refusal


async def _own_name(call: Call, name: str) -> str:
    """Return what a new image is called in OpenNebula; raises `EC2Error` where it may not have its name in EC2."""
    if not name:
        return f"ec2-{uuid.uuid4()}"
    check_name(name)
    return await new_image_name(
        call, await call.session.images(OwnerFilter.MINE), await call.session.current_user(), name
    )
