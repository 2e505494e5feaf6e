"""Views of oned's documents: images, templates, users, datastores, zones and clusters; other views are re-exported.

Source of the element names: OpenNebula's XSD files, and recordings of 5.12 and 7.4.
"""

from __future__ import annotations

import re
from functools import cached_property
from itertools import chain

from econed.opennebula.attributes import Attributes, Value, Vector
from econed.opennebula.machines import Disk, HistoryRecord, Nic, VirtualMachine
from econed.opennebula.networks import HELD, AddressRange, Lease, NetworkTemplate, VirtualNetwork
from econed.opennebula.security_groups import SecurityGroup
from econed.opennebula.states import DatastoreType, ImageState, ImageType
from econed.opennebula.values import epoch_seconds, whole_number
from econed.opennebula.views import Lock, OnRead, OwnedView, Permissions, Right, View
from econed.opennebula.vm_groups import VmGroup
from econed.user import LoginToken

__all__ = [
    "HELD",
    "AddressRange",
    "Attributes",
    "Cluster",
    "Datastore",
    "Disk",
    "HistoryRecord",
    "Image",
    "Lease",
    "Lock",
    "NetworkTemplate",
    "Nic",
    "OnRead",
    "OwnedView",
    "Permissions",
    "Right",
    "SecurityGroup",
    "UserDocument",
    "VMTemplate",
    "Value",
    "Vector",
    "View",
    "VirtualMachine",
    "VirtualNetwork",
    "VmGroup",
    "Zone",
]

MAX_LOGIN_TOKENS = 10
"""Login tokens of a user: as many as oned allows (LoginPool::MAX_TOKENS)."""

MAX_TOKEN_LENGTH = 1024
"""Characters of a login token: those that oned makes have 64, users may choose any others."""

_NEVER = _NO_GROUP = "-1"
_DEV_PREFIX = re.compile(r"[a-z]{2,3}", re.ASCII)


class Image(OwnedView):
    """An image: a disk that machines boot from, a persistent disk, or a file."""

    @property
    def state(self) -> ImageState:
        """Its state."""
        return ImageState(self._number("STATE"))

    @property
    def type(self) -> ImageType:
        """Its type."""
        return ImageType(self._number("TYPE"))

    @property
    def size(self) -> int:
        """Its size in MB."""
        return self._number("SIZE", 0)

    @property
    def is_persistent(self) -> bool:
        """Whether a machine uses the image itself, not a copy; then only one machine can use it."""
        return self._flag("PERSISTENT")

    @property
    def format(self) -> str:
        """The disk format (raw, qcow2); until 5.12 FSTYPE stood for both the format and the file system."""
        return self._text("FORMAT") or self._text("FSTYPE")

    @property
    def file_system(self) -> str:
        """The file system requested when it was created empty; may be unknown."""
        return self._text("FS") or self._text("FSTYPE")

    @property
    def dev_prefix(self) -> str:
        """The prefix of the targets of its disks (DEV_PREFIX: sd, vd, …); sd where DEV_PREFIX is missing or invalid."""
        prefix = self.template.text("DEV_PREFIX")
        return prefix if _DEV_PREFIX.fullmatch(prefix) else "sd"

    @property
    def path(self) -> str:
        """The file or URL it was created from; for a copy, where oned stores the image that was copied."""
        return self._text("PATH")

    @property
    def datastore_id(self) -> int:
        """The id of its datastore; -1 where there is none yet."""
        return self._number("DATASTORE_ID", -1)

    @property
    def datastore(self) -> str:
        """The name of its datastore."""
        return self._text("DATASTORE")

    @property
    def regtime(self) -> int:
        """When it was created, in seconds since the epoch."""
        return self._number("REGTIME")

    @property
    def running_vms(self) -> int:
        """How many machines use it."""
        return self._number("RUNNING_VMS", 0)

    @property
    def vm_ids(self) -> tuple[int, ...]:
        """The ids of the machines that use it."""
        return self._numbers("VMS/ID")

    @cached_property
    def template(self) -> Attributes:
        """Its free attributes."""
        return self._attributes("TEMPLATE")


class VMTemplate(OwnedView):
    """A template for machines."""

    @property
    def regtime(self) -> int:
        """When it was created, in seconds since the epoch."""
        return self._number("REGTIME")

    @cached_property
    def template(self) -> Attributes:
        """The attributes of its machines: capacity, DISKs, NICs, CONTEXT and free attributes."""
        return self._attributes("TEMPLATE")


class _Ids(View):
    """A list of ids."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids."""
        return self._numbers("ID")


class _LoginTokenElement(View):
    """A login token in a user's document."""

    @property
    def token(self) -> LoginToken | None:
        """The token; None if it is empty, too long, or its time or group is no number."""
        text, expires, group = self._text("TOKEN"), self._text("EXPIRATION_TIME"), self._text("EGID", _NO_GROUP)
        ends, group_id = epoch_seconds(expires), whole_number(group)
        is_known = (expires == _NEVER or ends is not None) and (group == _NO_GROUP or group_id is not None)
        return LoginToken(text, ends, group_id) if is_known and 0 < len(text) <= MAX_TOKEN_LENGTH else None


class UserDocument(View):
    """A user of OpenNebula.

    oned does not escape login tokens, for which users may choose any text. So a user may have written elements of any
    name into their own document, after those that are read of it (but tokens and attributes): the first counts.
    """

    @property
    def id(self) -> int:
        """The OpenNebula id; oneadmin is 0."""
        return self._number("ID")

    @property
    def name(self) -> str:
        """The login name."""
        return self._text("NAME")

    @property
    def gid(self) -> int:
        """The id of the primary group."""
        return self._number("GID")

    @property
    def gname(self) -> str:
        """The name of the primary group."""
        return self._text("GNAME")

    @property
    def group_ids(self) -> frozenset[int]:
        """The ids of all groups, the primary group included."""
        return frozenset(chain.from_iterable(groups.ids for groups in self._views(_Ids, "GROUPS")[:1])) | {self.gid}

    @property
    def password(self) -> str:
        """The password as stored by oned: a hash, the password itself, or a DN, depending on the driver."""
        return self._text("PASSWORD")

    @property
    def driver(self) -> str:
        """The authentication driver (AUTH_DRIVER): core, public, x509, server_cipher, …."""
        return self._text("AUTH_DRIVER")

    @property
    def is_enabled(self) -> bool:
        """Whether the user may log in. oned ignores it when serveradmin makes a call in the user's name."""
        return self._flag("ENABLED")

    @property
    def login_tokens(self) -> tuple[LoginToken, ...]:
        """The login tokens, also those that have expired, except those that are not as oned writes them."""
        views = self._views(_LoginTokenElement, "LOGIN_TOKEN", MAX_LOGIN_TOKENS)
        return tuple(token for view in views if (token := view.token) is not None)

    def attribute(self, name: str) -> str:
        """Return the text of a free attribute, empty if there is none, without reading the others."""
        return self._few("TEMPLATE", name).get(name, "")

    def attributes_named(self, prefix: str, max_count: int) -> Attributes:
        """Return the first `max_count` free attributes whose names begin with `prefix`."""
        return self._attributes("TEMPLATE", prefix, max_count)

    def attributes_with(self, *names: str) -> Attributes:
        """Return the first free attribute with each of these names, without reading the others."""
        return self._attributes_with("TEMPLATE", *names)

    @cached_property
    def template(self) -> Attributes:
        """The free attributes; reading them takes about a second where a user's document is as long as allowed."""
        return self._attributes("TEMPLATE")


class Datastore(OwnedView):
    """A datastore for images, for the disks of running machines, or for files."""

    @property
    def type(self) -> DatastoreType:
        """What it stores."""
        return DatastoreType(self._number("TYPE"))

    @property
    def is_usable(self) -> bool:
        """Whether it is enabled (STATE 0)."""
        return self._number("STATE", 0) == 0

    @property
    def cluster_ids(self) -> tuple[int, ...]:
        """The ids of the clusters whose hosts can access it."""
        return self._numbers("CLUSTERS/ID")

    @property
    def free_mb(self) -> int:
        """The free space in MB, as last monitored."""
        return self._number("FREE_MB", 0)

    @cached_property
    def template(self) -> Attributes:
        """Its attributes."""
        return self._attributes("TEMPLATE")


class Zone(View):
    """A zone of a federation; a cloud outside any federation is zone 0."""

    @cached_property
    def id(self) -> int:
        """The OpenNebula id."""
        return self._number("ID")

    @cached_property
    def name(self) -> str:
        """The name."""
        return self._text("NAME")

    @cached_property
    def endpoint(self) -> str:
        """The URL of its oned."""
        return self._text("TEMPLATE/ENDPOINT")


class Cluster(View):
    """A group of hosts that share datastores and networks. Ordinary users cannot list them."""

    @property
    def id(self) -> int:
        """The OpenNebula id."""
        return self._number("ID")

    @property
    def name(self) -> str:
        """The name."""
        return self._text("NAME")

    @property
    def host_ids(self) -> tuple[int, ...]:
        """The ids of its hosts."""
        return self._numbers("HOSTS/ID")

    @property
    def datastore_ids(self) -> tuple[int, ...]:
        """The ids of the datastores that its hosts can access."""
        return self._numbers("DATASTORES/ID")

    @property
    def network_ids(self) -> tuple[int, ...]:
        """The ids of the networks that its hosts can access."""
        return self._numbers("VNETS/ID")
