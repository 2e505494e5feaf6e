"""New AMIs from what there is: the disk of an instance, or another AMI (EC2 CreateImage, CopyImage)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from econed.actions.action import action
from econed.actions.image_sources import demand_free, demand_name, refused
from econed.actions.image_view import MARK, MAX_DESCRIPTION, description_text
from econed.actions.images import amis
from econed.actions.inputs import TagSpecification, demand_showable
from econed.actions.instance_facts import CLIENT_TOKEN
from econed.actions.instance_state import InstanceState, is_busy
from econed.actions.instance_view import state_of
from econed.actions.machines import machines
from econed.actions.new_images import NewImage, announce, announced, conclude, restarted, withdraw
from econed.actions.regions import own_region
from econed.actions.tagging import PREFIX as TAG_PREFIX
from econed.actions.tagging import limited, specified, tag_text, tags_of
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal
from econed.ids import IMAGE, INSTANCE
from econed.opennebula.documents import Right
from econed.opennebula.session import MINE
from econed.opennebula.states import ImageState, VmState
from econed.opennebula.template import NotKeepable, attribute, hex_name, removal, template

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image, UserDocument, VirtualMachine

_PATIENCE = 12
"""Seconds to wait for a machine to come out of a passing state, before and after its disk is saved."""

_POWER_OFF_PATIENCE = 20
"""Seconds that a guest has to shut down. With oned's own answers a request stays below the 60 s of the SDKs."""

_EVERY = 0.5
_INHERITED = ("EC2_", "EBS")
"""How the attributes begin that a copy has from its original and that are not its own."""


@action()
async def create_image(
    call: Call,
    *,
    instance_id: str,
    name: str,
    description: str = "",
    no_reboot: bool = False,
    tag_specifications: Sequence[TagSpecification] = (),
) -> dict[str, Any]:
    """Save the root disk of an instance as an AMI (EC2 CreateImage; OpenNebula disk-saveas).

    A running instance is powered off first and started again when its disk is saved, by the reconciler if that takes
    long, unless NoReboot is given: then the disk is saved as it is, which is as after a loss of power. Other volumes
    are not saved. Where a call broke off, the same call again finishes it.

    Raises `EC2Error` InvalidAMIName.Malformed and .Duplicate, IncorrectInstanceState for an instance that is neither
    running nor stopped, or that does not shut down in time: it is then left running.
    """
    demand_name(name)
    facts = _facts(description, specified(tag_specifications, "image", "snapshot"))
    machine = await _at_rest(call, instance_id)
    user = await call.one.myself()
    before = next((new for new in announced(user) if new.name == name and new.machine == machine.id), None)
    image = await _made_before(call, before)
    if image is None:
        await demand_free(call, name)
    state = state_of(machine)
    if state not in (InstanceState.RUNNING, InstanceState.STOPPED) or not machine.disks:
        raise _incorrect_state(machine)
    powers_off = state is InstanceState.RUNNING and not no_reboot and image is None
    restart = powers_off or (before is not None and before.restart)
    new = NewImage(name, call.now, facts, machine.id, restart)
    made: list[int] = []

    async def make(machine: VirtualMachine) -> None:
        await announce(call.one, user, new)
        number = image.id if image is not None else await _saved(call, user, new, machine, powers_off)
        await conclude(call.one, user, new, number)
        made.append(number)

    await call.change_all(Right.MANAGE, (machine,), make)
    if restart:
        await _restart(call, user, new)
    return {"ImageId": IMAGE.format(made[0])}


@action(as_is={"Encrypted": False})
async def copy_image(
    call: Call,
    *,
    name: str,
    source_image_id: str,
    source_region: str,
    description: str = "",
    client_token: str = "",
    copy_image_tags: bool = False,
    tag_specifications: Sequence[TagSpecification] = (),
) -> dict[str, Any]:
    """Copy an AMI under a name of its own (EC2 CopyImage; OpenNebula image clone).

    The copy is the caller's, with no launch permissions; it has the tags of the original if CopyImageTags is given, and
    its description unless another is. With the same ClientToken the same copy is returned.

    Raises `EC2Error` InvalidAMIName.Malformed and .Duplicate, InvalidAMIID.Unavailable for an AMI that is not ready,
    and UnsupportedOperation for one in another region.
    """
    demand_name(name)
    added = specified(tag_specifications, "image", "snapshot")
    if source_region != await own_region(call):
        raise EC2Error("UnsupportedOperation", "Images are copied within a region only.")
    (source,) = await amis(call, (source_image_id,))
    limited(tags_of(source.template) if copy_image_tags else (), added)
    facts = _copy_facts(source, description, client_token, added, keep_tags=copy_image_tags)
    user = await call.one.myself()
    before = next((new for new in announced(user) if new.name == name and new.machine is None), None)
    image = await _made_before(call, before) or await _with_token(call, name, client_token)
    if image is not None and before is None:
        return {"ImageId": IMAGE.format(image.id)}
    if image is None:
        await demand_free(call, name)
    if source.state not in (ImageState.READY, ImageState.USED, ImageState.CLONE):
        raise EC2Error("InvalidAMIID.Unavailable", f"The image ID '{IMAGE.format(source.id)}' is not available")
    new = NewImage(name, call.now, facts)
    await announce(call.one, user, new)
    number = image.id if image is not None else await _cloned(call, user, new, source)
    await conclude(call.one, user, new, number)
    return {"ImageId": IMAGE.format(number)}


async def _made_before(call: Call, before: NewImage | None) -> Image | None:
    """Return the image that a call made which broke off before it was finished, if it got that far."""
    if before is None:
        return None
    return next((image for image in await call.one.images(MINE) if before.is_made_of(image)), None)


async def _with_token(call: Call, name: str, token: str) -> Image | None:
    if not token:
        return None
    found = (image for image in await call.one.images(MINE) if image.name == name)
    return next((image for image in found if image.template.text(CLIENT_TOKEN) == token), None)


async def _saved(call: Call, user: UserDocument, new: NewImage, machine: VirtualMachine, powers_off: bool) -> int:
    """Save the root disk of a machine, powered off first if it has to be; whatever fails, it is left as it was."""
    try:
        if powers_off:
            await call.one.vm_action("poweroff", machine.id)
    except OpenNebulaRefusal as refusal:
        await withdraw(call.one, user, new)
        raise (_incorrect_state(machine) if refusal.code == OpenNebulaCode.ACTION else refusal) from refusal
    try:
        if powers_off:
            await _is_off(call, machine)
        return await call.one.disk_save_as(machine.id, machine.disks[0].disk_id, new.name, "OS")
    except OpenNebulaRefusal as refusal:
        await _give_up(call, user, new)
        if refusal.code == OpenNebulaCode.ACTION:
            raise _incorrect_state(machine) from refusal
        raise await refused(call, new.name, refusal) from refusal
    except EC2Error:
        await _give_up(call, user, new)
        raise


async def _cloned(call: Call, user: UserDocument, new: NewImage, source: Image) -> int:
    try:
        return await call.one.image_clone(source.id, new.name)
    except OpenNebulaRefusal as refusal:
        await withdraw(call.one, user, new)
        raise await refused(call, new.name, refusal) from refusal


async def _give_up(call: Call, user: UserDocument, new: NewImage) -> None:
    """Have nothing left of an image that is not made; a machine that is still shutting down is started again later."""
    if new.restart and new.machine is not None and not await restarted(call.one, new.machine):
        await call.one.user_update(user.id, replace(new, began=0, facts="").text)
    else:
        await withdraw(call.one, user, new)


async def _restart(call: Call, user: UserDocument, new: NewImage) -> None:
    """Start a machine again when its disk is saved, if that is soon; the image is made, whatever becomes of this."""
    until = call.clock.seconds() + _PATIENCE
    try:
        while new.machine is not None and not await restarted(call.one, new.machine):
            if call.clock.seconds() >= until:
                return
            await call.pause(_EVERY)
        await withdraw(call.one, user, new)
    except OpenNebulaError:
        return  # the reconciler tries again


async def _at_rest(call: Call, instance_id: str) -> VirtualMachine:
    """Return a machine once it is in no passing state any more, or as it is when patience is over."""
    until = call.clock.seconds() + _PATIENCE
    while True:
        (machine,) = await machines(call, (instance_id,))
        if not is_busy(machine.state, machine.lcm_state) or call.clock.seconds() >= until:
            return machine
        await call.pause(_EVERY)


async def _is_off(call: Call, machine: VirtualMachine) -> None:
    """Wait for the guest to shut down; raises `EC2Error` IncorrectInstanceState if it does not in time."""
    until = call.clock.seconds() + _POWER_OFF_PATIENCE
    while call.clock.seconds() < until:
        (now,) = await call.one.vms([machine.id]) or (machine,)
        if now.state is VmState.POWEROFF:
            return
        await call.pause(_EVERY)
    raise EC2Error(
        "IncorrectInstanceState",
        f"The instance '{INSTANCE.format(machine.id)}' does not shut down. Stop it first, or use NoReboot.",
    )


def _incorrect_state(machine: VirtualMachine) -> EC2Error:
    return EC2Error(
        "IncorrectInstanceState",
        f"The instance '{INSTANCE.format(machine.id)}' is not in a state from which an image can be made.",
    )


def _facts(description: str, tags: dict[str, str]) -> str:
    """Return the template text that makes a saved disk an AMI."""
    demand_showable("Description", description, MAX_DESCRIPTION)
    described = description_text(description) if description else ""
    return template(attribute(MARK, "YES"), described, tag_text(tags))


def _copy_facts(source: Image, description: str, token: str, tags: dict[str, str], *, keep_tags: bool) -> str:
    """Return the template text that makes a clone, which has all attributes of its original, an AMI of its own."""
    demand_showable("Description", description, MAX_DESCRIPTION)
    described = description_text(description) if description else ""
    set_anew = {MARK, *(hex_name(TAG_PREFIX, key) for key in tags), *((CLIENT_TOKEN,) if token else ())}
    foreign = [
        name
        for name in source.template.names()
        if name.startswith(_INHERITED)
        and name not in set_anew
        and not (keep_tags and name.startswith((TAG_PREFIX, "EC2_TAGS")))
    ]
    try:
        marked = template(attribute(MARK, "YES"), attribute(CLIENT_TOKEN, token) if token else "")
    except NotKeepable:
        raise EC2Error("InvalidParameterValue", "The client token is not one that can be kept.") from None
    cleared = template(*map(removal, foreign))
    return template(cleared, marked, described, tag_text(tags))
