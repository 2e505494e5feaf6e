"""The same request, signed in each of the ways that clients use."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from econed.wire.signed_request import SignedRequest
from tests.auth.support import Signed, presign_v4, sign_v2, sign_v4

DESCRIBE = {"Action": "DescribeInstances", "Version": "2016-11-15", "InstanceId.1": "i-00000001"}
MINUTES = 60


@cache
def posted() -> Signed:
    """Return a form signed with Version 4."""
    return sign_v4("POST", form=DESCRIBE)


@cache
def presigned() -> Signed:
    """Return a query string with a Version 4 signature."""
    return presign_v4(query=DESCRIBE)


@cache
def v2_get() -> Signed:
    """Return a query string signed with Version 2."""
    return sign_v2("GET", DESCRIBE)


@cache
def v2_post() -> Signed:
    """Return a form signed with Version 2."""
    return sign_v2("POST", DESCRIBE)


every_method = pytest.mark.parametrize("method", [posted, presigned, v2_get, v2_post])


def edited(request: SignedRequest, old: bytes, new: bytes) -> SignedRequest:
    """Return `request` with every `old` replaced by `new`; fails if there is none."""
    changed = replace(
        request,
        query=request.query.replace(old, new),
        body=request.body.replace(old, new),
        headers=tuple((name, value.replace(old, new)) for name, value in request.headers),
    )
    assert changed != request
    return changed
