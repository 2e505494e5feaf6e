"""Images from files that clients upload, as with the Ruby econe-server (UploadImage, which is not an EC2 action).

The file is kept on this host until oned, which runs here too, has copied it. Its path is stored on the image (PATH) and
its owner's id is part of its name, so any process on this host can determine that a file is no longer needed.
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
"""Seconds after which a file that is not the PATH of any image does not belong to a request any more."""

FORGOTTEN_AGE = 7 * ORPHAN_AGE
"""Seconds after which the file of a user who is no longer watched (who was deleted, for example) is removed."""


class UploadImageResult(TypedDict):
    """EC2 UploadImageResult."""

    ImageId: str


@action(takes_file=True)
async def upload_image(call: Call) -> UploadImageResult:
    """Create an image from the uploaded file, and return the id with which to register it (RegisterImage).

    The image is created in the configured datastore and is no AMI yet; oned copies the file after the response. Raises
    `EC2Error` UnsupportedOperation if oned runs on another host, RequestEntityTooLarge and InsufficientVolumeCapacity
    if the file cannot be stored, and the errors of an incomplete upload.
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
        image_id = await call.session.image_allocate(text, call.settings.datastore_id)
    except OpenNebulaRefusal:
        await call.upload.discard()
        raise
    return {"ImageId": IMAGE.format(image_id)}


def upload_chore(files: IUploadedFiles) -> Chore:
    """Return the chore that removes the files of images that oned has copied, and those that no image refers to."""

    async def remove_uploads(run: ChoreRun) -> None:
        for path in await files.remove_abandoned(run.now - ORPHAN_AGE):
            run.log.info("removing the partial file {path}: the process that received it has died", path=path)
        uploads = await files.complete_files(run.user.id)
        for path, modified_at in await files.complete_files(None):
            if modified_at < run.now - FORGOTTEN_AGE and (path, modified_at) not in uploads:
                run.log.info("removing the uploaded file {path}: its user's chores no longer run", path=path)
                await files.remove(path)
        if await files.is_receiving(run.user.id):
            run.keep_watching()
        if not uploads:
            return
        by_path = {image.path: image for image in await run.session.images(OwnerFilter.MINE)}
        for path, modified_at in uploads:
            image = by_path.get(path)
            is_needed = modified_at > run.now - ORPHAN_AGE if image is None else image.state.is_being_written
            if is_needed:
                run.keep_watching()
            else:
                run.log.info("removing the uploaded file {path}: it is no longer needed", path=path)
                await files.remove(path)

    return remove_uploads
