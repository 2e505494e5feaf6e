"""Images from files that clients send, as the Ruby econe-server took them (UploadImage; Amazon has no such action).

The file is kept on this machine until oned, which runs here too, has copied it. What it is kept for stands on the image
(PATH), whose it is in its name: any process on this machine can find out that a file is not needed any more.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, TypedDict

from econed.actions.action import action
from econed.actions.call import dry_run_succeeded
from econed.actions.disk_images.datastore import check_datastore
from econed.actions.watch import watch_caller
from econed.errors import EC2Error, OpenNebulaRefusal
from econed.ids import IMAGE
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.template import attribute, template

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.chores import Chore, ChoreRun
    from econed.interfaces import IUploadedFiles

ORPHAN_AGE = 24 * 3600
"""Seconds after which a file that no image names belongs to no request any more."""

FORGOTTEN_AGE = 7 * ORPHAN_AGE
"""Seconds after which a file is removed whose user nobody looks after: he may have been deleted."""


class UploadImageResult(TypedDict):
    """EC2 UploadImageResult."""

    ImageId: str


@action(takes_file=True)
async def upload_image(call: Call) -> UploadImageResult:
    """Make an image of the file that comes with the request, and return the id to register it by (RegisterImage).

    The image is in the configured datastore and is no AMI yet; oned copies the file behind the answer. Raises
    `EC2Error` UnsupportedOperation where oned runs on another machine, RequestEntityTooLarge and
    InsufficientVolumeCapacity for what cannot be kept, and what a file that does not come whole ends with.
    """
    if call.upload is None:
        raise EC2Error("MissingParameter", "The request must contain the file of the image, as a multipart/form-data.")
    await check_datastore(call)
    await call.upload.check_acceptable(call.caller.id)
    if call.dry_run:
        raise dry_run_succeeded()
    await watch_caller(call)
    path = await call.upload.receive(call.caller.id)
    text = template(attribute("NAME", f"ec2-{uuid.uuid4()}"), attribute("TYPE", "OS"), attribute("PATH", path))
    try:
        number = await call.session.image_allocate(text, call.settings.datastore_id)
    except OpenNebulaRefusal:
        await call.upload.discard()
        raise
    return {"ImageId": IMAGE.format(number)}


def upload_chore(files: IUploadedFiles) -> Chore:
    """Return the chore that removes the `files` of images that have been copied, and those that no image names."""

    async def remove_uploads(run: ChoreRun) -> None:
        for path in await files.remove_abandoned(run.now - ORPHAN_AGE):
            run.log.info("removing the partial file {path}: the process that received it has died", path=path)
        waiting = await files.complete_files(run.user.id)
        for path, written in await files.complete_files(None):
            if written < run.now - FORGOTTEN_AGE and (path, written) not in waiting:
                run.log.info("removing the uploaded file {path}, which was forgotten", path=path)
                await files.remove(path)
        if await files.is_receiving(run.user.id):
            run.keep_watching()
        if not waiting:
            return
        by_path = {image.path: image for image in await run.session.images(OwnerFilter.MINE)}
        for path, written in waiting:
            image = by_path.get(path)
            is_needed = written > run.now - ORPHAN_AGE if image is None else image.state.is_being_written
            if is_needed:
                run.keep_watching()
            else:
                run.log.info("removing the uploaded file {path}, which nothing needs any more", path=path)
                await files.remove(path)

    return remove_uploads
