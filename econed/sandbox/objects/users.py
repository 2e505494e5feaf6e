"""Users and groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from econed.sandbox.objects.base import Kind, PoolObject, ids_xml
from econed.sandbox.quotas import Quotas
from econed.sandbox.template import cdata

ONEADMIN, SERVERADMIN = 0, 1


@dataclass
class LoginToken:
    """A token that `one.user.login` issued; `expires` in epoch seconds, -1 for never."""

    token: str
    expires: int
    egid: int

    def xml(self) -> str:
        """Return the LOGIN_TOKEN element."""
        return (
            f"<LOGIN_TOKEN><TOKEN>{self.token}</TOKEN><EXPIRATION_TIME>{self.expires}</EXPIRATION_TIME>"
            f"<EGID>{self.egid}</EGID></LOGIN_TOKEN>"
        )


@dataclass
class Session:
    """The token that oned caches for a user. Until `expires` (epoch seconds) it calls no auth driver for it."""

    token: str
    expires: float


@dataclass(eq=False)
class User(PoolObject):
    """A user. `password` is stored as a hash for driver core, in plain for public, as the DN for x509."""

    password: str = ""
    driver: str = "core"
    gids: list[int] = field(default_factory=list)
    is_enabled: bool = True
    login_tokens: list[LoginToken] = field(default_factory=list)
    session: Session | None = None
    quotas: Quotas = field(default_factory=Quotas)

    kind = Kind.USER

    @property
    def is_oneadmin(self) -> bool:
        """Whether this user has all rights: oneadmin, and the members of oneadmin's group."""
        return self.id == ONEADMIN or ONEADMIN in self.gids

    def xml(self) -> str:
        """Return the USER element of the user pool."""
        tokens = "".join(token.xml() for token in self.login_tokens)
        return f"{self._core_xml(tokens)}</USER>"

    def full_xml(self, *, is_v7: bool) -> str:
        """Return the USER element of `one.user.info`, quotas included."""
        tokens = "".join(token.xml() for token in self.login_tokens)
        defaults = f"<DEFAULT_USER_QUOTAS>{Quotas().xml(is_v7=is_v7)}</DEFAULT_USER_QUOTAS>"
        return f"{self._core_xml(tokens)}{self.quotas.xml(is_v7=is_v7)}{defaults}</USER>"

    def _core_xml(self, tokens: str) -> str:
        return (
            f"<USER><ID>{self.id}</ID><GID>{self.gid}</GID>{ids_xml('GROUPS', self.gids)}"
            f"<GNAME>{escape(self.gname)}</GNAME><NAME>{escape(self.name)}</NAME>{cdata('PASSWORD', self.password)}"
            f"{cdata('AUTH_DRIVER', self.driver)}<ENABLED>{int(self.is_enabled)}</ENABLED>{tokens}{self.template.xml()}"
        )


@dataclass(eq=False)
class Group(PoolObject):
    """A group of users."""

    user_ids: set[int] = field(default_factory=set)
    admin_ids: set[int] = field(default_factory=set)
    quotas: Quotas = field(default_factory=Quotas)

    kind = Kind.GROUP

    def xml(self) -> str:
        """Return the GROUP element of the group pool."""
        return (
            f"<GROUP><ID>{self.id}</ID><NAME>{escape(self.name)}</NAME>{self.template.xml()}"
            f"{ids_xml('USERS', self.user_ids)}{ids_xml('ADMINS', self.admin_ids)}</GROUP>"
        )

    def full_xml(self, *, is_v7: bool) -> str:
        """Return the GROUP element of `one.group.info`, quotas included."""
        defaults = f"<DEFAULT_GROUP_QUOTAS>{Quotas().xml(is_v7=is_v7)}</DEFAULT_GROUP_QUOTAS>"
        vlans = f"<VLAN_RULES>{cdata('ID', self.id)}</VLAN_RULES>" if is_v7 else ""
        return self.xml().removesuffix("</GROUP>") + self.quotas.xml(is_v7=is_v7) + vlans + defaults + "</GROUP>"
