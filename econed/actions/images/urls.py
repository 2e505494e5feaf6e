"""Images from URLs: downloaded by econed from the internet, or by oned from hosts that the administrator trusts.

oned follows redirects, resolves names itself and does not verify certificates. It is therefore given only URLs of the
hosts in `image_url_hosts` (econe.conf).
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
    """Whether an ImageLocation is a URL."""
    return location.lower().startswith(("http://", "https://"))


async def image_from_url(call: Call, location: str, name: str, facts: str) -> int:
    """Create an image from a URL, with the attributes in the template text `facts`, and return its id.

    Identical calls of a user in this process share one download: SDKs repeat a call that takes long. Raises `EC2Error`,
    see `econed.actions.images.images.register_image`.
    """
    url = ImageURL.parse(location)
    if matches_any(url.host, call.settings.image_url_hosts):
        await check_datastore(call)
        return await _allocate(call, url.text, name, facts)
    if call.fetcher is None:
        raise forbidden_host()
    await call.fetcher.check_url(url, call.caller.id)
    await _image_name(call, name)
    await check_datastore(call)
    if call.dry_run:
        raise dry_run_succeeded()
    key = (call.caller.id, url.text, name, facts)
    return await call.fetcher.run_once(key, partial(_fetch_and_allocate, call, call.fetcher, url, name, facts))


async def _fetch_and_allocate(call: Call, fetcher: IImageFetcher, url: ImageURL, name: str, facts: str) -> int:
    """Download an image and pass it to oned, which copies it after the response; `upload_chore` removes the file."""
    await watch_caller(call)
    path = await fetcher.fetch(url, call.caller.id)
    try:
        return await _allocate(call, path, name, facts)
    except (EC2Error, OpenNebulaRefusal):
        await fetcher.discard(path)
        raise


async def _allocate(call: Call, path: str, name: str, facts: str) -> int:
    image_name = await _image_name(call, name)
    source = template(attribute("NAME", image_name), attribute("TYPE", "OS"), attribute("PATH", path))
    name_attribute = attribute(AMI_NAME, name) if name not in ("", image_name) else ""
    try:
        return await call.session.image_allocate(template(source, name_attribute, facts), call.settings.datastore_id)
    except OpenNebulaRefusal as refusal:
        raise await creation_error(call, image_name, name, refusal) from refusal


async def _image_name(call: Call, name: str) -> str:
    """Return the name of a new image in OpenNebula; raises `EC2Error` if the name of the AMI is not allowed."""
    if not name:
        return f"ec2-{uuid.uuid4()}"
    check_name(name)
    return await new_image_name(
        call, await call.session.images(OwnerFilter.MINE), await call.session.current_user(), name
    )
