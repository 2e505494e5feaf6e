"""Coroutines that run concurrently in a TaskGroup."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from econed.actions.tasks import TaskGroup


async def waiting_for(deferred: Deferred[Any]) -> Any:
    return await deferred


def test_all_run_at_the_same_time_and_have_their_results_at_the_end_of_the_block() -> None:
    first: Deferred[int] = Deferred()
    second: Deferred[str] = Deferred()

    async def run() -> tuple[Any, Any]:
        async with TaskGroup() as tasks:
            one, two = tasks.start(waiting_for(first)), tasks.start(waiting_for(second))
        return one.result, two.result

    ended: list[Any] = []
    Deferred.fromCoroutine(run()).addBoth(ended.append)
    second.callback("two")
    assert ended == []
    first.callback(1)
    assert ended == [(1, "two")]


def test_the_failure_of_the_coroutine_that_started_first_is_raised_when_all_have_ended() -> None:
    first: Deferred[None] = Deferred()
    second: Deferred[None] = Deferred()

    async def run() -> None:
        async with TaskGroup() as tasks:
            tasks.start(waiting_for(first))
            tasks.start(waiting_for(second))

    ended: list[Any] = []
    Deferred.fromCoroutine(run()).addErrback(ended.append)
    second.errback(ValueError("second"))
    assert ended == []
    first.errback(ValueError("first"))
    assert str(ended[0].value) == "first"


def test_an_error_in_the_block_is_raised_when_all_have_ended() -> None:
    pending: Deferred[None] = Deferred()

    async def run() -> None:
        async with TaskGroup() as tasks:
            tasks.start(waiting_for(pending))
            raise KeyError("block")

    ended: list[Any] = []
    Deferred.fromCoroutine(run()).addErrback(ended.append)
    assert ended == []
    pending.errback(ValueError("task"))
    assert ended[0].check(KeyError)


def test_cancelling_the_block_cancels_all_coroutines() -> None:
    pending: list[Deferred[None]] = [Deferred(), Deferred()]

    async def run() -> None:
        async with TaskGroup() as tasks:
            for deferred in pending:
                tasks.start(waiting_for(deferred))

    ended: list[Any] = []
    running = Deferred.fromCoroutine(run()).addErrback(ended.append)
    running.cancel()
    assert all(deferred.called for deferred in pending)
    assert ended[0].check(CancelledError)
