"""The errors for failed authentication, as Amazon gives them.

| EC2 error code | status | when |
|---|---|---|
| MissingAuthenticationToken | 403 | the request has no signature, or no certificate (auth x509) |
| IncompleteSignature | 400 | a part of the signature is missing, duplicate, malformed or unknown; or several |
| MissingParameter | 400 | a Version 2 signature without one of its parameters |
| InvalidParameterValue | 400 | an invalid value of a Version 2 parameter; a duplicate among the signed parameters |
| InvalidParameterCombination | 400 | Version 2 with both Timestamp and Expires |
| SignatureDoesNotMatch | 403 | scope, signed headers or body hash contradict the request, whatever the secret |
| RequestExpired | 400 | dated more than 15 minutes ago or ahead, or past its own expiry |
| ExpiredToken | 403 | temporary credentials after their end; EC2 tells it as RequestExpired |
| InvalidClientTokenId | 403 | an access key that cannot be the name of an OpenNebula user |
| AuthFailure | 401 | no such user; another secret, or one that has ended; a disabled user; no secret that counts |
| AuthFailure | 401 | a session token with an access key that is not that of temporary credentials |
| AuthFailure | 401 | a certificate that is not valid now, or of no user, several users, or a disabled user |

Sources: EC2 API Reference, "Common errors" and "Error codes for the Amazon EC2 API" (codes, statuses); IAM User Guide,
"Troubleshoot Signature Version 4" (wording). Like EC2, econed returns the same AuthFailure for an unknown access key
and for a wrong secret: different errors would reveal which users exist. For the same reason every other row depends
only on the request and the time, and is decided before any user is looked up.

The log says more than the response: `AuthenticationFailed` has the access key and the reason.
"""

from __future__ import annotations

from econed.errors import EC2Error


class AuthenticationFailed(EC2Error):
    """The error for a request whose sender names a key; `key` and `reason` are for the log and never sent.

    `key` is the access key or the subject of the certificate, as claimed by the client.
    """

    def __init__(self, error: EC2Error, key: str, reason: str) -> None:
        super().__init__(error.code, error.message, error.status)
        self.key = key
        self.reason = reason


def missing_authentication_token() -> EC2Error:
    """Return the error for a request without a signature or certificate."""
    return EC2Error(
        "MissingAuthenticationToken",
        "The request must contain either a valid (registered) AWS access key ID or X.509 certificate.",
        403,
    )


def incomplete_signature(message: str) -> EC2Error:
    """Return the error for a signature that violates Amazon's rules."""
    return EC2Error("IncompleteSignature", message)


def missing_parameter(name: str) -> EC2Error:
    """Return the error for a Version 2 signature without one of its parameters."""
    return EC2Error("MissingParameter", f"The request must contain the parameter {name}")


def invalid_parameter(name: str, expected: str) -> EC2Error:
    """Return the error for an invalid value of a Version 2 parameter."""
    return EC2Error("InvalidParameterValue", f"The value of the parameter {name} is invalid. It must be {expected}.")


def timestamp_and_expires() -> EC2Error:
    """Return the error for a Version 2 signature with both Timestamp and Expires."""
    return EC2Error("InvalidParameterCombination", "The parameter Timestamp cannot be used with the parameter Expires")


def signature_does_not_match(message: str) -> EC2Error:
    """Return the error for a signature that no secret can match."""
    return EC2Error("SignatureDoesNotMatch", message, 403)


def request_expired() -> EC2Error:
    """Return the error for a signature outside its validity."""
    return EC2Error("RequestExpired", "Request has expired.")


def expired_token() -> EC2Error:
    """Return the error for temporary credentials after their end (IAM; `econed.answers` has that of EC2)."""
    return EC2Error("ExpiredToken", "The security token included in the request is expired", 403)


def invalid_client_token_id() -> EC2Error:
    """Return the error for an access key that cannot be a user name."""
    return EC2Error(
        "InvalidClientTokenId",
        "The X.509 certificate or AWS access key ID provided does not exist in our records.",
        403,
    )


def auth_failure() -> EC2Error:
    """Return the error for users who do not exist, may not sign, or signed with another secret."""
    return EC2Error("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
