"""The CONTEXT of machines, which oned generates when a machine is allocated or changed (oned: `VirtualMachineContext`).

oned replaces `$NAME`, `$NAME[ATTR]` and `$NAME[ATTR, KEY=VALUE]`, unknown ones by an empty text; any other `$` is a
syntax error that fails the whole call. With NETWORK="YES" it adds ETHn_* for every NIC.
"""

from __future__ import annotations

import re

from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.networks import Network, is_automatic
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import internal
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
_ONLY_5_12 = (
    ("CONTEXT_FORCE_IPV4", "CONTEXT_FORCE_IPV4", _INHERITED),
    ("GATEWAY6", "GATEWAY6", _INHERITED),
    ("METRIC6", "METRIC6", _INHERITED),
)
_ONLY_7 = (
    ("METHOD", "METHOD", _INHERITED),
    ("ROUTES", "ROUTES", _INHERITED),
    ("IP6_GATEWAY", "GATEWAY6", _INHERITED),
    ("IP6_METRIC", "IP6_METRIC", _INHERITED),
    ("IP6_METHOD", "IP6_METHOD", _INHERITED),
)
_VARIABLE = re.compile(
    r"(?P<escaped>\\.)"
    r"|\$(?P<name>\w+)(?!\w)"
    r"(?:\[[ \t]*(?P<attribute>\w+)(?:[ \t]*,[ \t]*(?P<key>\w+)[ \t]*=[ \t]*(?P<value>\"[^\"]*\"|\w+))?[ \t]*\]"
    r"|(?![ \t]*[\[\]=,]))",
    re.ASCII | re.DOTALL,
)
_SEPARATOR = "@^_^@"


def fill_context(cloud: Cloud, machine: VirtualMachine) -> None:
    """Set the machine's CONTEXT from the requested context; refuses a `$` that oned cannot parse (8192)."""
    if machine.context is None:
        return
    fixed: Vector = {name: machine.context[name] for name in ("DISK_ID", "TARGET") if name in machine.context}
    context: Vector = {**_resplit(machine.requested_context), **fixed}
    if any("$" in value for value in context.values()):
        context = {name: _expand(value, machine, cloud) for name, value in context.items()}
    if machine.requested_context.get("NETWORK", "").upper() == "YES":
        for nic in (*machine.nics, *machine.aliases):
            is_connected = nic["NIC_ID"] not in machine.nic_ids_without_network
            if is_connected or not is_automatic(nic):
                network = cloud.networks.find(int(nic["NETWORK_ID"])) if is_connected else None
                context.update(_network_context(nic, network, is_v7=machine.is_v7))
    machine.context = context
    machine.invalidate()


def _resplit(requested: Vector) -> Vector:
    """Return the members after oned has joined them with a separator, to expand variables, and split them again.

    A value that contains the separator becomes several members; those without `=` are lost.
    """
    joined = _SEPARATOR.join(f"{name}={value}" for name, value in requested.items())
    members = (member.partition("=") for member in joined.split(_SEPARATOR))
    return {name: value for name, equals_sign, value in members if equals_sign}


def _network_context(nic: Vector, network: Network | None, *, is_v7: bool) -> Vector:
    context: Vector = {}
    number = f"{nic['PARENT_ID']}_ALIAS{nic['ALIAS_ID']}" if "PARENT_ID" in nic else nic["NIC_ID"]
    for name, source, inherited in (*_COMMON, *(_ONLY_7 if is_v7 else _ONLY_5_12)):
        value = nic.get(source, "")
        if not value and inherited and network is not None:
            address_range = network.range(int(nic["AR_ID"]))
            value = address_range.attributes.get(source, "") if address_range else ""
            value = value or network.template.get(source)
        if name == "IP6":
            value = value or nic.get("IP6", "")
        context[f"ETH{number}_{name}"] = value
    return context


def _expand(text: str, machine: VirtualMachine, cloud: Cloud) -> str:
    def replacement(match: re.Match[str]) -> str:
        return match[0] if match["escaped"] else _value(match, machine, cloud)

    expanded = _VARIABLE.sub(replacement, text)
    if "$" in _VARIABLE.sub("", text):
        raise internal(f"Error parsing: {text}. syntax error, unexpected EOA, expecting $end or VARIABLE or RSTRING")
    return expanded


def _value(match: re.Match[str], machine: VirtualMachine, cloud: Cloud) -> str:
    """Return the value of a variable, or an empty text if it is unknown."""
    name = match["name"].upper()
    if match["attribute"] is None:
        own = {"NAME": machine.name, "UID": str(machine.uid), "UNAME": machine.uname, "VMID": str(machine.id)}
        return own.get(name) or machine.template.get(name) or machine.user_template.get(name)
    attribute, key, value = match["attribute"].upper(), (match["key"] or "").upper(), (match["value"] or "").strip('"')
    if name == "USER":
        user = cloud.users.find(machine.uid)
        return user.template.get(attribute) if user is not None else ""
    if name == "NETWORK":
        return _network_value(attribute, key, value, machine, cloud)
    vectors = {"NIC": machine.nics, "DISK": machine.disks}.get(name) or machine.user_template.vectors(name)
    for vector in vectors:
        if not key or vector.get(key) == value:
            return vector.get(attribute, "")
    return ""


def _network_value(attribute: str, key: str, value: str, machine: VirtualMachine, cloud: Cloud) -> str:
    for nic in machine.connected_nics if key else ():
        network = cloud.networks.find(int(nic["NETWORK_ID"]))
        if network is not None and (value in (nic.get(key), network.template.get(key))):
            return network.template.get(attribute)
    return ""
