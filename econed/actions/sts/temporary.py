"""Temporary credentials: GetSessionToken and AssumeRole (STS API Reference).

A role is a group of the caller, `arn:aws:iam::ACCOUNT:role/GROUP`: its credentials act in this group alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

from econed.actions.action import action
from econed.actions.sts.login_tokens import login_token
from econed.actions.tasks import TaskGroup
from econed.actions.timestamps import timestamp
from econed.credentials.identities import assumed_role_arn, assumed_role_id, user_arn
from econed.credentials.key_ids import new_secret, new_temporary_id
from econed.credentials.temporary import MAX_EARLIER, LoginTokenMark, TemporaryCredentials, seal_session_token
from econed.errors import EC2Error
from econed.ids import account_id
from econed.services import STS
from econed.user import CredentialKind

if TYPE_CHECKING:
    from datetime import datetime

    from econed.actions.call import Call
    from econed.opennebula.documents import UserDocument

_SESSION_SECONDS: Final = 43_200
_ROLE_SECONDS: Final = 3600
_MAX_CHAINED_SECONDS: Final = 3600
"""The longest life of credentials of a role that credentials of a role have requested, in seconds."""

_ARN_PARTS = 6


class ShownCredentials(TypedDict):
    """STS Credentials."""

    AccessKeyId: str
    SecretAccessKey: str
    SessionToken: str
    Expiration: datetime


class GetSessionTokenResult(TypedDict):
    """STS GetSessionTokenResponse."""

    Credentials: ShownCredentials


class AssumedRoleUser(TypedDict):
    """STS AssumedRoleUser."""

    AssumedRoleId: str
    Arn: str


class AssumeRoleResult(TypedDict):
    """STS AssumeRoleResponse."""

    Credentials: ShownCredentials
    AssumedRoleUser: AssumedRoleUser


@action(service=STS, only_reads=False)
async def get_session_token(
    call: Call,
    *,
    duration_seconds: int = _SESSION_SECONDS,
    serial_number: str | None = None,
    token_code: str | None = None,
) -> GetSessionTokenResult:
    """Return temporary credentials with the rights of those that request them.

    Raises `EC2Error` AccessDenied for temporary credentials, certificates and MFA devices, of which there are none, and
    what `login_token` raises.
    """
    if call.credential.kind is CredentialKind.TEMPORARY:
        raise _access_denied("Cannot call GetSessionToken with session credentials")
    _check_caller(call, serial_number, token_code)
    user = await call.session.user_by_id(call.caller.id)
    return {"Credentials": await _credentials(call, user, call.caller.only_group, duration_seconds)}


@action(service=STS, ignores=("ExternalId",))
async def assume_role(
    call: Call,
    *,
    role_arn: str,
    role_session_name: str,
    duration_seconds: int = _ROLE_SECONDS,
    serial_number: str | None = None,
    token_code: str | None = None,
) -> AssumeRoleResult:
    """Return temporary credentials that act in one of the caller's groups alone.

    The name of the session is no secret and has no effect on rights. Raises `EC2Error` ValidationError for a malformed
    ARN, AccessDenied for a role that is no group of the caller's, and as `get_session_token`.
    """
    _check_caller(call, serial_number, token_code)
    if call.credential.role is not None and duration_seconds > _MAX_CHAINED_SECONDS:
        raise EC2Error(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        )
    name = _name_of_role(call, role_arn)
    async with TaskGroup() as tasks:
        groups, user = tasks.start(call.session.groups()), tasks.start(call.session.user_by_id(call.caller.id))
    group = next((each.id for each in groups.result if each.name == name and each.id in call.caller.groups), None)
    if group is None:
        raise _may_not_assume(call, role_arn)
    credentials = await _credentials(
        call, user.result, group, duration_seconds, role=name, session_name=role_session_name
    )
    return {
        "Credentials": credentials,
        "AssumedRoleUser": {
            "AssumedRoleId": assumed_role_id(group, role_session_name),
            "Arn": assumed_role_arn(call.caller.id, name, role_session_name),
        },
    }


def _check_caller(call: Call, serial_number: str | None, token_code: str | None) -> None:
    if serial_number is not None or token_code is not None:
        raise _access_denied(
            "MultiFactorAuthentication failed, unable to validate MFA code.  "
            "Please verify your MFA serial number is valid and associated with this user."
        )
    if call.credential.kind is CredentialKind.CERTIFICATE:
        raise _access_denied("Temporary credentials are signed with, and this server accepts certificates alone.")


def _name_of_role(call: Call, role_arn: str) -> str:
    """Return the name of a role of the caller's account."""
    parts = role_arn.split(":", _ARN_PARTS - 1)
    if len(parts) != _ARN_PARTS or parts[0] != "arn":
        raise EC2Error("ValidationError", f"{role_arn} is invalid")
    kind, _, name = parts[-1].partition("/")
    if [*parts[1:-1], kind] != ["aws", "iam", "", account_id(call.caller.id), "role"]:
        raise _may_not_assume(call, role_arn)
    return name


def _may_not_assume(call: Call, role_arn: str) -> EC2Error:
    caller = user_arn(call.caller.id, call.caller.name)
    return _access_denied(f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role_arn}")


async def _credentials(
    call: Call,
    user: UserDocument,
    group: int | None,
    seconds: int,
    *,
    role: str | None = None,
    session_name: str | None = None,
) -> ShownCredentials:
    """Return new temporary credentials, which end at the latest with those with which they are requested.

    Raises `EC2Error` AccessDenied if too many were requested one with the other.
    """
    earlier = _earlier(call)
    now = call.now
    until = now + seconds
    if call.credential.expires is not None:
        until = min(until, int(call.credential.expires))
    token = await login_token(call, user, group, until)
    made = TemporaryCredentials(
        key_id=new_temporary_id(call.sealer, call.caller.id),
        secret=new_secret(),
        user_id=call.caller.id,
        group=group,
        role=role,
        session_name=session_name,
        created=now,
        expires=until if token.expires is None else min(until, token.expires),
        origin=call.credential.origin,
        login_token=LoginTokenMark.of(token),
        earlier=earlier,
    )
    return {
        "AccessKeyId": made.key_id,
        "SecretAccessKey": made.secret,
        "SessionToken": seal_session_token(call.sealer, made),
        "Expiration": timestamp(made.expires),
    }


def _earlier(call: Call) -> tuple[str, ...]:
    """Return the ids of the temporary credentials with which new ones are requested, directly or indirectly."""
    credential = call.credential
    if credential.kind is not CredentialKind.TEMPORARY:
        return ()
    if len(credential.earlier) >= MAX_EARLIER:
        raise _access_denied(f"At most {MAX_EARLIER} temporary credentials can be requested one with the other.")
    return (*credential.earlier, credential.key)


def _access_denied(message: str) -> EC2Error:
    return EC2Error("AccessDenied", message, 403)
