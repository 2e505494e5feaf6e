"""The recorded scenes in a cloud where users have other names and all objects other numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.task import Clock

from econed.sandbox.oned import Oned
from tests.sandbox.replay import Call, IdMapping

NAMES = {"alice": "zoe", "bob": "yves", "carol": "xenia", "dave": "walt"}
_GROUP_RULE = 0x200000000

_PREFIXES = {
    "user": "user",
    "group": "group",
    "host": "host",
    "vn": "net",
    "template": "template",
    "image": "image",
    "vm": "vm",
    "secgroup": "secgroup",
}
_ROOTS = {
    "USER": "user",
    "GROUP": "group",
    "HOST": "host",
    "VNET": "net",
    "VMTEMPLATE": "template",
    "IMAGE": "image",
    "VM": "vm",
    "SECURITY_GROUP": "secgroup",
}
_MAKES = {"one.template.instantiate": "vm", "one.vm.disksaveas": "image", "one.image.clone": "image"}
_MAKES |= {"one.vn.reserve": "net", "one.template.clone": "template"}

# Where numbers stand in documents: the first pattern that matches a path says of what kind they are.
_PLACES: Sequence[tuple[str, str]] = (
    (r"/(TEMPLATE|USER_TEMPLATE)/EC2_\w+/|/USER_TEMPLATE/", ""),
    (r"_QUOTA/NETWORK/ID$|/VNETS/ID$|/LEASE/VNET$|NETWORK_ID$", "net"),
    (r"IMAGE_QUOTA/IMAGE/ID$|/CLONES/ID$|/CLONING_ID$|/IMAGES/ID$|/(SAVED_)?IMAGE_ID$", "image"),
    (r"^USER_POOL/QUOTAS/ID$|/USERS/ID$|/UID$|/OWNER$", "user"),
    (r"^GROUP_POOL/(QUOTAS|VLAN_RULES)/ID$|/GROUPS/ID$|/GID$", "group"),
    (r"_VMS/ID$|/VMS/ID$|/LEASE/VM$|/VMID$|/OID$|/SAVED_VM_ID$", "vm"),
    (r"/HOSTS/ID$|/HID$", "host"),
    (r"^VM(_POOL/VM)?/TEMPLATE/TEMPLATE_ID$", "template"),
    (r"/SECURITY_GROUP_ID$|/SECURITY_GROUPS$", "secgroup"),
)
_TEXTS: Sequence[tuple[str, str]] = (
    (r'((?<!_)IMAGE_ID=")(\d+)', "image"),
    (r'(NETWORK_ID="?)(\d+)', "net"),
    (r'(SECURITY_GROUPS=")(\d+)', "secgroup"),
    (r'(NETWORK=\[ID=")(\d+)', "net"),
)


class ShiftedIds(IdMapping):
    """Makes and removes things before the first call, so that numbers differ, by kind; and renames the users."""

    def __init__(self) -> None:
        self._there: dict[tuple[str, int], int] = {("template", -1): -1}
        self._back: dict[tuple[str, int], int] = {}
        self._words: dict[str, str] = {}

    def prepare(self, oned: Oned, clock: Clock) -> None:
        """Take numbers: two hosts, one network, three templates, two images, four machines, one of each else."""

        def do(method: str, *args: object) -> int:
            reply = oned.execute(method, oned.oneadmin, *args)
            assert reply[0] is True, reply
            return int(str(reply[1]))

        made: list[tuple[str, int]] = [("user", do("one.user.allocate", "early", "secret", "core", [0]))]
        made += [("host", do("one.host.allocate", f"early-{n}", "dummy", "dummy", 0)) for n in range(2)]
        made += [("vn", do("one.vn.allocate", 'NAME="early" VN_MAD="dummy" BRIDGE="b" AR=[IP="1.2.3.4",SIZE="1"]', 0))]
        made += [("template", do("one.template.allocate", f'NAME="early-{n}"')) for n in range(3)]
        made += [
            ("image", do("one.image.allocate", f'NAME="early-{n}" TYPE="DATABLOCK" SIZE="1"', 1)) for n in range(2)
        ]
        made += [("secgroup", do("one.secgroup.allocate", 'NAME="early"'))]
        made += [("group", do("one.group.allocate", "early"))]
        for _ in range(4):
            do("one.vm.action", "terminate", do("one.vm.allocate", 'CPU="1" MEMORY="1"', True))
        clock.advance(10)
        for prefix, number in made:
            do(f"one.{prefix}.delete", number)
        clock.advance(10)

    def name(self, recorded: str) -> str:
        """Return the other name."""
        return NAMES.get(recorded, recorded)

    def learn(self, call: Call, value: Any) -> None:
        """Take note of the number of what was made."""
        prefix, _, action = call.method.removeprefix("one.").partition(".")
        kind = _MAKES.get(call.method, _PREFIXES.get(prefix, "") if action == "allocate" else "")
        if kind:
            self._there[kind, int(call.reply[1])] = int(value)
            self._back[kind, int(value)] = int(call.reply[1])
        if call.method == "one.template.instantiate" and not call.args[1]:
            self._words[f"-{value}"] = f"-{call.reply[1]}"

    def _actual(self, kind: str, number: int) -> int:
        return self._there.get((kind, number), number)

    def arguments(self, call: Call) -> Sequence[Any]:
        """Return the arguments with the other names and numbers."""
        handler = _ARGUMENTS.get(call.method)
        args = [self._text(arg) if isinstance(arg, str) else arg for arg in call.args]
        if handler is not None:
            return handler(self, args)
        prefix, _, action = call.method.removeprefix("one.").partition(".")
        if prefix in _PREFIXES and action != "allocate" and args and type(args[0]) is int:
            args[0] = self._actual(_PREFIXES[prefix], args[0])
        return args

    def _text(self, text: str) -> str:
        for pattern, kind in _TEXTS:
            text = re.sub(pattern, lambda found, kind=kind: found[1] + str(self._actual(kind, int(found[2]))), text)  # type: ignore[misc]
        return text

    def recorded(self, leaf: tuple[str, str]) -> tuple[str, str]:
        """Return an element with the recorded names and numbers."""
        path, value = leaf
        if re.search(r"/UNAME$|USER/NAME$", path):
            return path, next((name for name, other in NAMES.items() if other == value), value)
        if re.search(r"^VM(_POOL/VM)?/(NAME|DEPLOY_ID)$", path):
            for word, before in self._words.items():
                value = value.replace(word, before)
            return path, value
        return path, self._renumbered(path, value)

    def _renumbered(self, path: str, value: str) -> str:
        target = re.fullmatch(r"one-(\d+)-(\d+)", value)
        if target:
            return f"one-{self._back.get(('vm', int(target[1])), int(target[1]))}-{target[2]}"
        kind = self._kind(path)
        if kind and re.fullmatch(r"\d+(,\d+)*", value):
            return ",".join(str(self._back.get((kind, int(part)), int(part))) for part in value.split(","))
        return value

    @staticmethod
    def _kind(path: str) -> str:
        for pattern, kind in _PLACES:
            if re.search(pattern, path):
                return kind
        parts = path.split("/")
        return _ROOTS.get(parts[-2], "") if parts[-1] == "ID" and len(parts) in (2, 3) else ""


def _user_allocate(mapping: ShiftedIds, args: list[Any]) -> list[Any]:
    return [mapping.name(args[0]), *args[1:3], [mapping._actual("group", gid) for gid in args[3]]]


def _chown(kind: str) -> Callable[[ShiftedIds, list[Any]], list[Any]]:
    def handle(mapping: ShiftedIds, args: list[Any]) -> list[Any]:
        return [mapping._actual(kind, args[0]), mapping._actual("user", args[1]), mapping._actual("group", args[2])]

    return handle


def _action(mapping: ShiftedIds, args: list[Any]) -> list[Any]:
    return [args[0], mapping._actual("vm", args[1])]


def _listed(mapping: ShiftedIds, args: list[Any]) -> list[Any]:
    if args[2] < -1:
        return args
    return [args[0], mapping._actual("vm", args[1]), mapping._actual("vm", args[2]), *args[3:]]


def _set(mapping: ShiftedIds, args: list[Any]) -> list[Any]:
    return [",".join(str(mapping._actual("vm", int(number))) for number in args[0].split(",")), args[1]]


def _rule(mapping: ShiftedIds, args: list[Any]) -> list[Any]:
    user = int(args[0], 16)
    if user & _GROUP_RULE:
        user = _GROUP_RULE | mapping._actual("group", user & 0xFFFFFFFF)
    return [f"{user:x}", *args[1:]]


def _group(mapping: ShiftedIds, args: list[Any]) -> list[Any]:
    return [mapping._actual("vm", args[0]), args[1], mapping._actual("secgroup", args[2])]


_ARGUMENTS: Mapping[str, Callable[[ShiftedIds, list[Any]], list[Any]]] = {
    "one.user.allocate": _user_allocate,
    "one.user.login": lambda mapping, args: [mapping.name(args[0]), *args[1:]],
    "one.vn.chown": _chown("net"),
    "one.template.chown": _chown("template"),
    "one.image.chown": _chown("image"),
    "one.vm.action": _action,
    "one.vmpool.info": _listed,
    "one.vmpool.infoextended": _listed,
    "one.vmpool.infoset": _set,
    "one.acl.addrule": _rule,
    "one.vm.attachsg": _group,
    "one.vm.detachsg": _group,
}
