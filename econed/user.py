"""The user who makes a request."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

_SIGNING_DRIVERS = frozenset({"core", "public"})
_CERTIFICATE_DRIVER = "x509"


@dataclass(frozen=True)
class User:
    """A user of OpenNebula who calls EC2.

    `name` is the access key. `secret` is the PASSWORD that oned stores: the secret key, or for the driver x509 the
    subjects of certificates. `gid` is the primary group, `groups` are all groups in ascending order. `driver` is
    OpenNebula's AUTH_DRIVER, by which the user logs in there.
    """

    id: int
    name: str
    gid: int
    groups: tuple[int, ...]
    secret: str = field(repr=False)
    driver: str
    enabled: bool

    @property
    def session_key(self) -> Hashable:
        """What identifies the user's session with oned: the user, and the groups that decide what they may see."""
        return (self.id, self.name, self.gid, self.groups)

    @property
    def may_sign(self) -> bool:
        """Whether signatures of this user are accepted at all.

        Only the drivers core and public store a secret in oned (x509 stores a name). Disabled users are refused here,
        because oned still accepts server tokens for them.
        """
        return self.enabled and self.driver in _SIGNING_DRIVERS and self.secret != ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects of the certificates that authenticate this user, as `econed.auth.subjects` spells them."""
        return tuple(filter(None, self.secret.split("|"))) if self.driver == _CERTIFICATE_DRIVER else ()


@dataclass(frozen=True)
class Sender:
    """The sender of a request: a user, and the access key or subject of a certificate that authenticated them."""

    user: User
    key: str
