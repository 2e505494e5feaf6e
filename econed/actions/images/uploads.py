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
from econed.actions.tasks import TaskGroup
from econed.actions.watch import watch_caller
from econed.errors import EC2Error, OpenNebulaRefusal
from econed.ids import IMAGE
from econed.opennebula.template import attribute, template

if TYPE_CHECKING:
    from econed.actions.call import Call


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
    async with TaskGroup() as tasks:
        tasks.start(check_datastore(call))
        user = tasks.start(call.session.current_user())
    await call.upload.check_acceptable(call.caller.id)
    if call.dry_run:
        raise dry_run_succeeded()
    await watch_caller(call, user.result)
    path = await call.upload.receive(call.caller.id)
    text = template(attribute("NAME", f"ec2-{uuid.uuid4()}"), attribute("TYPE", "OS"), attribute("PATH", path))
    try:
        image_id = await call.session.image_allocate(text, call.settings.datastore_id)
    except OpenNebulaRefusal:
        await call.upload.discard()
        raise
    return {"ImageId": IMAGE.format(image_id)}
