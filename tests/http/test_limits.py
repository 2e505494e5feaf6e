"""Rate limits: token buckets on a clock, and which keys they forget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from econed.config.settings import Settings
from econed.errors import EC2Error
from econed.http.limits import Buckets, Limits, network_of


def _clock() -> Clock:
    clock = Clock()
    clock.advance(1_800_000_000)
    return clock


def _is_within_rate(limits: Limits, key: str) -> bool:
    try:
        limits.check_rate(key)
    except EC2Error as error:
        assert (error.code, error.message, error.status) == ("RequestLimitExceeded", "Request limit exceeded.", 503)
        return False
    return True


def _is_accepted(limits: Limits, address: str) -> bool:
    try:
        limits.check_address(address)
    except EC2Error as error:
        assert (error.code, error.status) == ("RequestLimitExceeded", 503)
        return False
    return True


def _limits(clock: Clock, trusted: tuple[str, ...] = (), refused: list[str] | None = None, **limits: object) -> Limits:
    settings = Settings(**limits)  # type: ignore[arg-type]
    return Limits(settings, clock, trusted.__contains__, ([] if refused is None else refused).append)


# Buckets


def test_a_bucket_allows_its_burst_and_then_its_rate() -> None:
    clock = _clock()
    buckets = Buckets(clock, rate=2, burst=3)
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
    clock.advance(0.5)
    assert [buckets.take("a") for _ in range(2)] == [True, False]
    clock.advance(100)
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]


def test_each_key_has_its_own_bucket() -> None:
    buckets = Buckets(_clock(), rate=1, burst=1)
    assert buckets.take("a")
    assert not buckets.has_token("a")
    assert buckets.has_token("b")


def test_a_failed_take_costs_nothing() -> None:
    """A client that keeps trying does not have to wait longer."""
    clock = _clock()
    buckets = Buckets(clock, rate=1, burst=1)
    assert buckets.take("a")
    for _ in range(9):
        clock.advance(0.1)
        assert not buckets.take("a")
    clock.advance(0.125)
    assert buckets.take("a")


def test_has_token_takes_no_token() -> None:
    buckets = Buckets(_clock(), rate=1, burst=1)
    assert all(buckets.has_token("a") for _ in range(5))


def test_a_bucket_that_is_full_again_is_forgotten() -> None:
    clock = _clock()
    buckets = Buckets(clock, rate=1, burst=10)
    for number in range(1000):
        buckets.take(f"key {number}")
    assert len(buckets) == 1000
    clock.advance(10.5)
    buckets.take("another")
    assert len(buckets) == 1


def test_only_the_latest_of_too_many_keys_are_remembered() -> None:
    buckets = Buckets(_clock(), rate=1, burst=1, max_keys=100)
    for number in range(10_000):
        assert buckets.take(f"key {number}")
        assert len(buckets) <= 100
    assert not buckets.has_token("key 9999")
    assert not buckets.has_token("key 9900")
    assert buckets.has_token("key 0")


def test_a_key_in_use_is_not_forgotten_in_a_flood_of_others() -> None:
    buckets = Buckets(_clock(), rate=1, burst=1000, max_keys=100)
    for number in range(999):
        assert buckets.take("mine")
        buckets.take(f"key {number}")
    assert buckets.take("mine")
    assert not buckets.take("mine")


def test_setting_the_clock_back_blocks_no_key() -> None:
    """If the time of day is set back by an hour, a client that had to wait for a second still waits for a second."""
    clock = _clock()
    buckets = Buckets(clock, rate=1, burst=1)
    assert buckets.take("a")
    clock.rightNow -= 3600
    assert not buckets.take("a")
    clock.advance(1)
    assert buckets.take("a")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 100)), max_size=200))
def test_no_key_gets_more_than_its_burst_and_its_rate(calls: list[tuple[int, int]]) -> None:
    """In any order and at any times, which are in quarters of a second because these add up exactly."""
    clock = _clock()
    began = clock.seconds()
    buckets = Buckets(clock, rate=2, burst=5)
    taken = [0, 0, 0]
    for key, quarters in calls:
        clock.advance(quarters / 4)
        taken[key] += buckets.take(str(key))
        assert taken[key] <= 5 + 2 * (clock.seconds() - began)


# Requests in flight


def test_the_requests_in_flight_of_an_access_key_are_limited() -> None:
    refused = list[str]()
    limits = _limits(_clock(), refused=refused, max_requests_per_user=2)
    limits.begin_request("alice")
    limits.begin_request("alice")
    with pytest.raises(EC2Error) as caught:
        limits.begin_request("alice")
    assert (caught.value.code, caught.value.status) == ("RequestLimitExceeded", 503)
    assert refused == ["max_requests_per_user"]
    limits.begin_request("bob")
    limits.end_request("alice")
    limits.begin_request("alice")


def test_without_the_limit_an_access_key_may_have_any_number_of_requests_in_flight() -> None:
    limits = _limits(_clock(), max_requests_per_user=None)
    for _ in range(10_000):
        limits.begin_request("alice")
        limits.begin_request("bob")


def test_an_access_key_without_requests_in_flight_is_forgotten() -> None:
    limits = _limits(_clock(), max_requests_per_user=2)
    for number in range(100):
        limits.begin_request(f"key {number}")
        limits.end_request(f"key {number}")
    assert not limits._requests_in_flight


# Rate of an access key


def test_the_rate_of_an_access_key_is_limited() -> None:
    clock, refused = _clock(), list[str]()
    limits = _limits(clock, refused=refused, rate_limit=8.0, rate_burst=5)
    assert [_is_within_rate(limits, "alice") for _ in range(7)] == [True] * 5 + [False] * 2
    assert _is_within_rate(limits, "bob")
    assert refused == ["rate_limit"] * 2
    clock.advance(0.125)
    assert _is_within_rate(limits, "alice")


def test_without_a_rate_limit_an_access_key_may_make_any_number_of_requests() -> None:
    limits = _limits(_clock())
    assert all(_is_within_rate(limits, "alice") for _ in range(10_000))


# Authentication failures


def test_an_address_with_too_many_failures_is_refused_for_some_time() -> None:
    clock, refused = _clock(), list[str]()
    limits = _limits(clock, refused=refused, failed_signatures=6)
    for _ in range(6):
        assert _is_accepted(limits, "192.0.2.1")
        limits.record_failure("192.0.2.1")
    assert not _is_accepted(limits, "192.0.2.1")
    assert _is_accepted(limits, "192.0.2.2")
    assert refused == ["failed_signatures"]
    clock.advance(9.5)
    assert not _is_accepted(limits, "192.0.2.1")
    clock.advance(0.5)
    assert _is_accepted(limits, "192.0.2.1")


def test_authenticated_requests_neither_count_as_failures_nor_reset_them() -> None:
    limits = _limits(_clock(), failed_signatures=3)
    for _ in range(2):
        limits.record_failure("192.0.2.1")
    assert all(_is_accepted(limits, "192.0.2.1") for _ in range(100))
    limits.record_failure("192.0.2.1")
    assert not _is_accepted(limits, "192.0.2.1")


def test_a_trusted_proxy_is_accepted_whatever_it_sends() -> None:
    """The health checks of a load balancer have no signature; if they were refused, it would send no more requests."""
    limits = _limits(_clock(), ("10.0.0.1",), failed_signatures=1)
    for _ in range(10):
        limits.record_failure("10.0.0.1")
    assert _is_accepted(limits, "10.0.0.1")


def test_without_a_limit_of_wrong_signatures_everybody_is_accepted() -> None:
    limits = _limits(_clock(), failed_signatures=None)
    for _ in range(1000):
        limits.record_failure("192.0.2.1")
    assert _is_accepted(limits, "192.0.2.1")


def test_the_ipv6_addresses_of_one_customer_count_together() -> None:
    limits = _limits(_clock(), failed_signatures=3)
    for number in range(3):
        limits.record_failure(f"2001:db8:0:1::{number}")
    assert not _is_accepted(limits, "2001:db8:0:1:ffff::1")
    assert _is_accepted(limits, "2001:db8:0:2::1")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("unix", "unix"),
    ],
)
def test_an_address_is_limited_under_itself_or_its_ipv6_network(address: str, network: str) -> None:
    assert network_of(address) == network


# Parameters


def test_a_request_with_more_parameters_than_the_limit_is_refused() -> None:
    refused: list[str] = []
    limits = _limits(_clock(), refused=refused, max_parameters=10)
    limits.check_parameter_count(10)
    with pytest.raises(EC2Error) as caught:
        limits.check_parameter_count(11)
    assert (caught.value.code, caught.value.status) == ("InvalidQueryParameter", 400)
    assert refused == ["max_parameters"]
