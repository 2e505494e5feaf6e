"""Mappings for a sandbox in which objects have other ids, and users other names, than in the recordings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lxml import etree
from twisted.internet.task import Clock

from econed.sandbox.oned import Oned
from tests.sandbox.random_macs import RandomMacs
from tests.sandbox.replay import Call, IdMapping

NAMES = {"alice": "zoe", "bob": "yves", "carol": "xenia", "dave": "walt", "erin": "vera", "lena": "uma"}
NAMES |= {"sven": "theo", "xena": "rosa", "sera": "quinn", "nils": "paul"}
_GROUP_RULE = 0x200000000
_RECORDED_ADDRESS, _SANDBOX_ADDRESS = (re.compile(rf"(?<![\d.]){first}(?=(?:\.\d+){{3}})") for first in (10, 11))
_SANDBOX_MAC, _SANDBOX_INTERFACE = re.compile("^02:00:0b(?=:)"), re.compile(":bff:fe")
_FIRST_PORT = 5900
"""The port of the console of machine 0."""


_KINDS_BY_METHOD = {
    "user": "user",
    "group": "group",
    "host": "host",
    "vn": "net",
    "vntemplate": "vntemplate",
    "template": "template",
    "image": "image",
    "vm": "vm",
    "secgroup": "secgroup",
    "vmgroup": "vmgroup",
    "document": "document",
}
_OF_AN_EMPTY_ONED = frozenset({("user", 0), ("user", 1), ("group", 0), ("group", 1), ("secgroup", 0)})
_KINDS_BY_ELEMENT = {
    "USER": "user",
    "GROUP": "group",
    "HOST": "host",
    "VNET": "net",
    "VNTEMPLATE": "vntemplate",
    "VMTEMPLATE": "template",
    "IMAGE": "image",
    "VM": "vm",
    "SECURITY_GROUP": "secgroup",
    "VM_GROUP": "vmgroup",
    "DOCUMENT": "document",
}
_CREATING_ACTIONS = ("allocate", "clone")
_CREATING_METHODS = {
    "one.template.instantiate": "vm",
    "one.vm.disksaveas": "image",
    "one.vn.reserve": "net",
    "one.vntemplate.instantiate": "net",
    "one.acl.addrule": "acl",
}

# Paths of ids in documents: the first matching pattern determines the kind of object.
_ID_PATHS: Sequence[tuple[str, str]] = (
    (r"/(TEMPLATE|USER_TEMPLATE)/EC2_\w+/|/USER_TEMPLATE/", ""),
    (r"_QUOTA/NETWORK/ID$|/VNETS/ID$|/LEASE/VNET$|NETWORK_ID$", "net"),
    (r"IMAGE_QUOTA/IMAGE/ID$|/CLONES/ID$|/CLONING_ID$|/IMAGES/ID$|/(SAVED_)?IMAGE_ID$", "image"),
    (r"^USER_POOL/QUOTAS/ID$|/USERS/ID$|/UID$|/OWNER$", "user"),
    (r"^GROUP(_POOL)?/(QUOTAS|VLAN_RULES)/ID$|/GROUPS/ID$|/E?GID$", "group"),
    (r"_VMS/ID$|/VMS/ID$|/LEASE/VM$|/VMID$|/OID$|/SAVED_VM_ID$", "vm"),
    (r"/HOSTS/ID$|/HID$", "host"),
    (r"^VM(_POOL/VM)?/TEMPLATE/TEMPLATE_ID$", "template"),
    (r"^VNET(_POOL/VNET)?/(TEMPLATE/)?TEMPLATE_ID$", "vntemplate"),
    (r"/ROLES/ROLE/VMS$", "vm"),
    (r"/VMGROUP/VMGROUP_ID$", "vmgroup"),
    (r"/SECURITY_GROUP_ID$|/SECURITY_GROUPS$", "secgroup"),
)
_GENERATED_NAMES = {"vm": r"^VM(_POOL/VM)?/(NAME|DEPLOY_ID)$", "net": r"^VNET(_POOL/VNET)?/NAME$"}
_ID_TEXTS: Sequence[tuple[str, str]] = (
    (r'((?<!_)IMAGE_ID=")(\d+)', "image"),
    (r'(NETWORK_ID="?)(\d+)', "net"),
    (r'(SECURITY_GROUPS=")([\d, ]+)', "secgroup"),
    (r'(VMGROUP_ID=")(\d+)', "vmgroup"),
    (r'(NETWORK=\[ID=")(\d+)', "net"),
    (r'(IMAGE=\[ID=")(\d+)', "image"),
    (r'(SCHED_REQUIREMENTS="ID=)(\d+)', "net"),
)


class LearnedIds(IdMapping):
    """Learns from the calls that create objects which id each of them has in the sandbox.

    With `is_extract` the recording leaves out calls, which have created the members of pools that are not known.
    """

    def __init__(self, *, is_extract: bool = False) -> None:
        self._is_extract = is_extract
        self._sandbox_ids: dict[tuple[str, int], int] = {("template", -1): -1}
        self._recorded_ids: dict[tuple[str, int], int] = {}
        self._macs = RandomMacs()
        self._recorded_suffixes: dict[str, dict[str, str]] = {"vm": {}, "net": {}}
        """The ends of generated names of machines and networks in the recording, by those in the sandbox."""

    def learn(self, call: Call, value: Any) -> None:
        """Learn the id of the object that a call has created, or the ids and addresses in a document."""
        if call.method == "one.vn.info":
            self._macs.learn(*(etree.fromstring(document.encode()) for document in (call.reply[1], value)))
        if call.method == "one.acl.info":
            self._learn_rules(*(etree.fromstring(document.encode()) for document in (call.reply[1], value)))
        prefix, _, action = call.method.removeprefix("one.").partition(".")
        kind = _CREATING_METHODS.get(call.method)
        if kind is None and action in _CREATING_ACTIONS:
            kind = _KINDS_BY_METHOD.get(prefix)
        if kind is not None:
            self._sandbox_ids[kind, int(call.reply[1])] = int(value)
            self._recorded_ids[kind, int(value)] = int(call.reply[1])
        if kind is not None and action == "instantiate" and not call.args[1]:
            self._recorded_suffixes[kind][f"-{value}"] = f"-{call.reply[1]}"

    def _learn_rules(self, recorded: etree._Element, replayed: etree._Element) -> None:
        """Learn the ids of ACL rules, which both have in the order in which they were added."""
        theirs, ours = (
            sorted(int(rule.text or "") for rule in pool.iterfind("ACL/ID")) for pool in (recorded, replayed)
        )
        for recorded_id, sandbox_id in zip(theirs, ours, strict=True):
            self._sandbox_ids["acl", recorded_id] = sandbox_id

    def remove_left_out(self, recorded: etree._Element) -> None:
        """Remove members of pools and groups, and machines of security groups, of calls outside an extract."""
        if not self._is_extract:
            return
        known = self._sandbox_ids.keys() | _OF_AN_EMPTY_ONED
        for member in list(recorded):
            kind = _KINDS_BY_ELEMENT.get(str(member.tag))
            if kind is not None and len(member) and (kind, int(member.findtext("ID", ""))) not in known:
                recorded.remove(member)
        for path, kind in (("SECURITY_GROUP/UPDATED_VMS", "vm"), ("USERS", "user")):
            for members in recorded.iterfind(path):
                for member in members.findall("ID"):
                    if (kind, int(member.text or "")) not in known:
                        members.remove(member)

    def sandbox_id(self, kind: str, recorded_id: int) -> int:
        """Return the id in the sandbox of a recorded object."""
        return self._sandbox_ids.get((kind, recorded_id), recorded_id)

    def arguments(self, call: Call) -> Sequence[Any]:
        """Return the arguments with names and ids of the sandbox."""
        handler = _ARGUMENTS.get(call.method)
        args: list[Any] = [self._text(arg) if isinstance(arg, str) else arg for arg in call.args]
        if handler is not None:
            return handler(self, args)
        prefix, _, action = call.method.removeprefix("one.").partition(".")
        if prefix in _KINDS_BY_METHOD and action != "allocate" and args and type(args[0]) is int:
            args[0] = self.sandbox_id(_KINDS_BY_METHOD[prefix], args[0])
        if prefix.endswith("pool") and action in ("info", "infoextended") and args:
            return self._pool(_KINDS_BY_METHOD[prefix.removesuffix("pool")], args)
        if action == "chown":
            args[1:] = [self.sandbox_id("user", args[1]), self.sandbox_id("group", args[2])]
        return args

    def _pool(self, kind: str, args: list[Any]) -> list[Any]:
        """Return the arguments of a pool call: an owner, and a range of ids or, if the second is below -1, a page."""
        owner, start, end, *rest = args
        ids = (start, end) if end < -1 else (self.sandbox_id(kind, start), self.sandbox_id(kind, end))
        return [self.sandbox_id("user", owner), *ids, *rest]

    def _text(self, text: str) -> str:
        for pattern, kind in _ID_TEXTS:
            text = re.sub(pattern, partial(self._with_sandbox_ids, kind), text)
        return text

    def _with_sandbox_ids(self, kind: str, match: re.Match[str]) -> str:
        """Return the match of an `_ID_TEXTS` pattern with the ids of the sandbox."""
        return match[1] + re.sub(r"\d+", lambda recorded_id: str(self.sandbox_id(kind, int(recorded_id[0]))), match[2])

    def recorded(self, leaf: tuple[str, str]) -> tuple[str, str]:
        """Return an element with recorded ids."""
        path, value = leaf[0], self._macs.recorded(leaf[1])
        for kind, pattern in _GENERATED_NAMES.items():
            if re.search(pattern, path):
                for suffix, recorded_suffix in self._recorded_suffixes[kind].items():
                    value = value.replace(suffix, recorded_suffix)
                return path, value
        return path, self._with_recorded_ids(path, value)

    def _with_recorded_ids(self, path: str, value: str) -> str:
        deploy_id = re.fullmatch(r"one-(\d+)-(\d+)", value)
        if deploy_id:
            vm_id = int(deploy_id[1])
            return f"one-{self._recorded_ids.get(('vm', vm_id), vm_id)}-{deploy_id[2]}"
        document = re.fullmatch(r"document-(\d+)", value) if path.endswith("DOCUMENT/NAME") else None
        if document:
            return f"document-{self._recorded_ids.get(('document', int(document[1])), -1)}"
        network = re.fullmatch(r"ID=(\d+)", value) if path.endswith("/NIC/SCHED_REQUIREMENTS") else None
        if network:
            return f"ID={self._recorded_ids.get(('net', int(network[1])), -1)}"
        if path.endswith("/GRAPHICS/PORT"):
            return str(_FIRST_PORT + self._recorded_ids.get(("vm", int(value) - _FIRST_PORT), -1))
        kind = self._kind(path)
        if kind and re.fullmatch(r"\d+(,\d+)*", value):
            return ",".join(str(self._recorded_ids.get((kind, int(part)), int(part))) for part in value.split(","))
        return value

    @staticmethod
    def _kind(path: str) -> str:
        for pattern, kind in _ID_PATHS:
            if re.search(pattern, path):
                return kind
        parts = path.split("/")
        return _KINDS_BY_ELEMENT.get(parts[-2], "") if parts[-1] == "ID" and len(parts) in (2, 3) else ""


class ShiftedIds(LearnedIds):
    """Creates and deletes objects before the first call, so that ids differ for each kind, and renames the users.

    Private addresses are other ones too: 11.0.0.0/8 for 10.0.0.0/8.
    """

    def prepare(self, oned: Oned, clock: Clock) -> None:
        """Use up ids: of each kind another number, so that none is mistaken for one of another kind."""

        def do(method: str, *args: object) -> int:
            reply = oned.execute(method, oned.oneadmin, *args)
            assert reply[0] is True, reply
            return int(str(reply[1]))

        created: list[tuple[str, int]] = [("user", do("one.user.allocate", "early", "secret", "core", [0]))]
        created += [("host", do("one.host.allocate", f"early-{n}", "dummy", "dummy", 0)) for n in range(2)]
        text = 'NAME="early" VN_MAD="dummy" BRIDGE="b"'
        created += [("vn", do("one.vn.allocate", f'{text} AR=[TYPE="IP4",IP="1.2.3.4",SIZE="1"]', 0))]
        created += [("vntemplate", do("one.vntemplate.allocate", text)) for text in [text, text.replace("y", "y-2", 1)]]
        created += [("template", do("one.template.allocate", f'NAME="early-{n}"')) for n in range(3)]
        created += [
            ("image", do("one.image.allocate", f'NAME="early-{n}" TYPE="DATABLOCK" SIZE="1"', 1)) for n in range(2)
        ]
        created += [("secgroup", do("one.secgroup.allocate", 'NAME="early"'))]
        created += [("vmgroup", do("one.vmgroup.allocate", f'NAME="early-{n}"')) for n in range(5)]
        created += [("document", do("one.document.allocate", f'NAME="early-{n}"', 1)) for n in range(6)]
        created += [("group", do("one.group.allocate", "early"))]
        for _ in range(4):
            do("one.vm.action", "terminate", do("one.vm.allocate", 'CPU="1" MEMORY="1"', True))
        clock.advance(10)
        for prefix, object_id in created:
            do(f"one.{prefix}.delete", object_id)
        clock.advance(10)

    def _text(self, text: str) -> str:
        return _RECORDED_ADDRESS.sub("11", super()._text(text))

    def name(self, recorded: str) -> str:
        """Return the user name in the sandbox."""
        return NAMES.get(recorded, recorded)

    def recorded(self, leaf: tuple[str, str]) -> tuple[str, str]:
        """Return an element with recorded names and ids."""
        path, value = leaf[0], _with_recorded_address(self._macs.recorded(leaf[1]))
        if re.search(r"/UNAME$|USER/NAME$", path):
            return path, next((name for name, sandbox_name in NAMES.items() if sandbox_name == value), value)
        return super().recorded((path, value))


def _with_recorded_address(value: str) -> str:
    """Return a value with the recorded addresses, also those that follow from them: MAC, interface of IPv6."""
    value = _SANDBOX_ADDRESS.sub("10", value)
    return _SANDBOX_INTERFACE.sub(":aff:fe", _SANDBOX_MAC.sub("02:00:0a", value))


def _user_allocate(mapping: LearnedIds, args: list[Any]) -> list[Any]:
    return [mapping.name(args[0]), *args[1:3], [mapping.sandbox_id("group", gid) for gid in args[3]]]


def _login(mapping: LearnedIds, args: list[Any]) -> list[Any]:
    return [mapping.name(args[0]), *args[1:3], *(mapping.sandbox_id("group", egid) for egid in args[3:])]


def _user_and_group(mapping: LearnedIds, args: list[Any]) -> list[Any]:
    return [mapping.sandbox_id("user", args[0]), mapping.sandbox_id("group", args[1])]


def _vm_action(mapping: LearnedIds, args: list[Any]) -> list[Any]:
    return [args[0], mapping.sandbox_id("vm", args[1])]


def _vm_set(mapping: LearnedIds, args: list[Any]) -> list[Any]:
    return [",".join(str(mapping.sandbox_id("vm", int(vm_id))) for vm_id in args[0].split(",")), args[1]]


def _acl_rule(mapping: LearnedIds, args: list[Any]) -> list[Any]:
    user = int(args[0], 16)
    if user & _GROUP_RULE:
        user = _GROUP_RULE | mapping.sandbox_id("group", user & 0xFFFFFFFF)
    return [f"{user:x}", *args[1:]]


def _acl_rule_id(mapping: LearnedIds, args: list[Any]) -> list[Any]:
    return [mapping.sandbox_id("acl", args[0])]


def _security_group(mapping: LearnedIds, args: list[Any]) -> list[Any]:
    return [mapping.sandbox_id("vm", args[0]), args[1], mapping.sandbox_id("secgroup", args[2])]


def _vm_group(mapping: LearnedIds, args: list[Any]) -> list[Any]:
    return [mapping.sandbox_id("vm", args[0]), mapping.sandbox_id("vmgroup", args[1]), *args[2:]]


_ARGUMENTS: Mapping[str, Callable[[LearnedIds, list[Any]], list[Any]]] = {
    "one.user.allocate": _user_allocate,
    "one.user.login": _login,
    "one.user.addgroup": _user_and_group,
    "one.vm.action": _vm_action,
    "one.vmpool.infoset": _vm_set,
    "one.acl.addrule": _acl_rule,
    "one.acl.delrule": _acl_rule_id,
    "one.vm.vmgroupadd": _vm_group,
    "one.vm.attachsg": _security_group,
    "one.vm.detachsg": _security_group,
}
