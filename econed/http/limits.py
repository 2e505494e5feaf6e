"""Limits on the rate and number of requests.

Token buckets for access keys, and for addresses that send wrong signatures; a count of each user's requests in flight.

Each process counts for itself, in memory, and keeps little: a bucket that must be full again is forgotten.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from twisted.internet.interfaces import IReactorTime

from econed.config.settings import Settings
from econed.errors import EC2Error

MAX_KEYS = 1 << 16
"""Maximum number of access keys, and of addresses, to remember; the least recently used are forgotten first.

A limit for each address could not stop a client with so many addresses anyway.
"""

_MAX_NETWORKS = 1024
"""Addresses whose networks are remembered."""

FREE_BODY = 1 << 16
"""Bytes of each body that are not counted: only requests with hundreds of ids or tags have more."""

_MINUTE = 60.0


@dataclass(frozen=True)
class _Level:
    """The tokens in a bucket at a time."""

    tokens: float
    at: float


class Buckets:
    """A token bucket for each key: it starts with `burst` tokens and regains `rate` tokens a second.

    If `clock` is set back, buckets are refilled from the new time on.
    """

    def __init__(self, clock: IReactorTime, rate: float, burst: float, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._max_keys = max_keys
        self._levels: OrderedDict[str, _Level] = OrderedDict()
        """The buckets that may not be full, the least recently used first."""

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._levels)

    def has_token(self, key: str) -> bool:
        """Whether there is a token in the bucket of this key."""
        return self._tokens(key) >= 1

    def take(self, key: str) -> bool:
        """Take a token and return True; return False if there is none."""
        tokens = self._tokens(key)
        self._forget()
        if tokens < 1:
            return False
        self._levels[key] = _Level(tokens - 1, self._clock.seconds())
        self._levels.move_to_end(key)
        return True

    def _tokens(self, key: str) -> float:
        level = self._levels.get(key)
        if level is None:
            return self._burst
        now = self._clock.seconds()
        if now < level.at:
            level = self._levels[key] = _Level(level.tokens, now)
        return min(self._burst, level.tokens + (now - level.at) * self._rate)

    def _forget(self) -> None:
        """Forget buckets that are full again, and others until there is room for another key."""
        full_if_used_before = self._clock.seconds() - self._burst / self._rate
        while self._levels:
            oldest = next(iter(self._levels))
            if self._levels[oldest].at > full_if_used_before and len(self._levels) < self._max_keys:
                break
            del self._levels[oldest]


class BodyBudget:
    """The bytes of request bodies that a process may hold at a time; the first `FREE_BODY` of each are not counted.

    So clients that send large bodies, authenticated or not, never keep small requests out.
    """

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    def reserve(self, size: int) -> bool:
        """Reserve bytes and return True; reserve none and return False if fewer are left."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def release(self, size: int) -> None:
        """Release bytes that were reserved."""
        self._left += size


class Limits:
    """The limits on the requests of one process, from its settings.

    `is_exempt` says whether an address is a trusted proxy's: requests that a proxy forwards have the address of their
    client, and its own health checks have no signature. `refused` is called with the key in econe.conf of each limit
    that was exceeded.
    """

    def __init__(
        self,
        settings: Settings,
        clock: IReactorTime,
        is_exempt: Callable[[str], bool],
        refused: Callable[[str], object] = lambda limit: None,
    ) -> None:
        self._is_exempt = is_exempt
        self._refused = refused
        self._max_parameters = settings.max_parameters
        rate, max_failures = settings.rate_limit, settings.failed_signatures
        self._rates = None if rate is None else Buckets(clock, rate, settings.rate_burst)
        self._failures = None if max_failures is None else Buckets(clock, max_failures / _MINUTE, max_failures)
        self._max_requests = settings.max_requests_per_user
        self._network_of = lru_cache(_MAX_NETWORKS)(network_of)
        self._requests_in_flight: Counter[str] = Counter()
        """By access key."""

    def check_parameter_count(self, count: int) -> None:
        """Raise `EC2Error` for more parameters than a request may have."""
        if count > self._max_parameters:
            self._refused("max_parameters")
            raise EC2Error("InvalidQueryParameter", f"The request has more than {self._max_parameters} parameters.")

    def check_address(self, address: str) -> None:
        """Raise `EC2Error` if authentication failed for too many requests from an address."""
        if self._failures is None or self._is_exempt(address) or self._failures.has_token(self._network_of(address)):
            return
        self._refused("failed_signatures")
        raise _too_many()

    def record_failure(self, address: str) -> None:
        """Count a request from an address for which authentication failed."""
        if self._failures is not None and not self._is_exempt(address):
            self._failures.take(network_of(address))

    def check_rate(self, access_key: str) -> None:
        """Count an authenticated request; raises `EC2Error` if its user has made too many."""
        if self._rates is not None and not self._rates.take(access_key):
            self._refused("rate_limit")
            raise _too_many()

    def begin_request(self, access_key: str) -> None:
        """Count a request in flight until `end_request`; raises `EC2Error` if its user has too many in flight."""
        if self._max_requests is not None and self._requests_in_flight[access_key] >= self._max_requests:
            self._refused("max_requests_per_user")
            raise _too_many()
        self._requests_in_flight[access_key] += 1

    def end_request(self, access_key: str) -> None:
        """Stop counting a request: its response has been read, and the changes that it makes are complete."""
        self._requests_in_flight[access_key] -= 1
        if not self._requests_in_flight[access_key]:
            del self._requests_in_flight[access_key]


def network_of(address: str) -> str:
    """Return the key under which an address is limited: itself, or for IPv6 its /64, a customer's smallest network."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, 64), strict=False))


def too_many_bodies() -> EC2Error:
    """Return the error for a large body while too many are held; SDKs send it again."""
    return _too_many()


def _too_many() -> EC2Error:
    """Return the error after which SDKs wait and try again (botocore, "Retries", standard mode)."""
    return EC2Error("RequestLimitExceeded", "Request limit exceeded.", 503)
