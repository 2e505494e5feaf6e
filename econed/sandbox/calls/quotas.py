"""The calls that set and show quotas."""

from __future__ import annotations

from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Right
from econed.sandbox.objects.users import ONEADMIN, User
from econed.sandbox.quotas import Quotas
from econed.sandbox.refusals import Refused, unauthorized, wrong_state


class QuotaCalls:
    """`one.user.quota`, `one.group.quota`, `one.userquota.*`, `one.groupquota.*`. Text that is invalid is 2048."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.user.quota", int, str)
    def of_user(self, caller: User, user_id: int, text: str) -> int:
        """Set quota limits of a user."""
        user = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.users, user_id)
        if user_id == ONEADMIN:
            raise wrong_state("Cannot set quotas for oneadmin user")
        self._set_limits(user.quotas, text)
        return user_id

    @serves("one.group.quota", int, str)
    def of_group(self, caller: User, group_id: int, text: str) -> int:
        """Set quota limits of a group."""
        group = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.groups, group_id)
        if group_id == ONEADMIN:
            raise wrong_state("Cannot set quotas for oneadmin group")
        self._set_limits(group.quotas, text)
        return group_id

    @serves("one.userquota.info")
    def user_defaults(self, _caller: User) -> str:
        """Return the default quotas of users."""
        return self._document("DEFAULT_USER_QUOTAS", self._cloud.default_user_quotas)

    @serves("one.groupquota.info")
    def group_defaults(self, _caller: User) -> str:
        """Return the default quotas of groups."""
        return self._document("DEFAULT_GROUP_QUOTAS", self._cloud.default_group_quotas)

    @serves("one.userquota.update", str)
    def update_user_defaults(self, caller: User, text: str) -> str:
        """Set default limits of users and return the default quotas."""
        self._update_defaults(caller, self._cloud.default_user_quotas, text)
        return self.user_defaults(caller)

    @serves("one.groupquota.update", str)
    def update_group_defaults(self, caller: User, text: str) -> str:
        """Set default limits of groups and return the default quotas."""
        self._update_defaults(caller, self._cloud.default_group_quotas, text)
        return self.group_defaults(caller)

    def _update_defaults(self, caller: User, defaults: Quotas, text: str) -> None:
        if not caller.is_oneadmin:
            reason = "The default quotas can only be updated by users in the oneadmin group"
            raise unauthorized(f"User [{caller.id}] : {reason}.")
        self._set_limits(defaults, text)

    def _set_limits(self, quotas: Quotas, text: str) -> None:
        try:
            template = self._cloud.parse(text)
        except Refused as refusal:
            raise wrong_state(refusal.text) from refusal
        quotas.set_limits(template)

    def _document(self, element: str, quotas: Quotas) -> str:
        return f"<{element}>{quotas.xml(is_v7=self._cloud.version.is_v7)}</{element}>"
