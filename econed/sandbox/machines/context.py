"""CONTEXT: what oned makes of it when a machine is made or changed (oned: `VirtualMachineContext`).

oned replaces `$NAME`, `$NAME[ATTR]` and `$NAME[ATTR, KEY=VALUE]` in it, by nothing where there is no such thing; any
other `$` is a syntax error that makes the whole call fail. With NETWORK="YES" it adds ETHn_* for every NIC.
"""

from __future__ import annotations

import re

from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.networks import Network, is_automatic
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import not_allocated
from econed.sandbox.template import Vector

_NIC_ONLY, _INHERITED = False, True
_COMMON = (
    ("IP", "IP", _NIC_ONLY),
    ("MAC", "MAC", _NIC_ONLY),
    ("MASK", "NETWORK_MASK", _INHERITED),
    ("NETWORK", "NETWORK_ADDRESS", _INHERITED),
    ("GATEWAY", "GATEWAY", _INHERITED),
    ("DNS", "DNS", _INHERITED),
    ("SEARCH_DOMAIN", "SEARCH_DOMAIN", _INHERITED),
    ("MTU", "GUEST_MTU", _INHERITED),
    ("METRIC", "METRIC", _INHERITED),
    ("VLAN_ID", "VLAN_ID", _INHERITED),
    ("VROUTER_IP", "VROUTER_IP", _NIC_ONLY),
    ("VROUTER_MANAGEMENT", "VROUTER_MANAGEMENT", _NIC_ONLY),
    ("EXTERNAL", "EXTERNAL", _NIC_ONLY),
    ("IP6", "IP6_GLOBAL", _NIC_ONLY),
    ("IP6_ULA", "IP6_ULA", _NIC_ONLY),
    ("IP6_PREFIX_LENGTH", "PREFIX_LENGTH", _INHERITED),
    ("VROUTER_IP6", "VROUTER_IP6_GLOBAL", _NIC_ONLY),
)
_OLD = (
    ("CONTEXT_FORCE_IPV4", "CONTEXT_FORCE_IPV4", _INHERITED),
    ("GATEWAY6", "GATEWAY6", _INHERITED),
    ("METRIC6", "METRIC6", _INHERITED),
)
_NEW = (
    ("METHOD", "METHOD", _INHERITED),
    ("ROUTES", "ROUTES", _INHERITED),
    ("IP6_GATEWAY", "GATEWAY6", _INHERITED),
    ("IP6_METRIC", "IP6_METRIC", _INHERITED),
    ("IP6_METHOD", "IP6_METHOD", _INHERITED),
)
_VARIABLE = re.compile(
    r"(?P<escaped>\\.)"
    r"|\$(?P<name>\w+)(?!\w)"
    r"(?:\[[ \t]*(?P<part>\w+)(?:[ \t]*,[ \t]*(?P<key>\w+)[ \t]*=[ \t]*(?P<value>\"[^\"]*\"|\w+))?[ \t]*\]"
    r"|(?![ \t]*[\[\]=,]))",
    re.ASCII | re.DOTALL,
)
_SEPARATOR = "@^_^@"


def fill_context(machine: VirtualMachine, cloud: Cloud) -> None:
    """Set the machine's CONTEXT from what was asked for; refuses a `$` that oned cannot read (16384)."""
    if machine.context is None:
        return
    fixed: Vector = {name: machine.context[name] for name in ("DISK_ID", "TARGET") if name in machine.context}
    merged: Vector = {**_taken_apart(machine.context_asked), **fixed}
    if any("$" in value for value in merged.values()):
        merged = {name: _expand(value, machine, cloud) for name, value in merged.items()}
    if machine.context_asked.get("NETWORK", "").upper() == "YES":
        for nic in machine.nics:
            is_leased = nic["NIC_ID"] not in machine.without_network
            if is_leased or not is_automatic(nic):
                network = cloud.networks.find(int(nic["NETWORK_ID"])) if is_leased else None
                merged.update(_network_context(nic, machine.modern, network))
    machine.context = merged
    machine.changed()


def _taken_apart(asked: Vector) -> Vector:
    """Return the members as oned has them again after it joined them all, to expand their variables.

    A value with the separator in it so becomes several members; what then has no `=` is lost.
    """
    joined = _SEPARATOR.join(f"{name}={value}" for name, value in asked.items())
    parts = (part.partition("=") for part in joined.split(_SEPARATOR))
    return {name: value for name, equal, value in parts if equal}


def _network_context(nic: Vector, modern: bool, network: Network | None) -> Vector:
    found: Vector = {}
    for name, source, inherited in (*_COMMON, *(_NEW if modern else _OLD)):
        value = nic.get(source, "")
        if not value and inherited and network is not None:
            span = network.range(int(nic["AR_ID"]))
            value = (span.attributes.get(source, "") if span else "") or network.template.get(source)
        found[f"ETH{nic['NIC_ID']}_{name}"] = value
    return found


def _expand(text: str, machine: VirtualMachine, cloud: Cloud) -> str:
    def value_of(match: re.Match[str]) -> str:
        return match[0] if match["escaped"] else _variable(match, machine, cloud)

    expanded = _VARIABLE.sub(value_of, text)
    if "$" in _VARIABLE.sub("", text):
        raise not_allocated(
            f"Error allocating a new virtual machine template. Error parsing: {text}. syntax error, unexpected EOA, "
            "expecting $end or VARIABLE or RSTRING"
        )
    return expanded


def _variable(match: re.Match[str], machine: VirtualMachine, cloud: Cloud) -> str:
    name, part = match["name"].upper(), match["part"]
    if part is None:
        own = {"NAME": machine.name, "UID": str(machine.uid), "UNAME": machine.uname, "VMID": str(machine.id)}
        return own.get(name) or machine.template.get(name) or machine.user_template.get(name)
    wanted, value = (match["key"] or "").upper(), (match["value"] or "").strip('"')
    if name == "USER":
        user = cloud.users.find(machine.uid)
        return user.template.get(part.upper()) if user is not None else ""
    vectors = {"NIC": machine.nics, "DISK": machine.disks}.get(name) or machine.user_template.vectors(name)
    if name == "NETWORK":
        return _of_network(part.upper(), wanted, value, machine, cloud)
    for vector in vectors:
        if not wanted or vector.get(wanted) == value:
            return vector.get(part.upper(), "")
    return ""


def _of_network(part: str, key: str, value: str, machine: VirtualMachine, cloud: Cloud) -> str:
    for nic in machine.leased_nics if key else ():
        network = cloud.networks.find(int(nic["NETWORK_ID"]))
        if network is not None and (value in (nic.get(key), network.template.get(key))):
            return network.template.get(part)
    return ""
