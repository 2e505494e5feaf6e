"""A user's session on oned: the reads of `ReadSession`, and a typed method for each call that changes something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.errors import InvalidReply
from econed.opennebula.networks import FIRST_RANGE
from econed.opennebula.read_session import ReadSession
from econed.opennebula.template import attribute, template, vector

if TYPE_CHECKING:
    from ipaddress import IPv4Address

_APPEND = 1
_ALL_GROUPS = -1
"""The mode of `one.*.update` that merges: attributes that are sent replace those of the same name, others stay."""


class Session(ReadSession):
    """A session of `user` (`econed.user.Login`).

    Every method raises what `IOpenNebula` says. Methods that create an object return its id immediately, while oned may
    still be working on it.
    """

    # Virtual machines

    async def vm_allocate(self, text: str, hold: bool) -> int:
        """Create a machine from template text alone and return its id (one.vm.allocate).

        With `hold` it stays on HOLD until released.
        """
        return _id("one.vm.allocate", await self.oned.call(self.user, "one.vm.allocate", text, hold))

    async def instantiate(self, template_id: int, name: str, hold: bool, text: str) -> int:
        """Create a machine from a template and return its id (one.template.instantiate).

        `text` overrides the template: a DISK in it replaces all disks of the template, a CONTEXT the whole CONTEXT.
        With `hold` the machine stays on HOLD until released. With an empty `name` oned chooses a name.
        """
        vm_id = await self.oned.call(self.user, "one.template.instantiate", template_id, name, hold, text, False)
        return _id("one.template.instantiate", vm_id)

    async def vm_action(self, action: str, vm_id: int) -> None:
        """Start an action on a machine (one.vm.action: `poweroff`, `resume`, `terminate-hard`, …)."""
        await self.oned.call(self.user, "one.vm.action", action, vm_id)

    async def vm_update(self, vm_id: int, text: str) -> None:
        """Set attributes of a machine atomically; each replaces those of its name (one.vm.update, append)."""
        await self.oned.call(self.user, "one.vm.update", vm_id, text, _APPEND)

    async def vm_rename(self, vm_id: int, name: str) -> None:
        """Rename a machine (one.vm.rename)."""
        await self.oned.call(self.user, "one.vm.rename", vm_id, name)

    async def disk_attach(self, vm_id: int, text: str) -> None:
        """Attach a disk, given as a DISK in template text (one.vm.attach); the machine is in HOTPLUG meanwhile."""
        await self.oned.call(self.user, "one.vm.attach", vm_id, text)

    async def disk_detach(self, vm_id: int, disk_id: int) -> None:
        """Detach a disk (one.vm.detach)."""
        await self.oned.call(self.user, "one.vm.detach", vm_id, disk_id)

    async def nic_add_group(self, vm_id: int, nic_id: int, group_id: int) -> None:
        """Add a security group to a NIC (one.vm.attachsg, which 5.12 has not): at once, also while the machine runs."""
        await self.oned.call(self.user, "one.vm.attachsg", vm_id, nic_id, group_id)

    async def nic_remove_group(self, vm_id: int, nic_id: int, group_id: int) -> None:
        """Remove a security group from a NIC (one.vm.detachsg, which 5.12 has not)."""
        await self.oned.call(self.user, "one.vm.detachsg", vm_id, nic_id, group_id)

    async def nic_detach(self, vm_id: int, nic_id: int) -> None:
        """Detach a NIC, with its aliases (one.vm.detachnic); the machine is in HOTPLUG_NIC meanwhile."""
        await self.oned.call(self.user, "one.vm.detachnic", vm_id, nic_id)

    async def disk_resize(self, vm_id: int, disk_id: int, size: int) -> None:
        """Grow a disk to `size` MB (one.vm.diskresize)."""
        await self.oned.call(self.user, "one.vm.diskresize", vm_id, disk_id, str(size))

    async def disk_save_as(self, vm_id: int, disk_id: int, name: str, image_type: str) -> int:
        """Copy a disk into a new image, LOCKED until the copy is complete, and return its id (one.vm.disksaveas)."""
        image_id = await self.oned.call(self.user, "one.vm.disksaveas", vm_id, disk_id, name, image_type, -1)
        return _id("one.vm.disksaveas", image_id)

    # Images

    async def image_allocate(self, text: str, datastore_id: int) -> int:
        """Create an image, LOCKED until its content is there, and return its id (one.image.allocate)."""
        image_id = await self.oned.call(self.user, "one.image.allocate", text, datastore_id)
        return _id("one.image.allocate", image_id)

    async def image_clone(self, image_id: int, name: str) -> int:
        """Copy an image with all its attributes within its datastore and return the copy's id (one.image.clone)."""
        return _id("one.image.clone", await self.oned.call(self.user, "one.image.clone", image_id, name))

    async def image_update(self, image_id: int, text: str) -> None:
        """Set attributes of an image atomically (one.image.update, append)."""
        await self.oned.call(self.user, "one.image.update", image_id, text, _APPEND)

    async def image_rename(self, image_id: int, name: str) -> None:
        """Rename an image, in any state (one.image.rename)."""
        await self.oned.call(self.user, "one.image.rename", image_id, name)

    async def image_delete(self, image_id: int) -> None:
        """Delete an image that no machine uses (one.image.delete)."""
        await self.oned.call(self.user, "one.image.delete", image_id)

    async def image_persistent(self, image_id: int, persistent: bool) -> None:
        """Have machines use an image itself, or copies of it; only while no machine uses it (one.image.persistent)."""
        await self.oned.call(self.user, "one.image.persistent", image_id, persistent)

    async def image_share(self, image_id: int, shared: bool) -> None:
        """Grant or revoke USE of an image for its group and all others (one.image.chmod); other rights stay."""
        use = int(shared)
        await self.oned.call(self.user, "one.image.chmod", image_id, -1, -1, -1, use, -1, -1, use, -1, -1)

    # Users and networks

    async def user_update(self, user_id: int, text: str) -> None:
        """Set attributes of a user atomically (one.user.update, append).

        Unlike one.user.info, it refuses -1 for the session's user (512).
        """
        await self.oned.call(self.user, "one.user.update", user_id, text, _APPEND)

    async def user_login(self, name: str, token: str, seconds: int, group: int | None) -> None:
        """Make a login token with this text for a user, for one of their groups or for all (one.user.login).

        oned may make its life shorter, and changes nothing if the user has a token with this text. It refuses a text
        too many, another's group, and more rights than the session has, all with 4096.
        """
        if not token or seconds <= 0:
            raise ValueError("oned would remove login tokens")
        egid = _ALL_GROUPS if group is None else group
        await self.oned.call(self.user, "one.user.login", name, token, seconds, egid)

    async def vm_group_allocate(self, text: str) -> int:
        """Create a VM group from template text and return its id (one.vmgroup.allocate)."""
        return _id("one.vmgroup.allocate", await self.oned.call(self.user, "one.vmgroup.allocate", text))

    async def vm_group_update(self, group_id: int, text: str) -> None:
        """Set attributes of a VM group; refused with 8192 while machines are in it (one.vmgroup.update, append)."""
        await self.oned.call(self.user, "one.vmgroup.update", group_id, text, _APPEND)

    async def vm_group_delete(self, group_id: int) -> None:
        """Delete a VM group, even if machines are in it (one.vmgroup.delete)."""
        await self.oned.call(self.user, "one.vmgroup.delete", group_id)

    async def network_update(self, network_id: int, text: str) -> None:
        """Set attributes of a network atomically (one.vn.update, append)."""
        await self.oned.call(self.user, "one.vn.update", network_id, text, _APPEND)

    async def network_hold(self, network_id: int, ip: IPv4Address) -> None:
        """Reserve an address of a network; refused with 8192 where it is in use or held (one.vn.hold)."""
        await self.oned.call(self.user, "one.vn.hold", network_id, vector("LEASES", {"IP": str(ip)}))

    async def network_release(self, network_id: int, ip: IPv4Address) -> None:
        """Release an address that is held; no error where it is not held (one.vn.release)."""
        await self.oned.call(self.user, "one.vn.release", network_id, vector("LEASES", {"IP": str(ip)}))

    async def network_instantiate(self, template_id: int, text: str) -> int:
        """Create a network from a template and `text`, and return its id (one.vntemplate.instantiate).

        USE of the template is enough. oned names the network after the template and its id. In 7.x it is not READY at
        once, and ends in ERROR for text that 5.12 refuses with 16384.
        """
        network_id = await self.oned.call(self.user, "one.vntemplate.instantiate", template_id, "", text)
        return _id("one.vntemplate.instantiate", network_id)

    async def network_make_private(self, network_id: int) -> None:
        """Leave USE and MANAGE of a network to its owner only, in any state (one.vn.chmod)."""
        await self.oned.call(self.user, "one.vn.chmod", network_id, 1, 1, 0, 0, 0, 0, 0, 0, 0)

    async def network_reserve(self, network_id: int, name: str, first: IPv4Address, size: int) -> int:
        """Reserve consecutive addresses of a network's only range as a network, and return its id (one.vn.reserve).

        It has the network's attributes. Refused with 2048 where one of the addresses is not free, with 8192 for the
        name of another network of the user. oned does not check that the range has the last of the addresses.
        """
        members = {"NAME": name, "SIZE": str(size), "AR_ID": str(FIRST_RANGE), "IP": str(first)}
        text = template(*(attribute(key, value) for key, value in members.items()))
        return _id("one.vn.reserve", await self.oned.call(self.user, "one.vn.reserve", network_id, text))

    async def network_delete(self, network_id: int) -> None:
        """Delete a network without leases, held ones included; in 7.x it takes some time (one.vn.delete)."""
        await self.oned.call(self.user, "one.vn.delete", network_id)

    # Security groups

    async def security_group_allocate(self, text: str) -> int:
        """Create a security group and return its id; refused with 8192 for a name in use (one.secgroup.allocate)."""
        return _id("one.secgroup.allocate", await self.oned.call(self.user, "one.secgroup.allocate", text))

    async def security_group_update(self, group_id: int, text: str) -> None:
        """Set attributes of a security group atomically (one.secgroup.update, append).

        If there is a RULE in the text, the RULEs in it replace all the group's. oned then brings the rules of machines
        up to date.
        """
        await self.oned.call(self.user, "one.secgroup.update", group_id, text, _APPEND)

    async def security_group_delete(self, group_id: int) -> None:
        """Delete a security group that no machine uses (one.secgroup.delete)."""
        await self.oned.call(self.user, "one.secgroup.delete", group_id)


def _id(method: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidReply(method, f"{value!r} is not an id")
    return value
