"""Who the caller is (STS API Reference, GetCallerIdentity). Terraform and Ansible ask it before anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from econed.actions.action import action
from econed.credentials.identities import assumed_role_arn, assumed_role_id, user_arn, user_unique_id
from econed.services import STS

if TYPE_CHECKING:
    from econed.actions.call import Call


class GetCallerIdentityResult(TypedDict):
    """STS GetCallerIdentityResponse."""

    UserId: str
    Account: str
    Arn: str


@action(service=STS)
async def get_caller_identity(call: Call) -> GetCallerIdentityResult:
    """Return the account, the ARN and the unique id of the caller; with any credential, as at Amazon.

    Those who have assumed a role are that role in their own account, with the name of the session.
    """
    user, role, session = call.caller, call.credential.role, call.credential.session_name
    if role is None or session is None:
        return {"UserId": user_unique_id(user.id), "Account": call.owner_id, "Arn": user_arn(user.id, user.name)}
    return {
        "UserId": assumed_role_id(user.gid, session),
        "Account": call.owner_id,
        "Arn": assumed_role_arn(user.id, role, session),
    }
