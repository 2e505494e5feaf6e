"""Announcements of new AMIs, from which any process can finish what a process that died has begun.

oned saves a disk, or clones an image, under a name only; the attributes that make the result an AMI are added
afterwards. Each AMI is therefore announced before its image is created, in an attribute of the user
(`EC2_NEW_IMAGE_<hex of the AMI's name>_<source>`): its name, the attributes to add, and the machine, if one was powered
off for it and must be restarted. The next call for the same AMI continues from there, and so does the chore
(`econed.actions.images.chores.finish_images`) after a while.
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
from econed.actions.images.names import check_name_unused, duplicate_name, unused_image_name
from econed.actions.machines.state import is_busy
from econed.actions.machines.times import preserve_launch_time
from econed.actions.object_limits import MAX_ON_USER, check_size
from econed.actions.watch import watch
from econed.errors import EC2Error, OpenNebulaRefusal
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import LcmState, VmState
from econed.opennebula.template import attribute, hex_name, removal, template, vector
from econed.opennebula.values import epoch_seconds, whole_number

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image, UserDocument, VirtualMachine
    from econed.opennebula.session import Session

PREFIX = "EC2_NEW_IMAGE_"
"""Prefix of the attributes of a user that announce AMIs."""

MAX_ANNOUNCED = 1000
"""Maximum number of announcements of one user."""

REQUEST_AGE = 120
"""Seconds after which no request is working on an announced AMI any more."""

_MAX_CLOCK_SKEW = 300
"""Seconds by which oned's clock may be behind econed's."""


@dataclass(frozen=True)
class NewImage:
    """An AMI that is being created.

    `name` is that of the AMI, `image_name` that of its image in OpenNebula. `announced_at` is in epoch seconds; 0 means
    that no request is working on it. `facts` is the template text that makes the image an AMI, empty afterwards.
    `attribute` is the name of the user's attribute that announces it. `machine_id` is the machine whose disk is saved,
    None for a copy; `must_restart` means that this machine must be restarted. `token` is that of the call, if any.
    """

    name: str
    image_name: str
    announced_at: int
    facts: str
    attribute: str
    machine_id: int | None = None
    must_restart: bool = False
    token: ClientToken | None = None

    @property
    def text(self) -> str:
        """The announcement as template text."""
        members = {
            "NAME": self.name,
            "IMAGE_NAME": self.image_name,
            "BEGAN": str(self.announced_at),
            "FACTS": base64.b64encode(self.facts.encode()).decode("ascii"),
            "VMID": "" if self.machine_id is None else str(self.machine_id),
            "RESTART": "YES" if self.must_restart else "",
            "TOKEN": self.token.text if self.token is not None else "",
            "DIGEST": self.token.digest if self.token is not None else "",
        }
        return vector(self.attribute, {name: value for name, value in members.items() if value})

    @classmethod
    def read(cls, attribute: str, members: Mapping[str, str]) -> NewImage | None:
        """Return the AMI that an attribute announces; None if the attribute is not a valid announcement."""
        name, announced_at = members.get("NAME"), epoch_seconds(members.get("BEGAN", ""))
        machine_id = whole_number(members["VMID"]) if "VMID" in members else None
        if not name or announced_at is None or ("VMID" in members and machine_id is None):
            return None
        try:
            return cls(
                name=name,
                image_name=members.get("IMAGE_NAME", name),
                announced_at=announced_at,
                facts=base64.b64decode(members.get("FACTS", ""), validate=True).decode(),
                attribute=attribute,
                machine_id=machine_id,
                must_restart="RESTART" in members,
                token=ClientToken(members["TOKEN"], members.get("DIGEST", "")) if "TOKEN" in members else None,
            )
        except (binascii.Error, ValueError):
            return None

    def is_image(self, image: Image) -> bool:
        """Whether an image was created for this announcement, and not merely given the same name."""
        if image.name != self.image_name or image.regtime < self.announced_at - _MAX_CLOCK_SKEW:
            return False
        return self.machine_id is None or image.template.text(SAVED_FROM_MACHINE) == str(self.machine_id)


def announced_images(user: UserDocument) -> tuple[NewImage, ...]:
    """Return the unfinished AMIs that a user has announced, at most `MAX_ANNOUNCED`."""
    attributes = user.attributes_named(PREFIX, MAX_ANNOUNCED)
    images = (NewImage.read(name, attributes.vector(name)) for name in attributes.names())
    return tuple(image for image in images if image is not None)


def announcement_of_machine(name: str, machine_id: int) -> str:
    """Return the name of the attribute that announces an AMI of a machine's disk."""
    return f"{hex_name(PREFIX, name)}_{machine_id}"


def announcement_of_copy(name: str, image_id: int, token: ClientToken | None) -> str:
    """Return the name of the attribute that announces a copy of an image; each client token has its own."""
    attribute_name = f"{hex_name(PREFIX, name)}_C{image_id}"
    if token is None:
        return attribute_name
    token_digest = hashlib.sha256(f"{token.digest} {token.text}".encode()).hexdigest()[:32]
    return f"{attribute_name}_{token_digest.upper()}"


async def new_image_name(
    call: Call, owned: Sequence[Image], user: UserDocument, name: str, announcement: str = ""
) -> str:
    """Return the name in OpenNebula for the image of the caller's new AMI.

    `owned` are the caller's images, read before `user`; `announcement` is the attribute that announces this AMI. Raises
    `EC2Error` InvalidAMIName.Duplicate if another AMI has the name, or is being created with it.
    """
    check_name_available(call, owned, user, name, announcement)
    image_name = unused_image_name(owned, name)
    if image_name != name:
        # An image with this name is not announced: either it will not become an AMI, or it has become one since.
        check_name_unused(await call.session.images(OwnerFilter.MINE), name)
    return image_name


def check_name_available(
    call: Call,
    owned: Sequence[Image],
    user: UserDocument,
    name: str,
    announcement: str = "",
    ignored_id: int | None = None,
) -> None:
    """Raise `EC2Error` InvalidAMIName.Duplicate if another AMI has the name, or is being created with it.

    An AMI is being created while a request works on it, and afterwards if its image exists and is not marked yet.
    """
    check_name_unused(owned, name, ignored_id)
    for new in announced_images(user):
        if new.name == name and new.facts and new.attribute != announcement:
            images = [image for image in owned if new.is_image(image)]
            if images or new.announced_at > call.now - REQUEST_AGE:
                raise duplicate_name(name, images[0] if images else None)


async def announce(call: Call, user: UserDocument, new: NewImage) -> None:
    """Announce an AMI; raises `EC2Error` ResourceLimitExceeded if no more can be stored on the user."""
    error = EC2Error("ResourceLimitExceeded", "Too many images are being created. Try again when they are available.")
    if len(user.attributes_named(PREFIX, MAX_ANNOUNCED)) >= MAX_ANNOUNCED:
        raise error
    await call.in_thread(lambda: check_size(user.template, new.text, MAX_ON_USER, error))
    await watch(call.session, user, new.announced_at)
    await call.session.user_update(user.id, new.text)


async def remove_announcement(session: Session, user: UserDocument, new: NewImage) -> None:
    """Remove the announcement of an AMI for which nothing is left to do."""
    await session.user_update(user.id, removal(new.attribute))


async def complete_image(session: Session, user: UserDocument, new: NewImage, image_id: int) -> None:
    """Make the image an AMI, and remove its announcement unless its machine must be restarted."""
    if new.facts:
        await session.image_update(image_id, marks_text(new, image_id))
    if new.must_restart:
        await session.user_update(user.id, replace(new, announced_at=0, facts="").text)
    else:
        await remove_announcement(session, user, new)


def is_marked(image: Image) -> bool:
    """Whether an image has its own marks; a copy has those of its original until it is completed."""
    return image.template.text(MARKED_IMAGE_ID) == str(image.id)


def marks_text(new: NewImage, image_id: int) -> str:
    """Return the template text that makes the image of an announcement an AMI."""
    return template(new.facts, attribute(MARKED_IMAGE_ID, str(image_id)))


async def restart_machine(session: Session, machine_id: int) -> bool:
    """Restart a machine that was powered off.

    Returns False, to try again later, if it is in a transitional state, or if a quota of its owner is used up.
    """
    for machine in await session.vms([machine_id]):
        if machine.state is VmState.POWEROFF:
            await preserve_launch_time(session, machine)
            try:
                await change_unless_done(session.vm_action("resume", machine_id))
            except OpenNebulaRefusal as refusal:
                if refusal.is_quota:
                    return False
                raise
        elif _is_in_transition(machine):
            return False
    return True


def _is_in_transition(machine: VirtualMachine) -> bool:
    is_shutting_down = machine.state is VmState.ACTIVE and machine.lcm_state is LcmState.SHUTDOWN_POWEROFF
    return is_shutting_down or is_busy(machine.state, machine.lcm_state)
