"""The calls on users."""

from __future__ import annotations

import secrets

from econed.errors import OpenNebulaCode
from econed.sandbox.accounts import new_user, stored_password
from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Right, check_name
from econed.sandbox.objects.users import ALL_GROUPS, NEVER, ONEADMIN, SERVERADMIN, Group, LoginToken, User
from econed.sandbox.refusals import Refused, bad_call, internal, wrong_state
from econed.sandbox.template import restricted_attributes

_FORBIDDEN_IN_USERS = " :\t\n\v\f\r"
_FORBIDDEN_IN_PASSWORDS = " \t\n\v\f\r"
_MAX_TOKEN_SECONDS = {"ldap": 86_400, "saml": 86_400}
"""The longest life of login tokens by auth driver; no limit for the others (oned.conf: MAX_TOKEN_TIME)."""

_MANAGES_GROUPS = frozenset({"ldap", "saml"})
"""Auth drivers whose users get their groups from the driver alone (oned.conf: DRIVER_MANAGED_GROUPS)."""

_RESTRICTED = restricted_attributes("VM_USE_OPERATIONS", "VM_MANAGE_OPERATIONS", "VM_ADMIN_OPERATIONS")


class UserCalls:
    """`one.user.*` except `quota`, `one.userpool.info`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.user.allocate", str, str, optional=(str, list))
    def allocate(self, caller: User, name: str, password: str, driver: str = "", gids: object = ()) -> int:
        """Allocate a user. The default auth driver is core, the default group `users`."""
        cloud = self._cloud
        cloud.rights.check(caller, Right.CREATE, Kind.USER, None)
        check_name(name, _FORBIDDEN_IN_USERS)
        if reason := _password_error(password):
            raise internal(f"{reason}.")
        namesake = cloud.find_user(name)
        if namesake is not None:
            raise internal(f"NAME is already taken by USER {namesake.id}.")
        group_ids = [int(gid) for gid in gids] if isinstance(gids, list | tuple) and gids else [1]
        for group_id in group_ids:
            cloud.get_authorized(caller, Right.MANAGE, cloud.groups, group_id)
        driver = driver or "core"
        return new_user(cloud, name, stored_password(driver, password), driver, group_ids).id

    @serves("one.user.info", int, optional=(bool,))
    def info(self, caller: User, user_id: int, _decrypt: bool = False) -> str:
        """Return the document of a user; -1 is the caller."""
        cloud = self._cloud
        is_caller = user_id == -1
        user = (
            cloud.users.get(caller.id)
            if is_caller
            else cloud.get_authorized(caller, Right.USE, cloud.users, user_id, locks=False)
        )
        return user.full_xml(cloud.default_user_quotas, is_v7=cloud.version.is_v7)

    @serves("one.userpool.info")
    def pool(self, caller: User) -> str:
        """Return the document of the users that the caller may see: only the caller, or all."""
        is_v7, rights = self._cloud.version.is_v7, self._cloud.rights
        elements = "".join(
            f"{user.xml()}<QUOTAS><ID>{user.id}</ID>{user.quotas.xml(is_v7=is_v7)}</QUOTAS>"
            for user in self._cloud.users.newest_first()
            if rights.allows(caller, Right.USE, Kind.USER, user)
        )
        defaults = self._cloud.default_user_quotas.xml(is_v7=is_v7)
        return f"<USER_POOL>{elements}<DEFAULT_USER_QUOTAS>{defaults}</DEFAULT_USER_QUOTAS></USER_POOL>"

    def _managed(self, caller: User, user_id: int) -> User:
        return self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.users, user_id)

    @serves("one.user.update", int, str, optional=(int,))
    def update(self, caller: User, user_id: int, text: str, append: int = 0) -> int:
        """Replace a user's attributes (0), or merge into them (1)."""
        user = self._managed(caller, user_id)
        user.template = self._cloud.updated_template(caller, user.template, text, append, _RESTRICTED, unique=True)
        return user_id

    @serves("one.user.passwd", int, str)
    def passwd(self, caller: User, user_id: int, password: str) -> int:
        """Change a user's password; session and login tokens are dropped."""
        user = self._managed(caller, user_id)
        if reason := _password_error(password):
            raise wrong_state(reason)
        user.set_password(stored_password(user.driver, password))
        return user_id

    @serves("one.user.chauth", int, str, optional=(str,))
    def chauth(self, caller: User, user_id: int, driver: str, password: str = "") -> int:
        """Change a user's auth driver and, if it is not empty, password; a new password drops login tokens too."""
        user = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.users, user_id)
        if password and (reason := _password_error(password)):
            raise wrong_state(reason)
        user.driver, user.session = driver, None
        if password:
            user.set_password(stored_password(driver, password))
        return user_id

    @serves("one.user.enable", int, bool)
    def enable(self, caller: User, user_id: int, enabled: bool) -> int:
        """Enable or disable a user, whose login tokens end; server tokens for disabled users remain valid."""
        user = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.users, user_id)
        user.is_enabled = enabled
        if not enabled:
            user.session, user.login_tokens = None, {}
        return user_id

    @serves("one.user.login", str, str, int, optional=(int,))
    def login(self, caller: User, name: str, token: str, valid: int, egid: int = ALL_GROUPS) -> str:
        """Issue a login token valid for `valid` seconds, or for ever (-1); 0 removes a token, or all without a text."""
        user = self._cloud.find_user(name)
        if user is None:
            raise Refused(OpenNebulaCode.NO_EXISTS, "Error getting user Pool.")
        self._cloud.rights.check(caller, Right.MANAGE, Kind.USER, user)
        if valid == 0:
            return _remove_login_token(user, token)
        if valid < NEVER:
            raise bad_call("Wrong valid period for token")
        _check_groups_of_token(caller, user, egid)
        longest = _MAX_TOKEN_SECONDS.get(user.driver)
        if longest is not None:
            valid = longest if valid == NEVER else min(valid, longest)
        now = self._cloud.now()
        login = LoginToken(token or secrets.token_hex(32), NEVER if valid == NEVER else now + valid, egid)
        if not user.add_login_token(login, now):
            raise bad_call("Max number of tokens limit reached.")
        return login.token

    @serves("one.user.delete", int)
    def delete(self, caller: User, user_id: int) -> int:
        """Delete a user."""
        user = self._managed(caller, user_id)
        if user.id in (ONEADMIN, SERVERADMIN) or user.id == caller.id:
            raise internal("oneadmin cannot be deleted.")
        for gid in user.gids:
            self._cloud.groups.get(gid).user_ids.discard(user.id)
        self._cloud.users.remove(user)
        return user_id

    @serves("one.user.chgrp", int, int)
    def chgrp(self, caller: User, user_id: int, gid: int) -> int:
        """Change a user's primary group."""
        user = self._managed(caller, user_id)
        group = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.groups, gid)
        if user.driver in _MANAGES_GROUPS:
            raise bad_call(_groups_are_managed(user))
        self._cloud.groups.get(user.gid).user_ids.discard(user.id)
        user.gids = sorted({gid, *user.gids} - {user.gid})
        user.gid, user.gname = gid, group.name
        group.user_ids.add(user.id)
        return user_id

    @serves("one.user.addgroup", int, int)
    def addgroup(self, caller: User, user_id: int, gid: int) -> int:
        """Add a user to a secondary group."""
        user, group = self._user_and_group(caller, user_id, gid)
        if gid in user.gids:
            raise wrong_state("User is already in this group")
        user.gids = sorted({gid, *user.gids})
        group.user_ids.add(user.id)
        return user_id

    @serves("one.user.delgroup", int, int)
    def delgroup(self, caller: User, user_id: int, gid: int) -> int:
        """Remove a user from a secondary group; a login token of the group is removed when it is used next."""
        user, group = self._user_and_group(caller, user_id, gid)
        if gid not in user.gids:
            raise wrong_state("User is not part of this group")
        if gid == user.gid:
            raise wrong_state("Cannot remove user from the primary group")
        user.gids.remove(gid)
        group.user_ids.discard(user.id)
        return user_id

    def _user_and_group(self, caller: User, user_id: int, gid: int) -> tuple[User, Group]:
        user = self._managed(caller, user_id)
        group = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.groups, gid)
        if user.driver in _MANAGES_GROUPS:
            raise wrong_state(_groups_are_managed(user))
        return user, group


def _groups_are_managed(user: User) -> str:
    return f"Groups cannot be manually managed for auth driver {user.driver}"


def _remove_login_token(user: User, token: str) -> str:
    """Remove a login token, or all with an empty text."""
    if not token:
        user.login_tokens = {}
    elif user.login_tokens.pop(token, None) is None:
        raise bad_call(f"Could not find token: {token}")
    return token


def _check_groups_of_token(caller: User, user: User, egid: int) -> None:
    """Refuse a token for a group, or for all of a user's groups, that the caller's own session does not have."""
    if egid == ALL_GROUPS:
        if set(user.gids) != set(caller.gids):
            raise bad_call("Cannot create a full token with a specific group token")
    elif not caller.is_oneadmin and not (egid in user.gids and egid in caller.gids):
        raise bad_call("EGID is not in user group list")


def _password_error(password: str) -> str:
    """Return why oned refuses a password, or an empty text if it accepts it (oned: User::pass_is_valid)."""
    if not password:
        return "Invalid password, it cannot be empty"
    forbidden = next((character for character in password if character in _FORBIDDEN_IN_PASSWORDS), None)
    return "" if forbidden is None else f"Invalid password, character '{forbidden}' is not allowed"
