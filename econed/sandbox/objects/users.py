"""Users and groups: what they are, and the calls on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from econed.sandbox.objects.base import Kind, PoolObject, ids
from econed.sandbox.quotas import Quotas
from econed.sandbox.template import cdata

ONEADMIN, SERVERADMIN = 0, 1


@dataclass
class LoginToken:
    """A token that `one.user.login` gave; `expires` in epoch seconds, -1 for never."""

    token: str
    expires: int
    egid: int

    def xml(self) -> str:
        """Return the element as oned shows it."""
        return (
            f"<LOGIN_TOKEN><TOKEN>{self.token}</TOKEN><EXPIRATION_TIME>{self.expires}</EXPIRATION_TIME>"
            f"<EGID>{self.egid}</EGID></LOGIN_TOKEN>"
        )


@dataclass
class Session:
    """The one token that oned remembers of a user, and until when it takes it unasked (epoch seconds)."""

    token: str
    until: float


@dataclass(eq=False)
class User(PoolObject):
    """A user. `password` is what oned keeps: a hash for driver core, the text itself for public, the DN for x509."""

    password: str = ""
    driver: str = "core"
    gids: list[int] = field(default_factory=list)
    enabled: bool = True
    login_tokens: list[LoginToken] = field(default_factory=list)
    session: Session | None = None
    quotas: Quotas = field(default_factory=Quotas)

    kind = Kind.USER

    @property
    def is_oneadmin(self) -> bool:
        """Whether oned lets this user do everything: oneadmin himself and the members of his group."""
        return self.id == ONEADMIN or ONEADMIN in self.gids

    def xml(self) -> str:
        """Return the element as oned shows it in its user pool."""
        tokens = "".join(token.xml() for token in self.login_tokens)
        return f"{self._core_xml(tokens)}</USER>"

    def full_xml(self, *, modern: bool) -> str:
        """Return the element as oned shows it of one user, quotas included."""
        tokens = "".join(token.xml() for token in self.login_tokens)
        defaults = f"<DEFAULT_USER_QUOTAS>{Quotas().xml(modern=modern)}</DEFAULT_USER_QUOTAS>"
        return f"{self._core_xml(tokens)}{self.quotas.xml(modern=modern)}{defaults}</USER>"

    def _core_xml(self, tokens: str) -> str:
        return (
            f"<USER><ID>{self.id}</ID><GID>{self.gid}</GID>{ids('GROUPS', self.gids)}"
            f"<GNAME>{escape(self.gname)}</GNAME><NAME>{escape(self.name)}</NAME>{cdata('PASSWORD', self.password)}"
            f"{cdata('AUTH_DRIVER', self.driver)}<ENABLED>{int(self.enabled)}</ENABLED>{tokens}{self.template.xml()}"
        )


@dataclass(eq=False)
class Group(PoolObject):
    """A group of users."""

    members: set[int] = field(default_factory=set)
    admins: set[int] = field(default_factory=set)
    quotas: Quotas = field(default_factory=Quotas)

    kind = Kind.GROUP

    def xml(self) -> str:
        """Return the element as oned shows it in its group pool."""
        return (
            f"<GROUP><ID>{self.id}</ID><NAME>{escape(self.name)}</NAME>{self.template.xml()}"
            f"{ids('USERS', self.members)}{ids('ADMINS', self.admins)}</GROUP>"
        )

    def full_xml(self, *, modern: bool) -> str:
        """Return the element as oned shows it of one group, quotas included."""
        defaults = f"<DEFAULT_GROUP_QUOTAS>{Quotas().xml(modern=modern)}</DEFAULT_GROUP_QUOTAS>"
        vlans = f"<VLAN_RULES>{cdata('ID', self.id)}</VLAN_RULES>" if modern else ""
        return self.xml().removesuffix("</GROUP>") + self.quotas.xml(modern=modern) + vlans + defaults + "</GROUP>"
