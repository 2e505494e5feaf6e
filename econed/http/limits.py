"""How often and how much at a time somebody may ask.

Token buckets for access keys, and for addresses from which wrong signatures come; a count of each caller's requests.

Everything is kept in memory, by each process for itself, and little of it: who has not been heard of for as long as it
takes to be forgiven everything is forgotten.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from econed.config.settings import Settings
from econed.errors import EC2Error

REMEMBERED = 1 << 16
"""How many access keys, and how many addresses, are remembered at most; of more, the longest unheard of are forgotten.

Whoever can use so many addresses is not kept out by a limit for each.
"""

FREE_BODY = 1 << 16
"""Bytes of each body that are not counted: more than all but requests with hundreds of ids or tags have."""

_MINUTE = 60.0


@dataclass(frozen=True)
class _Level:
    """What a bucket held at a time."""

    tokens: float
    at: float


class Buckets:
    """A token bucket for each key: `burst` tokens at first, `rate` of them a second back.

    Where `clock` is put back, nobody waits for the time to come again.
    """

    def __init__(self, clock: IReactorTime, rate: float, burst: float, most: int = REMEMBERED) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._most = most
        self._levels: OrderedDict[str, _Level] = OrderedDict()
        """Those that may not be full, the longest untouched first."""

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._levels)

    def has_one(self, key: str) -> bool:
        """Whether there is a token in the bucket of this key."""
        return self._tokens(key) >= 1

    def take(self, key: str) -> bool:
        """Take a token; return False where there is none, which costs nothing."""
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
        """Forget those that are full by now, and so many that there is room for one more."""
        full_by_now = self._clock.seconds() - self._burst / self._rate
        while self._levels:
            longest = next(iter(self._levels))
            if self._levels[longest].at > full_by_now and len(self._levels) < self._most:
                break
            del self._levels[longest]


class BodyBudget:
    """Bytes of request bodies that a process keeps at the same time; what a body has up to `FREE_BODY` is not counted.

    So whoever sends large bodies, whether or not anybody knows them, never keeps small requests out.
    """

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, size: int) -> bool:
        """Take bytes; return False where there are not as many, and take none."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """Give bytes back."""
        self._left += size


class Limits:
    """What a process lets through, by its settings.

    `is_exempt` tells the addresses of trusted proxies: what they forward has an address of its own, and what they send
    themselves, to see whether econed is there, has no signature. `refused` is told the key of the limit by which a
    request was refused.
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
        rate, wrong = settings.rate_limit, settings.failed_signatures
        self._requests = None if rate is None else Buckets(clock, rate, settings.rate_burst)
        self._failures = None if wrong is None else Buckets(clock, wrong / _MINUTE, wrong)
        self._max_requests = settings.max_requests_per_user
        self._requests_of: Counter[str] = Counter()
        """How many requests are under way, by access key."""

    def check_parameter_count(self, parameters: int) -> None:
        """Raise `EC2Error` for more parameters than a request may have."""
        if parameters > self._max_parameters:
            self._refused("max_parameters")
            raise EC2Error("InvalidQueryParameter", f"The request has more than {self._max_parameters} parameters.")

    def check_address(self, address: str) -> None:
        """Raise `EC2Error` where too many requests from an address were not signed as they should be."""
        if self._failures is None or self._is_exempt(address) or self._failures.has_one(network_of(address)):
            return
        self._refused("failed_signatures")
        raise _too_many()

    def record_failure(self, address: str) -> None:
        """Count a request from an address of which it cannot be said who sent it."""
        if self._failures is not None and not self._is_exempt(address):
            self._failures.take(network_of(address))

    def check_rate(self, access_key: str) -> None:
        """Count a request of a known caller, or raise `EC2Error` where he has made too many."""
        if self._requests is not None and not self._requests.take(access_key):
            self._refused("rate_limit")
            raise _too_many()

    def begin(self, access_key: str) -> None:
        """Count a request that begins, or raise `EC2Error` where too many of this caller are under way; see `end`."""
        if self._max_requests is not None and self._requests_of[access_key] >= self._max_requests:
            self._refused("max_requests_per_user")
            raise _too_many()
        self._requests_of[access_key] += 1

    def end(self, access_key: str) -> None:
        """Count a request that has come to its end: its answer has been taken, and what it changes is done."""
        self._requests_of[access_key] -= 1
        if not self._requests_of[access_key]:
            del self._requests_of[access_key]


def network_of(address: str) -> str:
    """Return what an address is limited under: itself, of IPv6 its /64, which is the least that one customer has."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ipaddress.IPv6Network((known, 64), strict=False))


def too_many_bodies() -> EC2Error:
    """Return the answer to a large body where too many are under way; SDKs send it again."""
    return _too_many()


def _too_many() -> EC2Error:
    """Return the error that SDKs answer by waiting and trying again (botocore, "Retries", standard mode)."""
    return EC2Error("RequestLimitExceeded", "Request limit exceeded.", 503)
