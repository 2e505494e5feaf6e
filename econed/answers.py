"""The one map from what went wrong to what the client is told; nothing of the inside passes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from econed.auth.failures import auth_failure
from econed.errors import (
    EC2Error,
    InvalidReply,
    NotKeepable,
    OpenNebulaCode,
    OpenNebulaRefusal,
    OpenNebulaUnavailable,
    ServerAccountRefused,
    XmlRpcFault,
)

_INTERNAL = EC2Error("InternalError", "An internal error has occurred.", 500)
_UNAVAILABLE = EC2Error("Unavailable", "The server is overloaded and can't handle the request.", 503)
_UNAUTHORIZED = EC2Error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
_NOT_KEPT = EC2Error("InvalidParameterValue", "A text that the request leads to is one that OpenNebula does not keep.")
_NOT_NOW = EC2Error("IncorrectState", "The resource is not in a state that allows this operation.")

_REFUSALS: Mapping[int, EC2Error] = MappingProxyType(
    {
        # A user who was removed, or renamed, after their signature had been verified.
        OpenNebulaCode.AUTHENTICATION: auth_failure(),
        OpenNebulaCode.AUTHORIZATION: _UNAUTHORIZED,
        OpenNebulaCode.NO_EXISTS: EC2Error(
            "InvalidParameterValue", "A resource that the request names does not exist."
        ),
        OpenNebulaCode.ACTION: _NOT_NOW,
        OpenNebulaCode.XML_RPC_API: EC2Error(
            "InvalidParameterValue", "The request holds a value that OpenNebula does not take."
        ),
        OpenNebulaCode.INTERNAL: EC2Error("InvalidRequest", "OpenNebula cannot carry out this request."),
        OpenNebulaCode.ALLOCATE: EC2Error("InvalidRequest", "OpenNebula cannot create this resource."),
        OpenNebulaCode.LOCKED: _NOT_NOW,
        OpenNebulaCode.REPLICATION: _UNAVAILABLE,
        XmlRpcFault.NOT_COMPLETED: _UNAUTHORIZED,
        XmlRpcFault.WRONG_PARAMETERS: _INTERNAL,
        XmlRpcFault.NOT_A_CALL: _INTERNAL,
        XmlRpcFault.UNKNOWN_METHOD: EC2Error(
            "UnsupportedOperation", "This version of OpenNebula cannot carry out this request."
        ),
    }
)


@dataclass(frozen=True)
class Failure:
    """What a client is told, and whether the log must say more because nobody foresaw it."""

    answer: EC2Error
    is_unforeseen: bool


def failure(error: BaseException) -> Failure:
    """Return what a request that ended with `error` is answered.

    What oned refuses and the action had no better word for becomes a 4xx, since the SDKs repeat a 5xx; 5xx are for oned
    being away, for answers that are none, and for our own faults.
    """
    if isinstance(error, EC2Error):
        return Failure(error, is_unforeseen=False)
    if isinstance(error, OpenNebulaUnavailable):
        return Failure(_UNAVAILABLE, is_unforeseen=False)
    if isinstance(error, InvalidReply):
        return Failure(_INTERNAL, is_unforeseen=False)
    if isinstance(error, NotKeepable):
        return Failure(_NOT_KEPT, is_unforeseen=False)
    if isinstance(error, OpenNebulaRefusal):
        return Failure(_refusal(error), is_unforeseen=False)
    return Failure(_INTERNAL, is_unforeseen=True)


def _refusal(error: OpenNebulaRefusal) -> EC2Error:
    if isinstance(error, ServerAccountRefused):
        return _INTERNAL
    if error.is_quota:
        return EC2Error("ResourceLimitExceeded", "A quota of your account is used up.")
    return _REFUSALS.get(error.code, _INTERNAL)
