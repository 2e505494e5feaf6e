"""URLs of images: what is one, and from which no image is fetched whatever the name service says of its host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urldefrag, urljoin

from econed.errors import EC2Error
from econed.hosts import Address, address_of, normal_host

_MAX_URL = 2048
_PLACE = r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?"

# oned's datastore drivers hand the URL to curl by a shell. They quote it; nothing that a shell or curl's own patterns
# would read as more than text gets that far all the same.
_PLAIN = re.compile(_PLACE + r"((?:/[A-Za-z0-9._~%/+:=,@-]*)?(?:\?[A-Za-z0-9._~%/+:=,@&-]*)?)", re.ASCII)

# What servers redirect to reaches no shell (RFC 3986, appendix A).
_REDIRECTED = re.compile(_PLACE + r"((?:/[\w.~%/+:=,@!$&'()*;-]*)?(?:\?[\w.~%/+:=,@!$&'()*;?-]*)?)", re.ASCII)

_WELL_KNOWN = frozenset({80, 443})
_FIRST_UNPRIVILEGED, _LAST_PORT = 1024, 65535


@dataclass(frozen=True)
class ImageURL:
    """A plain http or https URL. `host` is in lower case, without brackets and without a final dot."""

    scheme: str
    host: str
    port: int
    rest: str
    """Path and query, as they were given."""
    text: str

    @classmethod
    def parse(cls, text: str) -> ImageURL:
        """Return the URL that a user gave; raises `EC2Error` InvalidParameterValue."""
        return cls._read(text, _PLAIN, "give a plain http or https URL, with everything unusual in it percent-encoded.")

    def redirected(self, location: str) -> ImageURL:
        """Return where the server of this URL redirects to; raises `EC2Error` InvalidParameterValue."""
        reason = "its server redirects to what is no plain http or https URL."
        try:
            text = urldefrag(urljoin(self.canonical, location)).url
        except ValueError:
            raise unfit(reason) from None
        target = self._read(text, _REDIRECTED, reason)
        if self.scheme == "https" and target.scheme != "https":
            raise unfit("its server redirects from https to http.")
        return target

    @classmethod
    def _read(cls, text: str, pattern: re.Pattern[str], reason: str) -> ImageURL:
        parts = pattern.fullmatch(text) if len(text) <= _MAX_URL else None
        if parts is None:
            raise unfit(reason)
        scheme, given_host, given_port, rest = parts.groups()
        host = normal_host(given_host)
        port = int(given_port or (443 if scheme == "https" else 80))
        if host is None or not 0 < port <= _LAST_PORT:
            raise unfit("its host is no name and no address in its usual form, or its port is none.")
        return cls(scheme, host, port, rest, text)

    @property
    def address(self) -> Address | None:
        """The address that the host is, None if it is a name."""
        return address_of(self.host)

    @property
    def canonical(self) -> str:
        """The URL with its host in its one form."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = self.rest if self.rest.startswith("/") else f"/{self.rest}"
        return f"{self.scheme}://{host}:{self.port}{path}"

    def check_place(self) -> None:
        """Raise `EC2Error` InvalidParameterValue for what is never fetched from, whatever the name service says.

        A name without a dot is one of the local network, and no web server listens on a privileged port but its own.
        """
        if self.address is None and ("." not in self.host or self.host.endswith(".localhost")):
            raise strange_host()
        if self.port not in _WELL_KNOWN and self.port < _FIRST_UNPRIVILEGED:
            raise unfit(f"images are not fetched from port {self.port}.")


def unfit(reason: str) -> EC2Error:
    """Return the answer to a URL that is not fetched."""
    return EC2Error("InvalidParameterValue", f"The ImageLocation is invalid: {reason}")


def strange_host() -> EC2Error:
    """Return the answer to a host that is none, or inside: a client is not told which of them."""
    return unfit("its host is not one that images are fetched from.")
