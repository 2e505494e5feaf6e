"""Creating AMIs from the disk of an instance or from another AMI (EC2 CreateImage, CopyImage)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from econed.actions.action import action
from econed.actions.client_tokens import ClientToken
from econed.actions.disk_images.ami_facts import AMI_NAME, IS_AMI, MAX_DESCRIPTION, description_text
from econed.actions.disk_images.volume_facts import (
    IS_AMI_SNAPSHOT,
    IS_SNAPSHOT,
    MARKED_IMAGE_ID,
    SNAPSHOT_TAG_PREFIX,
    SOURCE_VOLUME,
    inherited_attributes,
)
from econed.actions.images.announcements import (
    NewImage,
    announce,
    announced_images,
    announcement_of_copy,
    announcement_of_machine,
    complete_image,
    is_marked,
    new_image_name,
    remove_announcement,
    restart_machine,
)
from econed.actions.images.lookup import amis_by_id
from econed.actions.images.names import check_name, creation_error, name_text
from econed.actions.images.view import is_ami
from econed.actions.inputs import TagSpecification, check_text
from econed.actions.machines.devices import volume_id
from econed.actions.machines.lookup import find_settled_machines
from econed.actions.machines.rights import check_may_manage
from econed.actions.machines.state import InstanceState, state_of
from econed.actions.regions.regions import own_region
from econed.actions.tagging import PREFIX, check_tag_count, specified_tags, tag_text, tags_of
from econed.actions.tasks import TaskGroup
from econed.actions.waiting import wait_until
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal
from econed.ids import IMAGE, INSTANCE
from econed.opennebula.documents import Right
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import ImageState, VmState
from econed.opennebula.template import attribute, hex_name, removal, template

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image, UserDocument, VirtualMachine

_SETTLE_TIMEOUT = 12
"""Seconds to wait for a machine in a transitional state, before and after its disk is saved."""

_POWER_OFF_TIMEOUT = 20
"""Seconds for a guest to shut down. With oned's replies a request stays below the 60 s timeout of the SDKs."""

_MAX_TOKEN_LENGTH = 128
"""Maximum length of a ClientToken of CopyImage in characters (Amazon's model)."""

_MARKS = template(attribute(IS_AMI, "YES"), attribute(IS_SNAPSHOT, "YES"), attribute(IS_AMI_SNAPSHOT, "YES"))
"""The attributes that make an image both an AMI and the snapshot that an AMI has on Amazon."""


class CreateImageResult(TypedDict):
    """EC2 CreateImageResult."""

    ImageId: str


class CopyImageResult(TypedDict):
    """EC2 CopyImageResult."""

    ImageId: str


@action()
async def create_image(
    call: Call,
    *,
    instance_id: str,
    name: str,
    description: str = "",
    no_reboot: bool = False,
    tag_specifications: Sequence[TagSpecification] = (),
) -> CreateImageResult:
    """Save the root disk of an instance as an AMI (EC2 CreateImage; OpenNebula disk-saveas).

    A running instance is powered off first and restarted when its disk has been saved, by the reconciler if that takes
    long. With NoReboot the disk is saved as it is, as after a power failure. Other volumes are not saved. A repeated
    call finishes one that was interrupted.

    Raises `EC2Error` InvalidAMIName.Malformed and .Duplicate, IncorrectInstanceState for an instance that is neither
    running nor stopped, or that does not shut down in time (it is left running).
    """
    check_name(name)
    tags = specified_tags(tag_specifications, "image", "snapshot")
    check_text("Description", description, MAX_DESCRIPTION)
    (machine,) = await find_settled_machines(call, (instance_id,), timeout=_SETTLE_TIMEOUT)
    owned_images, user = await call.session.images(OwnerFilter.MINE), await call.session.current_user()
    announcement = announcement_of_machine(name, machine.id)
    earlier = next((new for new in announced_images(user) if new.name == name and new.machine_id == machine.id), None)
    image = _image_of(owned_images, earlier)
    image_name = image.name if image else await new_image_name(call, owned_images, user, name, announcement)
    state = state_of(machine)
    if state not in (InstanceState.RUNNING, InstanceState.STOPPED) or not machine.disks:
        raise _incorrect_state(machine)
    powers_off = state is InstanceState.RUNNING and not no_reboot and image is None
    new = NewImage(
        name,
        image_name,
        call.now,
        _saved_disk_text(machine, name_text(name, image_name), description, tags),
        announcement,
        machine_id=machine.id,
        must_restart=powers_off or (earlier is not None and earlier.must_restart),
    )
    image_ids: list[int] = []

    async def create(machine: VirtualMachine) -> None:
        await check_may_manage(call.session, machine)
        await _announce(call, user, new, earlier)
        image_id = image.id if image is not None else await _save_disk(call, user, new, machine, powers_off)
        await complete_image(call.session, user, new, image_id)
        image_ids.append(image_id)

    await call.change_all(Right.MANAGE, (machine,), create)
    if new.must_restart:
        await _restart(call, user, new)
    return {"ImageId": IMAGE.format(image_ids[0])}


@action(as_is={"Encrypted": False})
async def copy_image(
    call: Call,
    *,
    name: str,
    source_image_id: str,
    source_region: str,
    description: str | None = None,
    client_token: str = "",
    copy_image_tags: bool = False,
    tag_specifications: Sequence[TagSpecification] = (),
) -> CopyImageResult:
    """Copy an AMI under another name (EC2 CopyImage; OpenNebula image clone).

    The caller owns the copy, which has no launch permissions. It has the tags of the original with CopyImageTags, and
    its description unless a description is given, even an empty one. A repeated call with the same ClientToken returns
    the same copy.

    Raises `EC2Error` InvalidAMIName.Malformed and .Duplicate, InvalidAMIID.Unavailable for an AMI that is not ready,
    IdempotentParameterMismatch, and UnsupportedOperation for an AMI in another region.
    """
    check_name(name)
    tags = specified_tags(tag_specifications, "image", "snapshot")
    check_text("Description", description or "", MAX_DESCRIPTION)
    token = ClientToken.of(call, client_token, _MAX_TOKEN_LENGTH)
    async with TaskGroup() as tasks:
        tasks.start(_check_region(call, source_region))
        sources = tasks.start(amis_by_id(call, (source_image_id,)))
    (source,) = sources.result
    check_tag_count(tags_of(source.template) if copy_image_tags else (), tags["image"])
    owned_images, user = await call.session.images(OwnerFilter.MINE), await call.session.current_user()
    announcement = announcement_of_copy(name, source.id, token)
    earlier = next((new for new in announced_images(user) if new.attribute == announcement), None)
    image = _image_of(owned_images, earlier) or _image_with_token(token, owned_images)
    _check_same_call(token, user)
    if image is not None and earlier is None:
        return {"ImageId": IMAGE.format(image.id)}
    image_name = image.name if image else await new_image_name(call, owned_images, user, name, announcement)
    if source.state not in (ImageState.READY, ImageState.USED, ImageState.CLONE):
        raise EC2Error("InvalidAMIID.Unavailable", f"The image ID '{IMAGE.format(source.id)}' is not available")
    text = _copy_text(source, name_text(name, image_name), description, token, tags, keep_tags=copy_image_tags)
    new = NewImage(name, image_name, call.now, text, announcement, token=token)
    await _announce(call, user, new, earlier)
    if token is not None and image is None:
        image = await _image_created_meanwhile(call, user, new, token)
    image_id = image.id if image is not None else await _clone(call, user, new, source)
    await complete_image(call.session, user, new, image_id)
    return {"ImageId": IMAGE.format(image_id)}


async def _check_region(call: Call, source_region: str) -> None:
    if source_region not in await own_region(call):
        raise EC2Error("UnsupportedOperation", "Images can only be copied within the region.")


def _image_of(owned_images: Iterable[Image], new: NewImage | None) -> Image | None:
    """Return the image that an interrupted call created for an announced AMI, if there is one."""
    return next((image for image in owned_images if new.is_image(image)), None) if new is not None else None


def _image_with_token(token: ClientToken | None, owned_images: Iterable[Image]) -> Image | None:
    """Return the AMI that was created with a token; raises `EC2Error` IdempotentParameterMismatch.

    An unfinished copy has the token of its original, whose id is lower.
    """
    images = [image for image in owned_images if token is not None and is_ami(image) and token.is_on(image.template)]
    if token is None or not images:
        return None
    first = min(images, key=lambda image: image.id)
    token.check_creator(first.template)
    return first


async def _image_created_meanwhile(call: Call, user: UserDocument, new: NewImage, token: ClientToken) -> Image | None:
    """Return the image that another call with the same token has created in the meantime.

    The call that announces second finds the announcement of the first, or its image: of two different calls both may be
    refused, but at most one is carried out. Raises `EC2Error` IdempotentParameterMismatch.
    """
    try:
        _check_same_call(token, await call.session.current_user())
        return _image_with_token(token, await call.session.images(OwnerFilter.MINE))
    except EC2Error:
        await remove_announcement(call.session, user, new)
        raise


def _check_same_call(token: ClientToken | None, user: UserDocument) -> None:
    """Raise `EC2Error` IdempotentParameterMismatch if a different call with the token is being carried out."""
    for other in announced_images(user):
        if token is not None and other.facts and other.token is not None and other.token.text == token.text:
            token.check_same_call(other.token.digest)


async def _announce(call: Call, user: UserDocument, new: NewImage, earlier: NewImage | None) -> None:
    """Announce an AMI, replacing the announcement of an interrupted call."""
    await announce(call, user, new)
    if earlier is not None and earlier.attribute != new.attribute:
        await remove_announcement(call.session, user, earlier)


async def _save_disk(call: Call, user: UserDocument, new: NewImage, machine: VirtualMachine, powers_off: bool) -> int:
    """Save the root disk of a machine, powered off first if necessary; after a failure the machine is restarted."""
    try:
        if powers_off:
            await call.session.vm_action("poweroff", machine.id)
    except OpenNebulaRefusal as refusal:
        await remove_announcement(call.session, user, new)
        raise (_incorrect_state(machine) if refusal.code == OpenNebulaCode.ACTION else refusal) from refusal
    try:
        if powers_off:
            await _wait_until_off(call, machine)
        return await call.session.disk_save_as(machine.id, machine.disks[0].disk_id, new.image_name, "OS")
    except OpenNebulaRefusal as refusal:
        await _abandon(call, user, new)
        if refusal.code == OpenNebulaCode.ACTION:
            raise _incorrect_state(machine) from refusal
        raise await creation_error(call, new.image_name, new.name, refusal) from refusal
    except EC2Error:
        await _abandon(call, user, new)
        raise


async def _clone(call: Call, user: UserDocument, new: NewImage, source: Image) -> int:
    try:
        return await call.session.image_clone(source.id, new.image_name)
    except OpenNebulaRefusal as refusal:
        if (
            refusal.code == OpenNebulaCode.ALLOCATE
            and (image := await _image_created_by_same_call(call, new)) is not None
        ):
            return image.id
        await remove_announcement(call.session, user, new)
        raise await creation_error(call, new.image_name, new.name, refusal) from refusal


async def _image_created_by_same_call(call: Call, new: NewImage) -> Image | None:
    """Return the copy with the new name, if another process that carries out the same call has created it.

    A copy that is not marked yet is announced; announcements are read first, and other calls' copies are ignored.
    """
    if new.token is None:
        return None
    user = await call.session.current_user()
    others = [other for other in announced_images(user) if other.facts and other.attribute != new.attribute]
    for image in await call.session.images(OwnerFilter.MINE):
        if new.is_image(image) and is_ami(image):
            is_of_other_call = any(other.is_image(image) for other in others)
            is_same_call = new.token.is_on(image.template) if is_marked(image) else not is_of_other_call
            return image if is_same_call else None
    return None


async def _abandon(call: Call, user: UserDocument, new: NewImage) -> None:
    """Remove the announcement of an AMI that cannot be created, unless its machine must be restarted later."""
    if new.must_restart and new.machine_id is not None and not await restart_machine(call.session, new.machine_id):
        await call.session.user_update(user.id, replace(new, announced_at=0, facts="").text)
    else:
        await remove_announcement(call.session, user, new)


async def _restart(call: Call, user: UserDocument, new: NewImage) -> None:
    """Restart a machine once its disk has been saved, unless that takes long; a failure does not fail the request."""
    try:
        if new.machine_id is not None:
            restart = partial(restart_machine, call.session, new.machine_id)
            if not await wait_until(call, bool, restart, timeout=_SETTLE_TIMEOUT):
                return
        await remove_announcement(call.session, user, new)
    except OpenNebulaError:
        return  # the reconciler retries


async def _wait_until_off(call: Call, machine: VirtualMachine) -> None:
    """Wait for the guest to shut down; raises `EC2Error` IncorrectInstanceState after `_POWER_OFF_TIMEOUT` seconds."""

    async def read() -> VirtualMachine:
        (current,) = await call.session.vms([machine.id]) or (machine,)
        return current

    def is_off(current: VirtualMachine) -> bool:
        return current.state is VmState.POWEROFF

    if is_off(await wait_until(call, is_off, read, timeout=_POWER_OFF_TIMEOUT)):
        return
    raise EC2Error(
        "IncorrectInstanceState",
        f"The instance '{INSTANCE.format(machine.id)}' did not shut down in time. Stop it first, or use NoReboot.",
    )


def _incorrect_state(machine: VirtualMachine) -> EC2Error:
    return EC2Error(
        "IncorrectInstanceState",
        f"The instance '{INSTANCE.format(machine.id)}' is not in a state in which an image can be created from it.",
    )


def _saved_disk_text(
    machine: VirtualMachine, name_attribute: str, description: str, tags: Mapping[str, Mapping[str, str]]
) -> str:
    """Return the template text that makes a saved disk an AMI and a snapshot of the disk."""
    source_volume = attribute(SOURCE_VOLUME, volume_id(machine, machine.disks[0]))
    new_description = description_text(description) if description else ""
    return template(_MARKS, name_attribute, source_volume, new_description, _tags_text(tags))


def _copy_text(
    source: Image,
    name_attribute: str,
    description: str | None,
    token: ClientToken | None,
    tags: Mapping[str, Mapping[str, str]],
    *,
    keep_tags: bool,
) -> str:
    """Return the template text that makes a clone, which has all attributes of its original, a separate AMI."""
    facts: Mapping[str, str] = token.facts if token is not None else {}
    tag_names = {hex_name(PREFIX, key) for key in tags["image"]} | {
        hex_name(SNAPSHOT_TAG_PREFIX, key) for key in tags["snapshot"]
    }
    inherited = [
        name
        for name in inherited_attributes(
            source, {IS_AMI, AMI_NAME, IS_SNAPSHOT, IS_AMI_SNAPSHOT, MARKED_IMAGE_ID, *facts, *tag_names}
        )
        if not (keep_tags and name.startswith((PREFIX, "EC2_TAGS")))
    ]
    return template(
        *map(removal, inherited),
        _MARKS,
        name_attribute,
        *(attribute(name, value) for name, value in facts.items()),
        description_text(description) if description is not None else "",
        _tags_text(tags),
    )


def _tags_text(tags: Mapping[str, Mapping[str, str]]) -> str:
    return template(tag_text(tags["image"]), tag_text(tags["snapshot"], SNAPSHOT_TAG_PREFIX))
