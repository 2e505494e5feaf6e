"""URLs of images: their syntax, and those that are refused before their host is looked up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urldefrag, urljoin

from econed.errors import EC2Error
from econed.hosts import Address, address_of, normal_host

_MAX_URL = 2048
_ORIGIN = r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?"

# oned's datastore drivers pass the URL to curl in a shell command. They quote it, but characters that are special to a
# shell or to curl's globbing are refused all the same.
_PLAIN = re.compile(_ORIGIN + r"((?:/[A-Za-z0-9._~%/+:=,@-]*)?(?:\?[A-Za-z0-9._~%/+:=,@&-]*)?)", re.ASCII)

# Targets of redirects are not passed to a shell (RFC 3986, appendix A).
_REDIRECTED = re.compile(_ORIGIN + r"((?:/[\w.~%/+:=,@!$&'()*;-]*)?(?:\?[\w.~%/+:=,@!$&'()*;?-]*)?)", re.ASCII)

_WELL_KNOWN = frozenset({80, 443})
_FIRST_UNPRIVILEGED, _LAST_PORT = 1024, 65535


@dataclass(frozen=True)
class ImageURL:
    """A plain http or https URL. `host` is in lower case, without brackets and without a final dot."""

    scheme: str
    host: str
    port: int
    path_and_query: str
    """As in the URL, unchanged."""
    text: str

    @classmethod
    def parse(cls, text: str) -> ImageURL:
        """Parse a URL that a user gave; raises `EC2Error` InvalidParameterValue."""
        return cls._parse(
            text, _PLAIN, "it must be a plain http or https URL, with all special characters percent-encoded."
        )

    def redirected(self, location: str) -> ImageURL:
        """Return the target of a redirect to `location` from this URL; raises `EC2Error` InvalidParameterValue."""
        reason = "its server redirects to something other than a plain http or https URL."
        try:
            text = urldefrag(urljoin(self.canonical, location)).url
        except ValueError:
            raise invalid_location(reason) from None
        target = self._parse(text, _REDIRECTED, reason)
        if self.scheme == "https" and target.scheme != "https":
            raise invalid_location("its server redirects from https to http.")
        return target

    @classmethod
    def _parse(cls, text: str, pattern: re.Pattern[str], reason: str) -> ImageURL:
        parts = pattern.fullmatch(text) if len(text) <= _MAX_URL else None
        if parts is None:
            raise invalid_location(reason)
        scheme, given_host, given_port, path_and_query = parts.groups()
        host = normal_host(given_host)
        port = int(given_port or (443 if scheme == "https" else 80))
        if host is None or not 0 < port <= _LAST_PORT:
            raise invalid_location("its host is not a name or an address in its usual form, or its port is invalid.")
        return cls(scheme, host, port, path_and_query, text)

    @property
    def address(self) -> Address | None:
        """The host as an address, None if it is a name."""
        return address_of(self.host)

    @property
    def canonical(self) -> str:
        """The URL with its host in the normal form, and its port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = self.path_and_query if self.path_and_query.startswith("/") else f"/{self.path_and_query}"
        return f"{self.scheme}://{host}:{self.port}{path}"

    def check_origin(self) -> None:
        """Raise `EC2Error` InvalidParameterValue for a host or port that images are never fetched from.

        A name without a dot belongs to the local network, and web servers use no privileged ports but 80 and 443.
        """
        if self.address is None and ("." not in self.host or self.host.endswith(".localhost")):
            raise forbidden_host()
        if self.port not in _WELL_KNOWN and self.port < _FIRST_UNPRIVILEGED:
            raise invalid_location(f"images are not fetched from port {self.port}.")


def invalid_location(reason: str) -> EC2Error:
    """Return the error for a URL that is not fetched."""
    return EC2Error("InvalidParameterValue", f"The ImageLocation is invalid: {reason}")


def forbidden_host() -> EC2Error:
    """Return the error for a host that does not exist or is not on the internet; clients must not learn which."""
    return invalid_location("images are not fetched from its host.")
