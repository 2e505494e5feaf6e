"""The user who makes a request."""

from __future__ import annotations

import pytest

from econed.user import User


def user(secret: str, driver: str) -> User:
    """Return an enabled user with this PASSWORD and AUTH_DRIVER."""
    return User(id=7, name="alice", gid=1, groups=(1,), secret=secret, driver=driver, enabled=True)


@pytest.mark.parametrize(
    ("secret", "subjects"),
    [
        ("/O=ONE/CN=a", ("/O=ONE/CN=a",)),
        (r"/O=ONE/CN=a|/O=ONE\20cloud/CN=b", ("/O=ONE/CN=a", r"/O=ONE\20cloud/CN=b")),
        ("||", ()),
    ],
)
def test_the_password_of_an_x509_user_holds_subjects_separated_by_bars(secret: str, subjects: tuple[str, ...]) -> None:
    """There may be one or more; an empty text is not a subject."""
    assert user(secret, "x509").subjects == subjects


def test_users_of_other_drivers_have_no_subjects() -> None:
    """Their PASSWORD is a secret."""
    assert user("/O=ONE/CN=a", "core").subjects == ()
