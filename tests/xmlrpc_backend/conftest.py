"""Fixtures of the tests of the backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted

from tests.xmlrpc_backend.calling_oned import BackendHarness


@pytest_twisted.async_yield_fixture
async def harness() -> AsyncIterator[BackendHarness]:
    """Return a harness, which is closed after the test."""
    from twisted.internet import reactor

    made = BackendHarness(reactor)
    yield made
    await made.close()
