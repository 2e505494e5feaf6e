"""The calls on users."""

from __future__ import annotations

import secrets

from econed.errors import OpenNebulaCode
from econed.sandbox.accounts import kept_password, new_user
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Right, demand_name
from econed.sandbox.objects.users import ONEADMIN, SERVERADMIN, LoginToken, User
from econed.sandbox.quotas import Quotas
from econed.sandbox.refusals import Refused, internal, wrong_state
from econed.sandbox.template import restricted_attributes

_FORBIDDEN_IN_USERS = " :\t\n\v\f\r"
_FORBIDDEN_IN_PASSWORDS = " \t\n\v\f\r"
_FOREVER = -1
_RESTRICTED = restricted_attributes("VM_USE_OPERATIONS", "VM_MANAGE_OPERATIONS", "VM_ADMIN_OPERATIONS")


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


def _fault_of_password(password: str) -> str:
    """Return what oned finds wrong with a password, empty if nothing (User::pass_is_valid)."""
    if not password:
        return "Invalid password, it cannot be empty"
    found = next((each for each in password if each in _FORBIDDEN_IN_PASSWORDS), None)
    return "" if found is None else f"Invalid password, character '{found}' is not allowed"
