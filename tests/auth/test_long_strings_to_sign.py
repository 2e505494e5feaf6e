"""Version 2 signs all parameters of a request, so that its strings to sign may be long."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from econed.auth.authenticator import LONG_TEXTS, SignatureAuthenticator
from econed.auth.failures import AuthenticationFailed
from econed.auth.user_names import UserNames
from tests.auth.support import ListedUsers, done, sign_v2
from tests.support.turn_clock import TurnClock


@pytest.mark.parametrize(("length", "turns"), [(100, 0), (LONG_TEXTS, 2 * 11)])
def test_the_reactor_runs_after_each_secret_that_is_tried_with_long_texts(length: int, turns: int) -> None:
    """Before and after the refresh; for short ones everything is computed at once."""
    signed = sign_v2("POST", {"Action": "DescribeInstances", "Version": "2016-11-15", "Filter.1.Name": "x" * length})
    clock = TurnClock()
    clock.rightNow = signed.at
    users = ListedUsers(())
    authenticator = SignatureAuthenticator((UserNames(users),), clock)
    running = Deferred.fromCoroutine(authenticator.authenticate(signed.request))
    for _ in range(turns):
        assert not running.called
        clock.turn()
    with pytest.raises(AuthenticationFailed):
        done(running)
