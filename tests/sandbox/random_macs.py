"""Mapping of the MAC addresses that oned chooses at random, and of the IPv6 addresses made of them."""

from __future__ import annotations

import ipaddress
import re

from lxml import etree

_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_INTERFACE = 2**64
_RANDOM_TYPES = ("ETHER", "IP6", "IP6_STATIC")


def _mac_text(mac: int) -> str:
    return mac.to_bytes(6, "big").hex(":")


def _interface(mac: int) -> int:
    """Return the lower half of an IPv6 address that is made of a MAC address: its modified EUI-64 (RFC 4291)."""
    return ((mac >> 24) ^ 0x020000) << 40 | 0xFFFE << 24 | (mac & 0xFFFFFF)


class RandomMacs:
    """Learns from the documents of networks which recorded addresses those of the sandbox stand for."""

    def __init__(self) -> None:
        self._recorded_macs: dict[str, str] = {}
        self._recorded_interfaces: dict[int, int] = {}

    def learn(self, recorded: etree._Element, replayed: etree._Element) -> None:
        """Learn the addresses of a network's ranges whose MAC addresses do not follow from their IPv4 addresses."""
        for theirs, ours in zip(recorded.iterfind("AR_POOL/AR"), replayed.iterfind("AR_POOL/AR"), strict=False):
            if theirs.findtext("TYPE") in _RANDOM_TYPES:
                first_recorded, first = (int(ar.findtext("MAC", "").replace(":", ""), 16) for ar in (theirs, ours))
                for index in range(int(theirs.findtext("SIZE", "0"))):
                    self._recorded_macs[_mac_text(first + index)] = _mac_text(first_recorded + index)
                    self._recorded_interfaces[_interface(first + index)] = _interface(first_recorded + index)

    def recorded(self, value: str) -> str:
        """Return a value with the recorded address if it is one of the sandbox's."""
        if _MAC.fullmatch(value):
            return self._recorded_macs.get(value, value)
        if "::" not in value or not self._recorded_interfaces:
            return value
        try:
            prefix, interface = divmod(int(ipaddress.IPv6Address(value)), _INTERFACE)
        except ValueError:
            return value
        recorded = self._recorded_interfaces.get(interface, interface)
        return str(ipaddress.IPv6Address(prefix * _INTERFACE + recorded))
