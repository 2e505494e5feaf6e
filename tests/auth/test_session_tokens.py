"""Session tokens in requests: X-Amz-Security-Token in a header or the query string, SecurityToken in Version 2."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from econed.auth.authenticator import read_claim
from econed.auth.failures import AuthenticationFailed
from econed.auth.signature import MAX_SESSION_TOKEN
from econed.errors import EC2Error
from tests.auth.signed_requests import DESCRIBE
from tests.auth.support import Signed, presign_v4, refusal, sign_v2, sign_v4, with_header

HEADER = "x-amz-security-token"

WITH_TOKEN = [
    lambda token: sign_v4("POST", form=DESCRIBE, token=token),
    lambda token: presign_v4(query=DESCRIBE, token=token),
    lambda token: sign_v2("GET", DESCRIBE, token=token),
    lambda token: sign_v2("POST", DESCRIBE, token=token),
]
"""How clients send a session token, in each way of signing."""

every_way = pytest.mark.parametrize("sign", WITH_TOKEN)


@every_way
def test_the_session_token_is_part_of_the_claim(sign: Callable[[str], Signed]) -> None:
    request = sign("token//==").request
    assert read_claim(request).session_token == "token//=="


@every_way
def test_a_user_name_with_a_session_token_is_refused(sign: Callable[[str], Signed]) -> None:
    """Session tokens belong to temporary credentials, whose access keys have another form."""
    signed = sign("token")
    error = refusal(signed.request, signed.at)
    assert isinstance(error, AuthenticationFailed)
    assert error.code == "AuthFailure"
    assert error.reason == "the request has a session token, which belongs to temporary credentials alone"


@every_way
def test_two_different_session_tokens_are_malformed(sign: Callable[[str], Signed]) -> None:
    """The same twice is one."""
    request = sign("token").request
    with pytest.raises(EC2Error, match="IncompleteSignature: The request must contain one session token"):
        read_claim(with_header(request, HEADER, b"token", b"another"))
    assert read_claim(with_header(request, HEADER, b"token")).session_token == "token"


@every_way
def test_the_length_of_a_session_token_is_limited(sign: Callable[[str], Signed]) -> None:
    assert read_claim(sign("t" * MAX_SESSION_TOKEN).request).session_token == "t" * MAX_SESSION_TOKEN
    with pytest.raises(EC2Error, match="IncompleteSignature: A session token must have at most 4096 characters"):
        read_claim(sign("t" * (MAX_SESSION_TOKEN + 1)).request)


def test_an_empty_session_token_is_none() -> None:
    """Clients send one where a variable of their environment is empty."""
    signed = sign_v4("POST", form=DESCRIBE)
    assert read_claim(with_header(signed.request, HEADER, b"")).session_token is None
