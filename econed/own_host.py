"""Which addresses are this machine's own, and whether oned, too, is on it."""

from __future__ import annotations

import socket
from contextlib import suppress
from urllib.parse import urlsplit

from econed.settings import Settings


def has_tmpdir(settings: Settings) -> bool:
    """Whether oned can read what is kept in tmpdir: it is on this machine, or has tmpdir all the same.

    Of several oneds each may come to lead at any time, also while an image is being copied. May ask the name service.
    """
    return settings.tmpdir_is_shared or all(is_own_url(url) for url in settings.one_xmlrpc)


def is_own_url(url: str) -> bool:
    """Whether the host of a URL is this machine: an address of it can be listened on. May ask the name service."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None, type=socket.SOCK_DGRAM)
    except (OSError, ValueError):
        return False
    return any(_can_listen(family, address[0]) for family, _, _, _, address in found)


def is_own_address(address: str) -> bool:
    """Whether an IP address, given as text, is this machine's: it can be listened on."""
    return _can_listen(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _can_listen(family: int, address: str | int) -> bool:
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False
