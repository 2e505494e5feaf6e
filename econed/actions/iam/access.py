"""Who may call IAM, and for whom: users for themselves, administrators of OpenNebula for all.

Credentials that someone may have got from a user for a purpose must not make lasting ones, or show which there are. So
temporary credentials and login tokens of a group may call nothing of IAM, and access keys only if the administrator
allows it (econe.conf, `keys_may_make_keys`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from econed.credentials.identities import user_arn
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.user import CredentialKind, SecretKeys, is_server_driver

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import UserDocument

_ADMINISTRATORS: Final = 0
"""The group oneadmin, whose members oned lets do everything."""


async def managed_user(call: Call, action: str, user_name: str | None) -> UserDocument:
    """Return the user for whom an action of IAM is called: the one with this name, without one the caller.

    Raises `EC2Error` AccessDenied if the caller may not call it for them, or NoSuchEntity if there is no such user.
    """
    check_credential(call, action)
    if user_name is None or user_name == call.caller.name:
        return await call.session.current_user()
    if not is_administrator(call):
        raise access_denied(call, action, f"user {user_name}")
    found: list[UserDocument] = []

    async def visit(user: UserDocument) -> None:
        if user.name == user_name:
            found.append(user)

    await call.session.visit_users(visit, lambda user_id: None)
    if not found:
        raise _no_such_user(user_name)
    return found[0]


async def managed_user_by_id(call: Call, action: str, user_id: int) -> UserDocument | None:
    """Return the user with an id, for whom an action of IAM is called; None if there is none.

    Raises `EC2Error` AccessDenied if the caller may not call it for them.
    """
    check_credential(call, action)
    if user_id == call.caller.id:
        return await call.session.current_user()
    if not is_administrator(call):
        raise access_denied(call, action, "access keys of other users")
    try:
        return await call.session.user_by_id(user_id)
    except OpenNebulaRefusal as refusal:
        if refusal.code != OpenNebulaCode.NO_EXISTS:
            raise
        return None


def check_credential(call: Call, action: str) -> None:
    """Raise `EC2Error` AccessDenied if the credential of the request may not call IAM."""
    kind = call.credential.kind
    if kind is CredentialKind.TEMPORARY:
        raise access_denied(call, action, because="temporary credentials may not call IAM")
    if call.caller.only_group is not None:
        raise access_denied(call, action, because="login tokens of a group may not call IAM")
    if kind is CredentialKind.ACCESS_KEY and not call.settings.keys_may_make_keys:
        raise access_denied(call, action, because="access keys may not call IAM here")


def check_may_have_keys(call: Call, action: str, user: UserDocument) -> None:
    """Raise `EC2Error` AccessDenied if a user could not sign with an access key."""
    if call.settings.auth == "x509":
        raise access_denied(call, action, because="requests are authenticated by certificates here")
    if SecretKeys.ACCESS_KEYS not in call.settings.secret_keys:
        raise access_denied(call, action, because="access keys are not accepted here")
    if is_server_driver(user.driver):
        raise access_denied(call, action, f"user {user.name}", because="it is an account of OpenNebula's servers")


def is_administrator(call: Call) -> bool:
    """Whether the caller is oneadmin, or a member of that group."""
    return _ADMINISTRATORS in call.caller.groups


def access_denied(call: Call, action: str, resource: str = "", *, because: str = "") -> EC2Error:
    """Return the error for an action that the caller may not call, in Amazon's words."""
    text = f"User: {user_arn(call.caller.id, call.caller.name)} is not authorized to perform: iam:{action}"
    return EC2Error(
        "AccessDenied", text + (resource and f" on resource: {resource}") + (because and f" because {because}"), 403
    )


def _no_such_user(name: str) -> EC2Error:
    return EC2Error("NoSuchEntity", f"The user with name {name} cannot be found.", 404)
