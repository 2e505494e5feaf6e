"""Concurrent requests for the same key pair, of which at most one may succeed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.actions.keys.key_pairs import import_key_pair
from econed.actions.keys.store import CLAIM_LIFETIME
from econed.errors import EC2Error
from econed.interfaces import IOpenNebula
from econed.user import Login
from tests.actions.keys.test_key_pairs import MATERIAL, attributes, import_key, listed
from tests.support.cloud import Cloud

pytestmark = pytest.mark.slow


@implementer(IOpenNebula)
class SteppedOned:
    """An oned whose calls each wait for `step`."""

    def __init__(self, oned: IOpenNebula) -> None:
        self._oned = oned
        self._waiting: list[Deferred[None]] = []

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        await self._wait()
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        await self._wait()
        return await self._oned.document(user, method, *args, **options)

    def step(self) -> None:
        """Let the waiting call proceed."""
        if self._waiting:
            self._waiting.pop().callback(None)

    async def _wait(self) -> None:
        proceed: Deferred[None] = Deferred()
        self._waiting.append(proceed)
        await proceed


class SteppedRequest:
    """A request for a key pair in a separate process, which proceeds by one call to oned at each step."""

    def __init__(self, cloud: Cloud, name: str) -> None:
        self._oned = SteppedOned(cloud.backend)
        self.outcome: Any = None
        call = cloud.call_as("alice")
        call = replace(call, session=replace(call.session, oned=self._oned))
        request = Deferred.fromCoroutine(import_key_pair(call, key_name=name, public_key_material=MATERIAL))
        request.addBoth(lambda outcome: setattr(self, "outcome", outcome))

    def step(self) -> None:
        """Let the waiting call proceed."""
        self._oned.step()

    @property
    def has_succeeded(self) -> bool:
        """Whether it created a key pair; otherwise it must have failed with one of the two errors."""
        if isinstance(self.outcome, Failure):
            error = self.outcome.value
            assert isinstance(error, EC2Error)
            assert (error.code, error.status) in {("InvalidKeyPair.Duplicate", 400), ("RequestLimitExceeded", 503)}
            return False
        assert self.outcome is not None, "the request has not ended"
        return True


STEPS = 4
"""Calls to oned of one request: read, add the claim, read, add the key pair or remove the claim."""


def test_of_two_concurrent_requests_for_a_key_pair_at_most_one_succeeds_in_every_order() -> None:
    cloud = Cloud()
    success_counts = set()
    for index, first_turns in enumerate(itertools.combinations(range(2 * STEPS), STEPS)):
        name = f"key-{index}"
        first, second = SteppedRequest(cloud, name), SteppedRequest(cloud, name)
        for turn in range(2 * STEPS):
            (first if turn in first_turns else second).step()
        successes = first.has_succeeded + second.has_succeeded
        assert successes <= 1, first_turns
        assert (name in listed(cloud)) == bool(successes)
        success_counts.add(successes)
        if not successes:
            import_key(cloud, name)
    assert success_counts == {0, 1}
    assert not any(name.startswith("EC2_KEYCLAIM_") for name in attributes(cloud))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(turns=st.permutations(sorted([0, 1, 2] * STEPS)))
def test_of_three_concurrent_requests_for_a_key_pair_at_most_one_succeeds(turns: list[int]) -> None:
    cloud = Cloud()
    requests = [SteppedRequest(cloud, "mine") for _ in range(3)]
    for turn in turns:
        requests[turn].step()
    successes = sum(request.has_succeeded for request in requests)
    assert successes <= 1
    assert (list(listed(cloud)) == ["mine"]) == bool(successes)


def test_requests_for_different_names_do_not_conflict() -> None:
    cloud = Cloud()
    requests = [SteppedRequest(cloud, "blue"), SteppedRequest(cloud, "red")]
    for _ in range(STEPS):
        for request in requests:
            request.step()
    assert all(request.has_succeeded for request in requests)


def test_the_claim_of_a_dead_process_blocks_a_name_for_its_lifetime_only() -> None:
    cloud = Cloud()
    dead = SteppedRequest(cloud, "mine")
    dead.step()
    dead.step()
    cloud.clock.advance(CLAIM_LIFETIME - 1)
    error = cloud.refusal("alice", "CreateKeyPair", KeyName="mine", KeyType="ed25519")
    assert (error.code, error.status) == ("RequestLimitExceeded", 503)
    cloud.clock.advance(1)
    import_key(cloud, "mine")
    assert list(listed(cloud)) == ["mine"]


def test_the_claim_of_a_dead_process_is_removed_after_a_day() -> None:
    cloud = Cloud()
    dead = SteppedRequest(cloud, "mine")
    dead.step()
    dead.step()
    (claim,) = attributes(cloud)
    cloud.clock.advance(24 * 3600)
    import_key(cloud, "other")
    assert claim in attributes(cloud)
    cloud.clock.advance(1)
    import_key(cloud, "third")
    assert claim not in attributes(cloud)


def test_a_request_does_not_rely_on_an_old_claim_of_its_own() -> None:
    cloud = Cloud()
    slow = SteppedRequest(cloud, "mine")
    slow.step()
    slow.step()
    cloud.clock.advance(CLAIM_LIFETIME)
    slow.step()
    slow.step()
    assert not slow.has_succeeded
    assert listed(cloud) == {}
