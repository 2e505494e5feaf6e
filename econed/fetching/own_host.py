"""Which addresses are this machine's own, and whether oned runs on this machine."""

from __future__ import annotations

import socket
from contextlib import suppress
from urllib.parse import urlsplit

from econed.config.settings import Settings
from econed.hosts import address_of

_IPV4 = 4
_ANY_PORT = 9


def can_oned_read_tmpdir(settings: Settings) -> bool:
    """Whether oned can read files in tmpdir: it runs on this machine, or tmpdir is shared with its machine.

    All oneds must be able to: any of them may become the leader, also while an image is being copied. May block on the
    name service.
    """
    return settings.tmpdir_is_shared or all(is_own_url(url) for url in settings.one_xmlrpc)


def is_own_url(url: str) -> bool:
    """Whether the host of a URL has an address of this machine. May block on the name service."""
    try:
        entries = socket.getaddrinfo(urlsplit(url).hostname, None, type=socket.SOCK_DGRAM)
    except (OSError, ValueError):
        return False
    return any(is_own_address(str(address[0])) for _, _, _, _, address in entries)


def is_own_address(address: str) -> bool:
    """Whether a text is an IP address of this machine.

    Packets to an own address have that address as their source; none is sent to find out. (Binding to the address would
    prove nothing where net.ipv4.ip_nonlocal_bind is set, as on load balancers.)
    """
    ip = address_of(address)
    if ip is None or ip.is_loopback or ip.is_unspecified:
        return ip is not None
    family = socket.AF_INET if ip.version == _IPV4 else socket.AF_INET6
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, _ANY_PORT))
        return address_of(str(probe.getsockname()[0])) == ip
    return False
