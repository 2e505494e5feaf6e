"""Chores: finishing announced AMIs, and removing uploaded files that are no longer needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.actions.images.announcements import (
    REQUEST_AGE,
    announced_images,
    marks_text,
    remove_announcement,
    restart_machine,
)
from econed.opennebula.pools import OwnerFilter

if TYPE_CHECKING:
    from econed.actions.chores import Chore, ChoreRun
    from econed.interfaces import IUploadedFiles

ORPHAN_AGE = 24 * 3600
"""Seconds after which a file that is not the PATH of any image does not belong to a request any more."""

FORGOTTEN_AGE = 7 * ORPHAN_AGE
"""Seconds after which the file of a user who is no longer watched (who was deleted, for example) is removed."""

_MAX_FINISHED_PER_RUN = 20
"""Number of announced AMIs that one run of the chore finishes for a user."""


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


async def finish_images(run: ChoreRun) -> None:
    """Finish the AMIs that requests announced and did not finish.

    At most `_MAX_FINISHED_PER_RUN` at a time: users can write any number of announcements themselves.
    """
    all_announced = announced_images(run.user)
    due = [new for new in all_announced if new.announced_at <= run.now - REQUEST_AGE][:_MAX_FINISHED_PER_RUN]
    if len(due) < len(all_announced):
        run.keep_watching()
    if not due:
        return
    images = await run.session.images(OwnerFilter.MINE) if any(new.facts for new in due) else ()
    for new in due:
        image = next((image for image in images if new.is_image(image)), None)
        if image is not None and new.facts:
            run.log.info("making image {id} an AMI: the request that created it did not", id=image.id)
            await run.session.image_update(image.id, marks_text(new, image.id))
        if new.must_restart and new.machine_id is not None and not await restart_machine(run.session, new.machine_id):
            run.keep_watching()
            continue
        await remove_announcement(run.session, run.user, new)
