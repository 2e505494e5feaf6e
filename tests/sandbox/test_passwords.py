"""Passwords that oned accepts, with any driver: as measured on 5.12 and 7.4."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned

INTERNAL, ACTION = 8192, 2048


@pytest.fixture(params=["5.12", "7.4"])
def oned(request: pytest.FixtureRequest) -> Oned:
    """An oned with the user anna, whose certificate has a blank in its subject."""
    oned = Oned(Clock(), version=request.param)
    populate(oned, users=[("anna", "/O=ONE cloud/CN=anna")])
    return oned


def anna(oned: Oned) -> tuple[int, str, str]:
    """Return the id, PASSWORD and driver of anna."""
    user = oned.cloud.find_user("anna")
    assert user is not None
    return user.id, user.password, user.driver


@pytest.mark.parametrize("password", ["a b", "/O=ONE cloud/CN=bert", "a\tb", "a\nb", ""])
@pytest.mark.parametrize("driver", ["core", "public", "x509"])
def test_a_user_with_white_space_in_the_password_is_refused(oned: Oned, password: str, driver: str) -> None:
    reply = oned.execute("one.user.allocate", oned.oneadmin, "bert", password, driver, [])
    assert (reply[0], reply[2]) == (False, INTERNAL)
    assert oned.cloud.find_user("bert") is None


@pytest.mark.parametrize("call", [("one.user.passwd",), ("one.user.chauth", "x509")])
def test_a_new_password_with_white_space_is_refused(oned: Oned, call: tuple[str, ...]) -> None:
    """The old password and driver stay."""
    before = anna(oned)
    reply = oned.execute(call[0], oned.oneadmin, before[0], *call[1:], "/CN=an na")
    assert (reply[0], reply[2]) == (False, ACTION)
    assert anna(oned) == before


def test_a_demo_user_whose_secret_is_a_subject_authenticates_by_certificate(oned: Oned) -> None:
    """Blanks in it are escaped, as `oneuser` does."""
    assert anna(oned)[1:] == (r"/O=ONE\20cloud/CN=anna", "x509")
