"""Groups of users, and who changes them: as measured on 7.4."""

from __future__ import annotations

import pytest

from tests.sandbox.demo_cloud import DemoCloud

AUTHORIZATION, NO_EXISTS, ACTION, BAD_CALL = 512, 1024, 2048, 4096
PRIMARY, SECOND, MISSING = 100, 101, 99_999


@pytest.fixture(params=["5.12", "7.4"])
def demo(request: pytest.FixtureRequest) -> DemoCloud:
    """The demo cloud with a second group, 101."""
    demo = DemoCloud(request.param)
    assert demo.admin("one.group.allocate", "second")[1] == SECOND
    return demo


def user(demo: DemoCloud, driver: str = "core") -> int:
    """Return the id of a new user of the primary group."""
    return int(str(demo.admin("one.user.allocate", "kim", "kimpw", driver, [PRIMARY])[1]))


def code(demo: DemoCloud, method: str, *args: int, session: str = "") -> object:
    """Return the code of oned's refusal, 0 for success."""
    return demo.oned.execute(method, session or demo.oned.oneadmin, *args)[2]


def test_a_user_joins_and_leaves_a_group_once(demo: DemoCloud) -> None:
    kim = user(demo)
    codes = [code(demo, f"one.user.{call}", kim, SECOND) for call in ("addgroup", "addgroup", "delgroup", "delgroup")]
    assert codes == [0, ACTION, 0, ACTION]


def test_nobody_leaves_their_primary_group(demo: DemoCloud) -> None:
    assert code(demo, "one.user.delgroup", user(demo), PRIMARY) == ACTION


@pytest.mark.parametrize("method", ["one.user.addgroup", "one.user.delgroup"])
def test_membership_of_what_does_not_exist_cannot_be_changed(demo: DemoCloud, method: str) -> None:
    assert code(demo, method, user(demo), MISSING) == NO_EXISTS
    assert code(demo, method, MISSING, SECOND) == NO_EXISTS


@pytest.mark.parametrize("method", ["one.user.addgroup", "one.user.delgroup"])
def test_users_do_not_change_their_own_groups(demo: DemoCloud, method: str) -> None:
    kim = user(demo)
    assert code(demo, method, kim, SECOND, session="kim:kimpw") == AUTHORIZATION


@pytest.mark.parametrize("driver", ["ldap", "saml"])
def test_the_groups_of_users_of_a_directory_are_not_changed_in_oned(demo: DemoCloud, driver: str) -> None:
    """As oned.conf says when it is delivered: DRIVER_MANAGED_GROUPS."""
    kim = user(demo, driver)
    codes = [code(demo, f"one.user.{call}", kim, SECOND) for call in ("addgroup", "delgroup", "chgrp")]
    assert codes == [ACTION, ACTION, BAD_CALL]
