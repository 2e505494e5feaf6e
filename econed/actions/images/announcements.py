"""Images that oned makes in one step and that become AMIs in another: what is begun is finished, whatever dies between.

oned saves a disk, or copies an image, under a name and no more; what makes the result an AMI is put on it afterwards.
So the user announces an image before it is made (`EC2_NEW_IMAGE_<hex of the AMI's name>_<what it is made of>`): its
name, what is to be put on it, and the machine, if one was powered off for it and has to run again. The next call for
the same image goes on from there, and so does any process after a while (`finish_images`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from econed.actions.chores import change_unless_done
from econed.actions.client_tokens import ClientToken
from econed.actions.disk_images.ami_facts import SAVED_FROM_MACHINE
from econed.actions.disk_images.volume_facts import MARKED_IMAGE_ID
from econed.actions.images.names import demand_free, duplicate, image_name
from econed.actions.machines.state import is_busy
from econed.actions.machines.times import preserve_launch_time
from econed.actions.object_limits import MAX_ON_USER, check_size
from econed.actions.watch import watch
from econed.errors import EC2Error
from econed.ids import IMAGE
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import LcmState, VmState
from econed.opennebula.template import attribute, hex_name, removal, template, vector
from econed.opennebula.values import epoch_seconds, whole_number

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.chores import ChoreRun
    from econed.opennebula.documents import Image, UserDocument, VirtualMachine
    from econed.opennebula.session import Session

PREFIX = "EC2_NEW_IMAGE_"
"""How the attributes of a user begin that announce an image."""

MAX_ANNOUNCED = 1000
"""Images that one user may have announced at once."""

REQUEST_AGE = 120
"""Seconds after which an announcement belongs to no request any more."""

_AT_A_LOOK = 20
"""Announcements that are finished in one look after a user."""

_CLOCKS = 300
"""Seconds by which oned's clock may be behind ours."""


@dataclass(frozen=True)
class NewImage:
    """An image that is being made.

    `name` is that of the AMI, `image_name` that of its image in OpenNebula. `began` is when it was announced (epoch
    seconds; 0: nobody is at work on it now). `facts` is the template text that makes it an AMI, empty once it is one.
    `attribute` is what announces it. `machine` is whose disk it is saved from, None of a copy; `restart` says that this
    machine is to run again. `token` is that of the call, if it has one.
    """

    name: str
    image_name: str
    began: int
    facts: str
    attribute: str
    machine: int | None = None
    restart: bool = False
    token: ClientToken | None = None

    @property
    def text(self) -> str:
        """The announcement as template text."""
        members = {
            "NAME": self.name,
            "IMAGE_NAME": self.image_name,
            "BEGAN": str(self.began),
            "FACTS": base64.b64encode(self.facts.encode()).decode("ascii"),
            "VMID": "" if self.machine is None else str(self.machine),
            "RESTART": "YES" if self.restart else "",
            "TOKEN": self.token.text if self.token is not None else "",
            "DIGEST": self.token.digest if self.token is not None else "",
        }
        return vector(self.attribute, {name: value for name, value in members.items() if value})

    @classmethod
    def read(cls, attribute: str, members: Mapping[str, str]) -> NewImage | None:
        """Return what an announcement says, None if it is none."""
        name, began, machine = members.get("NAME"), epoch_seconds(members.get("BEGAN", "")), members.get("VMID")
        number = None if machine is None else whole_number(machine)
        if not name or began is None or (machine is not None and number is None):
            return None
        try:
            return cls(
                name=name,
                image_name=members.get("IMAGE_NAME", name),
                began=began,
                facts=base64.b64decode(members.get("FACTS", ""), validate=True).decode(),
                attribute=attribute,
                machine=number,
                restart="RESTART" in members,
                token=ClientToken(members["TOKEN"], members.get("DIGEST", "")) if "TOKEN" in members else None,
            )
        except (binascii.Error, ValueError):
            return None

    def is_made_of(self, image: Image) -> bool:
        """Whether an image is this one, and not another to which its name was given."""
        if image.name != self.image_name or image.regtime < self.began - _CLOCKS:
            return False
        return self.machine is None or image.template.text(SAVED_FROM_MACHINE) == str(self.machine)


def announced_images(user: UserDocument) -> tuple[NewImage, ...]:
    """Return the images that a user has announced and that are not finished, `MAX_ANNOUNCED` at most."""
    attributes = user.attributes_named(PREFIX, MAX_ANNOUNCED)
    found = (NewImage.read(name, attributes.vector(name)) for name in attributes.names())
    return tuple(each for each in found if each is not None)


def announcement_of_machine(name: str, machine_id: int) -> str:
    """Return the attribute that announces an AMI of a machine's disk."""
    return f"{hex_name(PREFIX, name)}_{machine_id}"


def announcement_of_copy(name: str, image_id: int, token: ClientToken | None) -> str:
    """Return the attribute that announces an AMI that is a copy of an image, by the call with this token alone."""
    copied = f"{hex_name(PREFIX, name)}_C{image_id}"
    if token is None:
        return copied
    call = hashlib.sha256(f"{token.digest} {token.text}".encode()).hexdigest()[:32]
    return f"{copied}_{call.upper()}"


async def new_image_name(
    call: Call, owned: Sequence[Image], user: UserDocument, name: str, announcement: str = ""
) -> str:
    """Return the name in OpenNebula of the image of a new AMI of the caller's.

    `owned` are the caller's images, read before `user`; `announcement` is the attribute that announces this AMI. Raises
    `EC2Error` InvalidAMIName.Duplicate if there is an AMI of the name, or another one is being made.
    """
    check_name_available(call, owned, user, name, announcement)
    own_name = image_name(owned, name)
    if own_name != name:
        # An image that has the name and no announcement is none that becomes an AMI: or it has become one since.
        demand_free(await call.session.images(OwnerFilter.MINE), name)
    return own_name


def check_name_available(
    call: Call,
    owned: Sequence[Image],
    user: UserDocument,
    name: str,
    announcement: str = "",
    besides: int | None = None,
) -> None:
    """Raise `EC2Error` InvalidAMIName.Duplicate if there is an AMI of a name, or another one is being made.

    It is being made as long as a call is at work on it, and after that if there is its image, not yet marked.
    """
    demand_free(owned, name, besides)
    for new in announced_images(user):
        if new.name == name and new.facts and new.attribute != announcement:
            made = [image for image in owned if new.is_made_of(image)]
            if made or new.began > call.now - REQUEST_AGE:
                raise duplicate(name, IMAGE.format(made[0].id) if made else "that is being made")


async def announce(call: Call, user: UserDocument, new: NewImage) -> None:
    """Write down what is about to be made; raises `EC2Error` where the user has as much as may be kept on one."""
    full = EC2Error("ResourceLimitExceeded", "Too many images are being made. Try again when they are available.")
    if len(user.attributes_named(PREFIX, MAX_ANNOUNCED)) >= MAX_ANNOUNCED:
        raise full
    await call.in_thread(lambda: check_size(user.template, new.text, MAX_ON_USER, full))
    await watch(call.session, user, new.began)
    await call.session.user_update(user.id, new.text)


async def remove_announcement(session: Session, user: UserDocument, new: NewImage) -> None:
    """Take an announcement back: nothing is left to do."""
    await session.user_update(user.id, removal(new.attribute))


async def complete_image(session: Session, user: UserDocument, new: NewImage, image_id: int) -> None:
    """Make the image an AMI; what is then left is to let its machine run again, if it has to."""
    if new.facts:
        await session.image_update(image_id, _marks(new, image_id))
    if new.restart:
        await session.user_update(user.id, replace(new, began=0, facts="").text)
    else:
        await remove_announcement(session, user, new)


def is_marked(image: Image) -> bool:
    """Whether an image has been made the AMI that it was announced as; a copy has its original's marks until then."""
    return image.template.text(MARKED_IMAGE_ID) == str(image.id)


def _marks(new: NewImage, image_id: int) -> str:
    return template(new.facts, attribute(MARKED_IMAGE_ID, str(image_id)))


async def restart_machine(session: Session, machine_id: int) -> bool:
    """Let a machine run again that was powered off; False if it is not to be told yet what will become of it."""
    for machine in await session.vms([machine_id]):
        if machine.state is VmState.POWEROFF:
            await preserve_launch_time(session, machine)
            await change_unless_done(session.vm_action("resume", machine_id))
        elif _is_on_its_way(machine):
            return False
    return True


def _is_on_its_way(machine: VirtualMachine) -> bool:
    shutting_down = machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.SHUTDOWN_POWEROFF
    return shutting_down or is_busy(machine.state, machine.lcm_state)


async def finish_images(run: ChoreRun) -> None:
    """Finish the images that requests announced and did not see through (a chore).

    Not more than `_AT_A_LOOK` at a time: the user may have written any number of announcements.
    """
    all_announced = announced_images(run.user)
    due = [new for new in all_announced if new.began <= run.now - REQUEST_AGE][:_AT_A_LOOK]
    if len(due) < len(all_announced):
        run.keep_watching()
    if not due:
        return
    images = await run.session.images(OwnerFilter.MINE) if any(new.facts for new in due) else ()
    for new in due:
        image = next((image for image in images if new.is_made_of(image)), None)
        if image is not None and new.facts:
            run.log.info("image {id} becomes the AMI that it was made for", id=image.id)
            await run.session.image_update(image.id, _marks(new, image.id))
        if new.restart and new.machine is not None and not await restart_machine(run.session, new.machine):
            run.keep_watching()
            continue
        await remove_announcement(run.session, run.user, new)
