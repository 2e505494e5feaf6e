"""Users and groups: what they are, and the calls on them."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from econed.errors import OpenNebulaCode
from econed.sandbox.calls import serves
from econed.sandbox.objects import Kind, Permissions, PoolObject, Right, demand_name, ids
from econed.sandbox.quotas import Quotas
from econed.sandbox.refusals import Refused, internal, wrong_state
from econed.sandbox.rights import ALL, GROUP, INDIVIDUAL
from econed.sandbox.template import cdata, restricted_attributes

if TYPE_CHECKING:
    from econed.sandbox.state import Cloud

ONEADMIN, SERVERADMIN = 0, 1
_NO_BITS = "000"
_FORBIDDEN_IN_USERS = " :\t\n\v\f\r"
_FORBIDDEN_IN_PASSWORDS = " \t\n\v\f\r"
_FOREVER = -1
_RESTRICTED = restricted_attributes("VM_USE_OPERATIONS", "VM_MANAGE_OPERATIONS", "VM_ADMIN_OPERATIONS")


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


def new_user(cloud: Cloud, name: str, password: str, driver: str, gids: list[int]) -> User:
    """Make a user whose PASSWORD is `password` as it is."""
    group = cloud.groups.get(gids[0])
    user = User(
        cloud.users.take_id(),
        0,
        group.id,
        "",
        group.name,
        name,
        permissions=Permissions.octal(_NO_BITS),
        password=password,
        driver=driver,
        gids=sorted(set(gids)),
    )
    user.uid = user.id
    user.permissions.bits[:2] = 1, 1
    user.template.replace("TOKEN_PASSWORD", secrets.token_hex(32))
    cloud.users.put(user)
    for gid in user.gids:
        cloud.groups.get(gid).members.add(user.id)
    return user


def new_group(cloud: Cloud, name: str) -> Group:
    """Make a group with the rules that `one.group.allocate` gives it: hosts, networks and datastores of the zone."""
    group = Group(cloud.groups.take_id(), 0, 0, "", "", name, permissions=Permissions.octal(_NO_BITS))
    group.gid = group.id
    group.permissions.bits[3] = 1
    cloud.groups.put(group)
    for kind, right in ((Kind.HOST, Right.MANAGE), (Kind.NET, Right.USE), (Kind.DATASTORE, Right.USE)):
        cloud.rights.add(GROUP | group.id, kind.bit | ALL, right, INDIVIDUAL | 0)
    return group


def kept_password(driver: str, password: str) -> str:
    """Return what oned keeps of a password: its SHA-256 for core and server drivers, else the text."""
    if driver == "core" or driver.startswith("server"):
        return hashlib.sha256(password.encode()).hexdigest()
    return password


def _fault_of_password(password: str) -> str:
    """Return what oned finds wrong with a password, empty if nothing (User::pass_is_valid)."""
    if not password:
        return "Invalid password, it cannot be empty"
    found = next((each for each in password if each in _FORBIDDEN_IN_PASSWORDS), None)
    return "" if found is None else f"Invalid password, character '{found}' is not allowed"


class UserCalls:
    """`one.user.*`, `one.userpool.info`, `one.group.*`, `one.grouppool.info`, `one.acl.*`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.user.allocate", str, str, optional=(str, list))
    def allocate(self, caller: User, name: str, password: str, driver: str = "", gids: object = ()) -> int:
        """Make a user; an empty driver is core, no groups are `users`."""
        cloud = self._cloud
        cloud.rights.demand(caller, Right.CREATE, Kind.USER, None)
        demand_name(name, _FORBIDDEN_IN_USERS)
        if fault := _fault_of_password(password):
            raise internal(f"{fault}.")
        if cloud.user_named(name):
            raise internal(f"NAME is already taken by USER {cloud.user_named(name).id}.")  # type: ignore[union-attr]
        groups = [int(gid) for gid in gids] if isinstance(gids, list | tuple) and gids else [1]
        for gid in groups:
            cloud.demand(caller, Right.MANAGE, cloud.groups, gid)
        driver = driver or "core"
        return new_user(cloud, name, kept_password(driver, password), driver, groups).id

    @serves("one.user.info", int, optional=(bool,))
    def info(self, caller: User, number: int, _decrypt: bool = False) -> str:
        """Show a user; -1 is the caller himself."""
        user = caller if number == -1 else self._cloud.demand(caller, Right.USE, self._cloud.users, number, locks=False)
        return user.full_xml(modern=self._cloud.version.modern)

    @serves("one.userpool.info")
    def pool(self, caller: User) -> str:
        """Show the users that the caller may see: himself, or all."""
        modern = self._cloud.version.modern
        shown = [u for u in self._cloud.users.newest_first() if self._cloud.rights.may(caller, Right.USE, Kind.USER, u)]
        each = "".join(f"{u.xml()}<QUOTAS><ID>{u.id}</ID>{u.quotas.xml(modern=modern)}</QUOTAS>" for u in shown)
        defaults = f"<DEFAULT_USER_QUOTAS>{Quotas().xml(modern=modern)}</DEFAULT_USER_QUOTAS>"
        return f"<USER_POOL>{each}{defaults}</USER_POOL>"

    def _managed(self, caller: User, number: int) -> User:
        return self._cloud.demand(caller, Right.MANAGE, self._cloud.users, number)

    @serves("one.user.update", int, str, optional=(int,))
    def update(self, caller: User, number: int, text: str, append: int = 0) -> int:
        """Replace a user's attributes (0), or merge into them (1)."""
        user = self._managed(caller, number)
        user.template = self._cloud.updated(caller, user.template, text, append, _RESTRICTED, unique=True)
        return number

    @serves("one.user.passwd", int, str)
    def passwd(self, caller: User, number: int, password: str) -> int:
        """Change a password; the remembered session is forgotten."""
        user = self._managed(caller, number)
        if fault := _fault_of_password(password):
            raise wrong_state(fault)
        user.password, user.session = kept_password(user.driver, password), None
        return number

    @serves("one.user.chauth", int, str, optional=(str,))
    def chauth(self, caller: User, number: int, driver: str, password: str = "") -> int:
        """Change a user's driver, and password where one is given; session and login tokens are forgotten."""
        user = self._cloud.demand(caller, Right.ADMIN, self._cloud.users, number)
        if password and (fault := _fault_of_password(password)):
            raise wrong_state(fault)
        user.driver, user.session, user.login_tokens = driver, None, []
        if password:
            user.password = kept_password(driver, password)
        return number

    @serves("one.user.enable", int, bool)
    def enable(self, caller: User, number: int, enabled: bool) -> int:
        """Let a user log in or not; server tokens for him go on working."""
        user = self._cloud.demand(caller, Right.ADMIN, self._cloud.users, number)
        user.enabled = enabled
        if not enabled:
            user.session, user.login_tokens = None, []
        return number

    @serves("one.user.login", str, str, int, optional=(int,))
    def login(self, caller: User, name: str, token: str, valid: int, egid: int = -1) -> str:
        """Give a login token that is valid so many seconds; 0 takes one away, -1 gives one for ever."""
        user = self._cloud.user_named(name)
        if user is None:
            raise Refused(OpenNebulaCode.NO_EXISTS, f"Error getting user [{name}].")
        self._cloud.rights.demand(caller, Right.MANAGE, Kind.USER, user)
        if valid == 0:
            user.login_tokens = [held for held in user.login_tokens if token and held.token != token]
            return ""
        expires = _FOREVER if valid < 0 else int(self._cloud.clock.seconds()) + valid
        user.login_tokens.append(LoginToken(token or secrets.token_hex(32), expires, egid))
        return user.login_tokens[-1].token

    @serves("one.user.delete", int)
    def delete(self, caller: User, number: int) -> int:
        """Remove a user."""
        user = self._managed(caller, number)
        if user.id in (ONEADMIN, SERVERADMIN) or user.id == caller.id:
            raise internal("oneadmin cannot be deleted.")
        for gid in user.gids:
            self._cloud.groups.get(gid).members.discard(user.id)
        self._cloud.users.drop(user)
        return number

    @serves("one.user.chgrp", int, int)
    def chgrp(self, caller: User, number: int, gid: int) -> int:
        """Change a user's primary group."""
        user = self._managed(caller, number)
        group = self._cloud.demand(caller, Right.MANAGE, self._cloud.groups, gid)
        self._cloud.groups.get(user.gid).members.discard(user.id)
        user.gids = sorted({gid, *user.gids} - {user.gid})
        user.gid, user.gname = gid, group.name
        group.members.add(user.id)
        return number

    @serves("one.user.addgroup", int, int)
    def addgroup(self, caller: User, number: int, gid: int) -> int:
        """Put a user into one more group."""
        user = self._managed(caller, number)
        group = self._cloud.demand(caller, Right.MANAGE, self._cloud.groups, gid)
        user.gids = sorted({gid, *user.gids})
        group.members.add(user.id)
        return number

    @serves("one.user.quota", int, str)
    def quota(self, caller: User, number: int, text: str) -> int:
        """Set limits of a user."""
        self._cloud.demand(caller, Right.ADMIN, self._cloud.users, number).quotas.set_limits(self._cloud.read(text))
        return number
