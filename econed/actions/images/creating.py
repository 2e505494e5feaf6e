"""New AMIs from what there is: the disk of an instance, or another AMI (EC2 CreateImage, CopyImage)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from econed.actions.action import action
from econed.actions.client_tokens import REQUEST_DIGEST, ClientToken
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
from econed.actions.images.finding import amis_by_id
from econed.actions.images.names import check_name, creation_error, name_text
from econed.actions.images.view import is_ami
from econed.actions.inputs import TagSpecification, check_text
from econed.actions.machines.devices import volume_id
from econed.actions.machines.finding import find_settled_machines
from econed.actions.machines.state import InstanceState, state_of
from econed.actions.regions.regions import own_region
from econed.actions.tagging import PREFIX, check_tag_count, specified_tags, tag_text, tags_of
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

_PATIENCE = 12
"""Seconds to wait for a machine to come out of a passing state, before and after its disk is saved."""

_POWER_OFF_PATIENCE = 20
"""Seconds that a guest has to shut down. With oned's own answers a request stays below the 60 s of the SDKs."""

_LONGEST_TOKEN = 128
"""Characters of a ClientToken of CopyImage (Amazon's model)."""

_MARKS = template(attribute(IS_AMI, "YES"), attribute(IS_SNAPSHOT, "YES"), attribute(IS_AMI_SNAPSHOT, "YES"))
"""What makes an image an AMI and the snapshot that the AMI has on Amazon."""


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

    A running instance is powered off first and started again when its disk is saved, by the reconciler if that takes
    long, unless NoReboot is given: then the disk is saved as it is, which is as after a loss of power. Other volumes
    are not saved. Where a call broke off, the same call again finishes it.

    Raises `EC2Error` InvalidAMIName.Malformed and .Duplicate, IncorrectInstanceState for an instance that is neither
    running nor stopped, or that does not shut down in time: it is then left running.
    """
    check_name(name)
    tags = specified_tags(tag_specifications, "image", "snapshot")
    check_text("Description", description, MAX_DESCRIPTION)
    (machine,) = await find_settled_machines(call, (instance_id,), timeout=_PATIENCE)
    owned, user = await call.session.images(OwnerFilter.MINE), await call.session.current_user()
    announcement = announcement_of_machine(name, machine.id)
    before = next((new for new in announced_images(user) if new.name == name and new.machine_id == machine.id), None)
    image = _made_before(owned, before)
    own_name = image.name if image else await new_image_name(call, owned, user, name, announcement)
    state = state_of(machine)
    if state not in (InstanceState.RUNNING, InstanceState.STOPPED) or not machine.disks:
        raise _incorrect_state(machine)
    powers_off = state is InstanceState.RUNNING and not no_reboot and image is None
    new = NewImage(
        name,
        own_name,
        call.now,
        _saved_text(machine, name_text(name, own_name), description, tags),
        announcement,
        machine_id=machine.id,
        must_restart=powers_off or (before is not None and before.must_restart),
    )
    made: list[int] = []

    async def make(machine: VirtualMachine) -> None:
        await _announce(call, user, new, before)
        number = image.id if image is not None else await _saved(call, user, new, machine, powers_off)
        await complete_image(call.session, user, new, number)
        made.append(number)

    await call.change_all(Right.MANAGE, (machine,), make)
    if new.must_restart:
        await _restart(call, user, new)
    return {"ImageId": IMAGE.format(made[0])}


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
    """Copy an AMI under a name of its own (EC2 CopyImage; OpenNebula image clone).

    The copy is the caller's, with no launch permissions; it has the tags of the original if CopyImageTags is given, and
    its description unless another is, or an empty one. With the same ClientToken the same copy is returned.

    Raises `EC2Error` InvalidAMIName.Malformed and .Duplicate, InvalidAMIID.Unavailable for an AMI that is not ready,
    IdempotentParameterMismatch, and UnsupportedOperation for an AMI in another region.
    """
    check_name(name)
    tags = specified_tags(tag_specifications, "image", "snapshot")
    check_text("Description", description or "", MAX_DESCRIPTION)
    token = ClientToken.of(call, client_token, _LONGEST_TOKEN)
    if source_region not in await own_region(call):
        raise EC2Error("UnsupportedOperation", "Images are copied within a region only.")
    (source,) = await amis_by_id(call, (source_image_id,))
    check_tag_count(tags_of(source.template) if copy_image_tags else (), tags["image"])
    owned, user = await call.session.images(OwnerFilter.MINE), await call.session.current_user()
    announcement = announcement_of_copy(name, source.id, token)
    before = next((new for new in announced_images(user) if new.attribute == announcement), None)
    image = _made_before(owned, before) or _made_with(token, owned)
    _demand_same(token, user)
    if image is not None and before is None:
        return {"ImageId": IMAGE.format(image.id)}
    own_name = image.name if image else await new_image_name(call, owned, user, name, announcement)
    if source.state not in (ImageState.READY, ImageState.USED, ImageState.CLONE):
        raise EC2Error("InvalidAMIID.Unavailable", f"The image ID '{IMAGE.format(source.id)}' is not available")
    text = _copied_text(source, name_text(name, own_name), description, token, tags, keep_tags=copy_image_tags)
    new = NewImage(name, own_name, call.now, text, announcement, token=token)
    await _announce(call, user, new, before)
    if token is not None and image is None:
        image = await _made_meanwhile(call, user, new, token)
    number = image.id if image is not None else await _cloned(call, user, new, source)
    await complete_image(call.session, user, new, number)
    return {"ImageId": IMAGE.format(number)}


def _made_before(owned: Iterable[Image], before: NewImage | None) -> Image | None:
    """Return the image that a call made which broke off before it was finished, if it got that far."""
    return next((image for image in owned if before.is_image(image)), None) if before is not None else None


def _made_with(token: ClientToken | None, owned: Iterable[Image]) -> Image | None:
    """Return the AMI that was made with a token; raises `EC2Error` IdempotentParameterMismatch.

    A copy that is not finished has the token of its original, whose id is lower.
    """
    made = [image for image in owned if token is not None and is_ami(image) and token.is_on(image.template)]
    if token is None or not made:
        return None
    first = min(made, key=lambda each: each.id)
    token.check_same_call(first.template.text(REQUEST_DIGEST))
    return first


async def _made_meanwhile(call: Call, user: UserDocument, new: NewImage, token: ClientToken) -> Image | None:
    """Return the image that another call with the same token made since it was looked for.

    Whoever announces second sees the announcement of the first, or what the first has made: of two calls that differ
    both may be refused, but never both carried out. Raises `EC2Error` IdempotentParameterMismatch.
    """
    try:
        _demand_same(token, await call.session.current_user())
        return _made_with(token, await call.session.images(OwnerFilter.MINE))
    except EC2Error:
        await remove_announcement(call.session, user, new)
        raise


def _demand_same(token: ClientToken | None, user: UserDocument) -> None:
    """Raise `EC2Error` IdempotentParameterMismatch if another call with the token is being carried out."""
    for other in announced_images(user):
        if token is not None and other.facts and other.token is not None and other.token.text == token.text:
            token.check_same_call(other.token.digest)


async def _announce(call: Call, user: UserDocument, new: NewImage, before: NewImage | None) -> None:
    """Announce an image, in place of what a call that broke off announced."""
    await announce(call, user, new)
    if before is not None and before.attribute != new.attribute:
        await remove_announcement(call.session, user, before)


async def _saved(call: Call, user: UserDocument, new: NewImage, machine: VirtualMachine, powers_off: bool) -> int:
    """Save the root disk of a machine, powered off first if it has to be; whatever fails, it is left as it was."""
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
        await _give_up(call, user, new)
        if refusal.code == OpenNebulaCode.ACTION:
            raise _incorrect_state(machine) from refusal
        raise await creation_error(call, new.image_name, new.name, refusal) from refusal
    except EC2Error:
        await _give_up(call, user, new)
        raise


async def _cloned(call: Call, user: UserDocument, new: NewImage, source: Image) -> int:
    try:
        return await call.session.image_clone(source.id, new.image_name)
    except OpenNebulaRefusal as refusal:
        if refusal.code == OpenNebulaCode.ALLOCATE and (made := await _made_by_same_call(call, new)) is not None:
            return made.id
        await remove_announcement(call.session, user, new)
        raise await creation_error(call, new.image_name, new.name, refusal) from refusal


async def _made_by_same_call(call: Call, new: NewImage) -> Image | None:
    """Return the copy under the wanted name, if it was made by another process that carries out the same call.

    One that is not marked yet has an announcement, which is read before it: that of another call is not this one's.
    """
    if new.token is None:
        return None
    user = await call.session.current_user()
    others = [other for other in announced_images(user) if other.facts and other.attribute != new.attribute]
    for image in await call.session.images(OwnerFilter.MINE):
        if new.is_image(image) and is_ami(image):
            is_of_other = any(other.is_image(image) for other in others)
            is_same = new.token.is_on(image.template) if is_marked(image) else not is_of_other
            return image if is_same else None
    return None


async def _give_up(call: Call, user: UserDocument, new: NewImage) -> None:
    """Have nothing left of an image that is not made; a machine that is still shutting down is started again later."""
    if new.must_restart and new.machine_id is not None and not await restart_machine(call.session, new.machine_id):
        await call.session.user_update(user.id, replace(new, announced_at=0, facts="").text)
    else:
        await remove_announcement(call.session, user, new)


async def _restart(call: Call, user: UserDocument, new: NewImage) -> None:
    """Start a machine again when its disk is saved, if that is soon; the image is made, whatever becomes of this."""
    try:
        if new.machine_id is not None:
            start_again = partial(restart_machine, call.session, new.machine_id)
            if not await wait_until(call, bool, start_again, timeout=_PATIENCE):
                return
        await remove_announcement(call.session, user, new)
    except OpenNebulaError:
        return  # the reconciler tries again


async def _wait_until_off(call: Call, machine: VirtualMachine) -> None:
    """Wait for the guest to shut down; raises `EC2Error` IncorrectInstanceState if it does not in time."""

    async def read() -> VirtualMachine:
        (now,) = await call.session.vms([machine.id]) or (machine,)
        return now

    def is_off(now: VirtualMachine) -> bool:
        return now.state is VmState.POWEROFF

    if is_off(await wait_until(call, is_off, read, timeout=_POWER_OFF_PATIENCE)):
        return
    raise EC2Error(
        "IncorrectInstanceState",
        f"The instance '{INSTANCE.format(machine.id)}' does not shut down. Stop it first, or use NoReboot.",
    )


def _incorrect_state(machine: VirtualMachine) -> EC2Error:
    return EC2Error(
        "IncorrectInstanceState",
        f"The instance '{INSTANCE.format(machine.id)}' is not in a state from which an image can be made.",
    )


def _saved_text(machine: VirtualMachine, named: str, description: str, tags: Mapping[str, Mapping[str, str]]) -> str:
    """Return the template text that makes a saved disk an AMI with a snapshot of the disk."""
    of_volume = attribute(SOURCE_VOLUME, volume_id(machine, machine.disks[0]))
    described = description_text(description) if description else ""
    return template(_MARKS, named, of_volume, described, _tags_text(tags))


def _copied_text(
    source: Image,
    named: str,
    description: str | None,
    token: ClientToken | None,
    tags: Mapping[str, Mapping[str, str]],
    *,
    keep_tags: bool,
) -> str:
    """Return the template text that makes a clone, which has all attributes of its original, an AMI of its own."""
    facts: Mapping[str, str] = token.facts if token is not None else {}
    given = {hex_name(PREFIX, key) for key in tags["image"]} | {
        hex_name(SNAPSHOT_TAG_PREFIX, key) for key in tags["snapshot"]
    }
    foreign = [
        each
        for each in inherited_attributes(
            source, {IS_AMI, AMI_NAME, IS_SNAPSHOT, IS_AMI_SNAPSHOT, MARKED_IMAGE_ID, *facts, *given}
        )
        if not (keep_tags and each.startswith((PREFIX, "EC2_TAGS")))
    ]
    return template(
        *map(removal, foreign),
        _MARKS,
        named,
        *(attribute(each, value) for each, value in facts.items()),
        description_text(description) if description is not None else "",
        _tags_text(tags),
    )


def _tags_text(tags: Mapping[str, Mapping[str, str]]) -> str:
    return template(tag_text(tags["image"]), tag_text(tags["snapshot"], SNAPSHOT_TAG_PREFIX))
