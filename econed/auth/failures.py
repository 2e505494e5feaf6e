"""The answers to a caller who has not shown who he is, as Amazon gives them.

| EC2 error code | status | when |
|---|---|---|
| MissingAuthenticationToken | 403 | nothing in the request claims to be a signature; no certificate (auth x509) |
| IncompleteSignature | 400 | a part of the signature is missing, double, unreadable, unknown; or there are two |
| MissingParameter | 400 | a Version 2 signature without one of its parameters |
| InvalidParameterValue | 400 | a Version 2 parameter with a value that there is not; a signed parameter given twice |
| InvalidParameterCombination | 400 | Version 2 with both Timestamp and Expires |
| SignatureDoesNotMatch | 403 | scope, signed headers or body hash contradict the request, whoever signed it |
| RequestExpired | 400 | dated more than 15 minutes ago or ahead, or past its own expiry |
| InvalidClientTokenId | 403 | an access key that no OpenNebula user can have as his name |
| AuthFailure | 401 | no such user; another secret; a disabled user; a driver (AUTH_DRIVER) without a secret |
| AuthFailure | 401 | a certificate that is nobody's, or several users', or a disabled user's, or not valid now |

Sources: EC2 API Reference, "Common errors" and "Error codes for the Amazon EC2 API" (codes, statuses); IAM User Guide,
"Troubleshoot Signature Version 4" (wording). EC2 itself answers an unknown access key and a wrong secret with the
same AuthFailure, and so do we: different answers would tell strangers which users there are. For the same reason
every other row is decided by the request and the time alone, before any user is looked up.
"""

from __future__ import annotations

from econed.errors import EC2Error


def missing_authentication_token() -> EC2Error:
    """Return the answer to a request that nothing comes with to tell whose it is."""
    return EC2Error(
        "MissingAuthenticationToken",
        "The request must contain either a valid (registered) AWS access key ID or X.509 certificate.",
        403,
    )


def incomplete_signature(message: str) -> EC2Error:
    """Return the answer to a signature that is not one by Amazon's rules."""
    return EC2Error("IncompleteSignature", message)


def missing_parameter(name: str) -> EC2Error:
    """Return the answer to a Version 2 signature that lacks a parameter."""
    return EC2Error("MissingParameter", f"The request must contain the parameter {name}")


def invalid_parameter(name: str, expected: str) -> EC2Error:
    """Return the answer to a Version 2 parameter with a value that means nothing."""
    return EC2Error("InvalidParameterValue", f"The value of the parameter {name} is invalid. It must be {expected}.")


def timestamp_and_expires() -> EC2Error:
    """Return the answer to a Version 2 signature that is limited in two ways."""
    return EC2Error("InvalidParameterCombination", "The parameter Timestamp cannot be used with the parameter Expires")


def signature_does_not_match(message: str) -> EC2Error:
    """Return the answer to a signature that no secret can make right."""
    return EC2Error("SignatureDoesNotMatch", message, 403)


def request_expired() -> EC2Error:
    """Return the answer to a signature outside its time."""
    return EC2Error("RequestExpired", "Request has expired.")


def invalid_client_token_id() -> EC2Error:
    """Return the answer to an access key that cannot be a user's name."""
    return EC2Error(
        "InvalidClientTokenId",
        "The X.509 certificate or AWS access key ID provided does not exist in our records.",
        403,
    )


def auth_failure() -> EC2Error:
    """Return the one answer for users that do not exist, may not sign, or signed with another secret."""
    return EC2Error("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
