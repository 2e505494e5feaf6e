"""Which addresses are this machine's own, and whether oned, too, is on it."""

from __future__ import annotations

import socket
from contextlib import suppress
from urllib.parse import urlsplit

from econed.config.settings import Settings
from econed.hosts import address_of

_IPV4 = 4
_ANY_PORT = 9


def has_tmpdir(settings: Settings) -> bool:
    """Whether oned can read what is kept in tmpdir: it is on this machine, or has tmpdir all the same.

    Of several oneds each may come to lead at any time, also while an image is being copied. May ask the name service.
    """
    return settings.tmpdir_is_shared or all(is_own_url(url) for url in settings.one_xmlrpc)


def is_own_url(url: str) -> bool:
    """Whether the host of a URL is this machine: it has an address of this machine's. May ask the name service."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None, type=socket.SOCK_DGRAM)
    except (OSError, ValueError):
        return False
    return any(is_own_address(str(address[0])) for _, _, _, _, address in found)


def is_own_address(address: str) -> bool:
    """Whether an IP address, given as text, is this machine's.

    What is sent to such a one comes from itself; nothing is sent to find out. (Whether it can be listened on tells
    nothing where net.ipv4.ip_nonlocal_bind is set, as load balancers have it.)
    """
    known = address_of(address)
    if known is None or known.is_loopback or known.is_unspecified:
        return known is not None
    family = socket.AF_INET if known.version == _IPV4 else socket.AF_INET6
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, _ANY_PORT))
        return address_of(str(probe.getsockname()[0])) == known
    return False
