"""The one map from exceptions to the errors that clients get; it lets no internal details through.

An `EC2Error` has a code of EC2, or of the service whose action raises it. Where all services share a cause, such as a
wrong signature, the other services have codes and texts of their own (IAM API Reference, "Common Errors").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import MappingProxyType

from econed.auth.failures import auth_failure, request_expired
from econed.errors import (
    EC2Error,
    InvalidReply,
    NotStorable,
    OpenNebulaCode,
    OpenNebulaRefusal,
    OpenNebulaUnavailable,
    ServerAccountRefused,
    XmlRpcFault,
)
from econed.services import EC2, AmazonService

_INTERNAL = EC2Error("InternalError", "An internal error has occurred.", 500)
_UNAVAILABLE = EC2Error(
    "ServiceUnavailable", "OpenNebula, which carries out all requests, does not reply. Try again later.", 503
)
_UNAUTHORIZED = EC2Error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
_NOT_STORABLE = EC2Error("InvalidParameterValue", "The request requires a text that OpenNebula cannot store unchanged.")
_INCORRECT_STATE = EC2Error("IncorrectState", "The resource is not in a state that allows this operation.")

_REFUSALS: Mapping[int, EC2Error] = MappingProxyType(
    {
        # The user was deleted or renamed, or their login token has ended, after their signature had been verified.
        OpenNebulaCode.AUTHENTICATION: auth_failure(),
        OpenNebulaCode.AUTHORIZATION: _UNAUTHORIZED,
        OpenNebulaCode.NO_EXISTS: EC2Error(
            "InvalidParameterValue", "A resource that the request names does not exist."
        ),
        OpenNebulaCode.ACTION: _INCORRECT_STATE,
        OpenNebulaCode.XML_RPC_API: EC2Error(
            "InvalidParameterValue", "The request contains a value that OpenNebula does not accept."
        ),
        OpenNebulaCode.INTERNAL: EC2Error("InvalidRequest", "OpenNebula cannot carry out this request."),
        OpenNebulaCode.ALLOCATE: EC2Error("InvalidRequest", "OpenNebula cannot create this resource."),
        OpenNebulaCode.LOCKED: _INCORRECT_STATE,
        OpenNebulaCode.REPLICATION: _UNAVAILABLE,
        XmlRpcFault.NOT_COMPLETED: _UNAUTHORIZED,
        XmlRpcFault.WRONG_PARAMETERS: _INTERNAL,
        XmlRpcFault.NOT_A_CALL: _INTERNAL,
        XmlRpcFault.UNKNOWN_METHOD: EC2Error(
            "UnsupportedOperation", "This version of OpenNebula cannot carry out this request."
        ),
    }
)

_INVALID_TOKEN = EC2Error("InvalidClientTokenId", "The security token included in the request is invalid.", 403)
"""For an access key that does not exist and for a wrong secret alike: nobody learns which keys there are."""

_OF_QUERY_SERVICES: Mapping[str, EC2Error] = MappingProxyType(
    {
        "AuthFailure": _INVALID_TOKEN,
        "InternalError": EC2Error("InternalFailure", _INTERNAL.message, 500),
        "InvalidClientTokenId": _INVALID_TOKEN,
        "MissingAuthenticationToken": EC2Error(
            "MissingAuthenticationToken", "Request is missing Authentication Token", 403
        ),
        "RequestLimitExceeded": EC2Error("Throttling", "Rate exceeded", 400),
        "UnauthorizedOperation": EC2Error("AccessDenied", _UNAUTHORIZED.message, 403),
    }
)
"""The errors of STS and IAM, by the codes of EC2's for the same causes."""

_RENAMED_BY_QUERY_SERVICES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "ResourceLimitExceeded": ("LimitExceeded", 409),
        "UnknownParameter": ("InvalidQueryParameter", 400),
        "UnsupportedOperation": ("InvalidParameterValue", 400),
    }
)
"""The codes and status of STS and IAM, by the codes of EC2's errors of which they have the text."""

_OF_EC2: Mapping[str, EC2Error] = MappingProxyType({"ExpiredToken": request_expired()})
"""The errors of EC2, by the codes of those of STS and IAM for the same causes."""


@dataclass(frozen=True)
class Failure:
    """The error for the client, and what the log adds to it.

    An `is_unforeseen` exception is logged with its traceback. `cause` is an exception whose message the log quotes and
    the client does not get; None if the error says all.
    """

    error: EC2Error
    is_unforeseen: bool
    cause: BaseException | None

    @property
    def is_refusal(self) -> bool:
        """Whether the client may not do what it asked for, or not now; not if it failed through no fault of theirs."""
        if self.error.code == "DryRunOperation":
            return False
        return self.error.status < HTTPStatus.INTERNAL_SERVER_ERROR or self.error.code == "RequestLimitExceeded"


def failure(error: BaseException, service: AmazonService) -> Failure:
    """Return the failure of a request to a service that ended with `error`.

    A refusal by oned for which the action has no specific error becomes a 4xx, since SDKs send a request again after a
    5xx. A 5xx is for an unreachable oned, for invalid replies, and for faults of econed.
    """
    failed = _failure(error)
    return replace(failed, error=_error_of(service, failed.error))


def _error_of(service: AmazonService, error: EC2Error) -> EC2Error:
    """Return the error with which a service tells what `error` tells."""
    if service is EC2:
        return _OF_EC2.get(error.code, error)
    if error.code in _RENAMED_BY_QUERY_SERVICES:
        code, status = _RENAMED_BY_QUERY_SERVICES[error.code]
        return EC2Error(code, error.message, status)
    return _OF_QUERY_SERVICES.get(error.code, error)


def _failure(error: BaseException) -> Failure:
    if isinstance(error, EC2Error):
        refusal = error.__cause__ if isinstance(error.__cause__, OpenNebulaRefusal) else None
        is_server_error = error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        is_told = refusal is not None and (refusal.is_quota or is_server_error)
        return Failure(error, is_unforeseen=False, cause=refusal if is_told else None)
    if isinstance(error, OpenNebulaUnavailable):
        return Failure(_UNAVAILABLE, is_unforeseen=False, cause=error)
    if isinstance(error, InvalidReply):
        return Failure(_INTERNAL, is_unforeseen=False, cause=error)
    if isinstance(error, NotStorable):
        return Failure(_NOT_STORABLE, is_unforeseen=False, cause=error)
    if isinstance(error, OpenNebulaRefusal):
        return Failure(_refusal(error), is_unforeseen=False, cause=error)
    return Failure(_INTERNAL, is_unforeseen=True, cause=error)


def _refusal(error: OpenNebulaRefusal) -> EC2Error:
    if isinstance(error, ServerAccountRefused):
        return _INTERNAL
    if error.is_quota:
        return EC2Error("ResourceLimitExceeded", "A quota of your account is used up.")
    return _REFUSALS.get(error.code, _INTERNAL)
