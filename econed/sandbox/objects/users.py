"""Users and groups."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from xml.sax.saxutils import escape

from lxml import etree

from econed.sandbox.objects.base import Kind, PoolObject, ids_xml
from econed.sandbox.quotas import Quotas
from econed.sandbox.template import cdata

ONEADMIN, SERVERADMIN = 0, 1

MAX_LOGIN_TOKENS = 10
"""Login tokens that a user can have at once (oned: `LoginTokenPool::MAX_TOKENS`)."""

NEVER = ALL_GROUPS = -1
"""The values of a login token that does not expire, and of one that is not limited to a group."""


@dataclass
class LoginToken:
    """A token that `one.user.login` issued; `expires` in epoch seconds or `NEVER`, `egid` or `ALL_GROUPS`."""

    token: str
    expires: int
    egid: int

    def is_valid_at(self, now: int) -> bool:
        """Whether a session with this token is accepted."""
        return self.expires == NEVER or now < self.expires

    def is_expired_at(self, now: int) -> bool:
        """Whether the next login removes this token."""
        return self.expires != NEVER and now > self.expires

    def xml(self) -> str:
        """Return the LOGIN_TOKEN element; like oned, without escaping the text."""
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
    login_tokens: dict[str, LoginToken] = field(default_factory=dict)
    session: Session | None = None
    quotas: Quotas = field(default_factory=Quotas)

    kind = Kind.USER

    @property
    def is_oneadmin(self) -> bool:
        """Whether this user has all rights: oneadmin, and the members of oneadmin's group."""
        return self.id == ONEADMIN or ONEADMIN in self.gids

    def set_password(self, password: str) -> None:
        """Set the password as it is to be stored; session and login tokens are dropped."""
        self.password, self.session, self.login_tokens = password, None, {}

    def within(self, group: Group) -> User:
        """Return this user as in a session whose login token is limited to a group of theirs."""
        return replace(self, gid=group.id, gname=group.name, gids=[group.id])

    def add_login_token(self, token: LoginToken, now: int) -> bool:
        """Add a login token after removing expired ones; False if the user has as many as are allowed.

        oned reads a token again from the document that it has stored, in which the text is not escaped: a text with
        elements may become several tokens, and one that makes the document malformed none, though it counts as added
        (seen in 7.4). A token that the user has already stays as it is: neither its time nor its group changes (oned:
        `LoginTokenPool::set`, which inserts into a map).
        """
        valid = {text: login for text, login in self.login_tokens.items() if not login.is_expired_at(now)}
        if len(valid) >= MAX_LOGIN_TOKENS:
            return False
        self.login_tokens = {stored.token: stored for stored in _stored(token)} | valid
        return True

    def xml(self) -> str:
        """Return the USER element of the user pool."""
        return f"{self._core_xml()}</USER>"

    def full_xml(self, defaults: Quotas, *, is_v7: bool) -> str:
        """Return the USER element of `one.user.info`, with the user's and the default quotas."""
        default_quotas = f"<DEFAULT_USER_QUOTAS>{defaults.xml(is_v7=is_v7)}</DEFAULT_USER_QUOTAS>"
        return f"{self._core_xml()}{self.quotas.xml(is_v7=is_v7)}{default_quotas}</USER>"

    def _core_xml(self) -> str:
        tokens = "".join(self.login_tokens[text].xml() for text in sorted(self.login_tokens))
        return (
            f"<USER><ID>{self.id}</ID><GID>{self.gid}</GID>{ids_xml('GROUPS', self.gids)}"
            f"<GNAME>{escape(self.gname)}</GNAME><NAME>{escape(self.name)}</NAME>{cdata('PASSWORD', self.password)}"
            f"{cdata('AUTH_DRIVER', self.driver)}<ENABLED>{int(self.is_enabled)}</ENABLED>{tokens}{self.template.xml()}"
        )


def _stored(token: LoginToken) -> list[LoginToken]:
    """Return the tokens that oned reads from the document in which it has stored one (`LoginToken::from_xml_node`)."""
    try:
        root = etree.fromstring(f"<USER>{token.xml()}</USER>")
    except etree.XMLSyntaxError:
        return []
    return [
        LoginToken(
            element.findtext("TOKEN", ""),
            int(element.findtext("EXPIRATION_TIME") or 0),
            int(element.findtext("EGID") or ALL_GROUPS),
        )
        for element in root.findall("LOGIN_TOKEN")
    ]


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

    def full_xml(self, defaults: Quotas, *, is_v7: bool) -> str:
        """Return the GROUP element of `one.group.info`, with the group's and the default quotas."""
        default_quotas = f"<DEFAULT_GROUP_QUOTAS>{defaults.xml(is_v7=is_v7)}</DEFAULT_GROUP_QUOTAS>"
        vlans = f"<VLAN_RULES>{cdata('ID', self.id)}</VLAN_RULES>" if is_v7 else ""
        return self.xml().removesuffix("</GROUP>") + self.quotas.xml(is_v7=is_v7) + vlans + default_quotas + "</GROUP>"
