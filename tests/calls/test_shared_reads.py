"""Reads that wait together are one call; none gets the reply to a call that was sent before it was requested."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lxml import etree
from twisted.internet.defer import CancelledError

from econed.calls.gathering import MAX_MERGED, SLOW
from econed.errors import OpenNebulaUnavailable, ReplyTooLarge
from econed.opennebula.machine_sets import divide
from econed.user import LoginToken, TokenLogin
from tests.auth.support import ALICE
from tests.calls.manual_oned import Queued, Request, ids_of, machines

POOL = ("one.vmpool.info", -2, -1, -1, -1, "")
MACHINE = ("one.vm.info", 7, False)


@pytest.fixture
def queued() -> Queued:
    return Queued()


def test_equal_reads_that_arrive_during_one_share_the_next(queued: Queued) -> None:
    requests = [queued.request() for _ in range(20)]
    for request in requests:
        request.read(*POOL)
    assert len(queued.oned.sent) == 1
    queued.oned.sent[0].reply.callback("old")
    assert [request.results for request in requests] == [["old"]] + [[]] * 19
    assert len(queued.oned.sent) == 2
    queued.request().read(*POOL)
    queued.oned.sent[1].reply.callback("new")
    assert [request.results for request in requests[1:]] == [["new"]] * 19
    assert len(queued.oned.sent) == 3
    queued.end_all()
    assert queued.is_forgotten


def test_reads_of_one_object_do_not_wait_for_a_call_that_is_slow(queued: Queued) -> None:
    """It may be lost, and others must not wait for its deadline; of long reads there is one in flight nevertheless."""
    requests = [queued.request() for _ in range(4)]
    for request in requests[:2]:
        request.read(*MACHINE)
        request.read(*POOL)
    queued.clock.advance(SLOW / 2)
    requests[2].read(*MACHINE)
    assert [call.method for call in queued.oned.sent] == [MACHINE[0], POOL[0]]
    queued.clock.advance(SLOW / 2)
    assert [call.method for call in queued.oned.sent[2:]] == [MACHINE[0]]
    queued.oned.sent[2].reply.callback("new")
    assert [request.results for request in requests] == [[], ["new"], ["new"], []]
    requests[3].read(*MACHINE)
    requests[3].read(*POOL)
    assert [call.method for call in queued.oned.sent[3:]] == [MACHINE[0]]
    queued.end_all()
    assert queued.is_forgotten


@pytest.mark.parametrize(
    ("user", "session_key", "read"),
    [
        (2, "all groups", MACHINE),
        (1, "one group", MACHINE),
        (1, "all groups", ("one.vm.info", 8, False)),
        (1, "all groups", ("one.vm.info", 7, 0)),
        (1, "all groups", ("one.image.info", 7, False)),
    ],
    ids=["user", "session", "object", "type of an argument", "method"],
)
def test_reads_that_differ_are_not_shared(user: int, session_key: str, read: tuple[Any, ...]) -> None:
    """Not even between two sessions of one user, which may see different objects."""
    queued = Queued(limit=1)
    queued.request(user=9).change(0)
    queued.request(1, "all groups").read(*MACHINE)
    queued.request(user, session_key).read(*read)
    queued.end_all()
    assert len(queued.oned.sent) == 3


def test_sessions_of_login_tokens_of_one_user_share_no_reads_and_their_turns() -> None:
    """They may see different objects; the user has no more turns for having several."""
    queued = Queued(limit=1)
    tokens = (LoginToken("first", None, 101), LoginToken("second", None, 101))
    users = (ALICE, *(replace(ALICE.within(token), acts_by=token) for token in tokens))
    for user in users:
        for _ in range(2):
            request = Request(queued.queue.for_user(user), user.login)
            request.read(*MACHINE)
    queued.request(user=9).read(*MACHINE)
    queued.end_all()
    first, second = TokenLogin("alice", "first"), TokenLogin("alice", "second")
    assert [call.user for call in queued.oned.sent] == ["alice", "user-9", first, second, "alice"]


def test_a_document_is_shared_only_by_those_who_parse_it_equally() -> None:
    """Lists that recognize machines get something else than other lists with the same arguments."""

    def parse(method: str, body: bytes) -> Any:
        raise NotImplementedError

    queued = Queued(limit=1)
    queued.request(user=9).change(0)
    request = queued.request()
    request.read(*POOL)
    for _ in range(2):
        request._started(request.share.document(request.user, *POOL, parse=parse))
    queued.end_all()
    assert len(queued.oned.sent) == 3


def test_reads_of_few_machines_that_are_parsed_differently_are_not_one_call() -> None:
    def parse(method: str, body: bytes) -> Any:
        raise NotImplementedError

    queued = Queued(limit=1)
    queued.request(user=9).change(0)
    request = queued.request()
    request.read_set(1)
    request._started(request.share.document(request.user, "one.vmpool.infoset", "2", True, parse=parse))
    queued.end_all()
    assert len(queued.oned.sent) == 3


def test_a_value_and_a_document_are_not_shared() -> None:
    queued = Queued(limit=1)
    queued.request(user=9).change(0)
    request = queued.request()
    request.read(*MACHINE)
    request._started(request.share.call(request.user, *MACHINE))
    queued.end_all()
    assert len(queued.oned.sent) == 3


def test_changes_are_never_shared() -> None:
    queued = Queued(limit=1)
    for _ in range(3):
        queued.request().change(7)
    queued.end_all()
    assert len(queued.oned.sent) == 3


def test_requests_of_all_users_share_the_reads_of_serveradmin() -> None:
    """The call is sent when the first of those who wait for it has a turn."""
    queued = Queued(limit=1)
    for _ in range(3):
        queued.request(user=1).change(0)
    readers = [queued.request(user) for user in (1, 2, 3)]
    for reader in readers:
        reader.read("one.clusterpool.info", user=None)
    queued.oned.in_flight[0].reply.callback(True)
    assert [call.user for call in queued.oned.sent] == ["user-1", None]
    queued.end_all()
    assert len(queued.oned.sent) == 4
    assert all(len(reader.results) == 1 for reader in readers)


def test_a_read_that_fails_fails_only_the_requests_that_wait_for_it(queued: Queued) -> None:
    requests = [queued.request() for _ in range(3)]
    for request in requests:
        request.read(*POOL)
    queued.oned.sent[0].reply.callback("old")
    queued.oned.sent[1].reply.errback(OpenNebulaUnavailable("one.vmpool.info", "no reply"))
    assert requests[0].results == ["old"]
    assert all(request.results[0].check(OpenNebulaUnavailable) for request in requests[1:])
    assert queued.is_forgotten


def test_a_read_is_cancelled_with_the_last_request_that_waits(queued: Queued) -> None:
    queued.request().read(*POOL)
    leaving, staying = queued.request(), queued.request()
    first, second = leaving.read(*POOL), staying.read(*POOL)
    queued.oned.sent[0].reply.callback("old")
    first.cancel()
    assert leaving.results[0].check(CancelledError)
    assert staying.results == []
    assert len(queued.oned.in_flight) == 1
    second.cancel()
    assert staying.results[0].check(CancelledError)
    assert queued.oned.in_flight == []
    assert queued.is_forgotten


def test_a_read_that_no_request_waits_for_is_not_sent(queued: Queued) -> None:
    queued.request().read(*POOL)
    queued.request().read(*POOL).cancel()
    queued.end_all()
    assert len(queued.oned.sent) == 1
    assert queued.is_forgotten


def test_machines_of_several_requests_are_read_with_one_call(queued: Queued) -> None:
    requests = [queued.request() for _ in range(6)]
    for number, request in enumerate(requests):
        request.read_set(2 * number, 2 * number + 1)
    assert [call.args for call in queued.oned.sent] == [("0,1", True)]
    queued.oned.sent[0].reply.callback(machines([0, 1]))
    assert [call.args for call in queued.oned.sent[1:]] == [("2,3,4,5,6,7,8,9,10,11", True)]
    queued.oned.sent[1].reply.callback(machines([2, 4, 5, 6, 7, 11]))
    assert [ids_of(request.results[0]) for request in requests] == [[0, 1], [2], [4, 5], [6, 7], [], [11]]
    assert queued.is_forgotten


def test_two_reads_with_some_machines_in_common_are_two_calls(queued: Queued) -> None:
    """One call would need a copy of the common machines for each, and their documents may be long."""
    queued.request().read_set(0)
    sets = [(1, 2), (2, 3), (4,), (1, 2), (3, 2)]
    requests = [queued.request() for _ in sets]
    for request, ids in zip(requests, sets, strict=True):
        request.read_set(*ids)
    while in_flight := queued.oned.in_flight:
        in_flight[0].reply.callback(machines([int(id_) for id_ in str(in_flight[0].args[0]).split(",")]))
    assert [call.args[0] for call in queued.oned.sent] == ["0", "1,2,4", "2,3"]
    assert [ids_of(request.results[0]) for request in requests] == [sorted(ids) for ids in sets]
    assert requests[0].results[0] is requests[3].results[0]
    assert queued.is_forgotten


def test_machines_are_read_together_only_in_one_session_and_with_equal_arguments() -> None:
    queued = Queued(limit=1)
    queued.request(user=9).change(0)
    queued.request(1, "all groups").read_set(1)
    queued.request(1, "one group").read_set(2)
    queued.request(2, "all groups").read_set(3)
    queued.request(1, "all groups").read("one.vmpool.infoset", "4", False)
    queued.request(1, "all groups").read("one.vmpool.infoset", ",".join(map(str, range(100))), True)
    queued.end_all()
    assert len(queued.oned.sent) == 6


def test_a_call_for_several_requests_has_a_bounded_number_of_machines(queued: Queued) -> None:
    requests = [queued.request() for _ in range(20)]
    for number, request in enumerate(requests):
        request.read_set(*range(40 * number, 40 * number + 40))
    while in_flight := queued.oned.in_flight:
        ids = [int(id_) for id_ in str(in_flight[0].args[0]).split(",")]
        assert len(ids) <= MAX_MERGED
        in_flight[0].reply.callback(machines(ids))
    assert len(queued.oned.sent) == 1 + 4
    for number, request in enumerate(requests):
        assert ids_of(request.results[0]) == list(range(40 * number, 40 * number + 40))


def test_if_the_common_reply_is_too_long_each_request_reads_its_own_machines(queued: Queued) -> None:
    queued.request().read_set(1)
    requests = [queued.request() for _ in range(3)]
    for number, request in enumerate(requests):
        request.read_set(number + 2)
    queued.oned.sent[0].reply.callback(machines([1]))
    queued.oned.sent[1].reply.errback(ReplyTooLarge("one.vmpool.infoset", "a response of more than 32 MiB"))
    assert [call.args[0] for call in queued.oned.sent[1:]] == ["2,3,4", "2", "3", "4"]
    queued.oned.sent[2].reply.callback(machines([2]))
    queued.oned.sent[3].reply.errback(ReplyTooLarge("one.vmpool.infoset", "a response of more than 32 MiB"))
    queued.oned.sent[4].reply.callback(machines([4]))
    assert ids_of(requests[0].results[0]) == [2]
    assert requests[1].results[0].check(ReplyTooLarge)
    assert ids_of(requests[2].results[0]) == [4]
    assert queued.is_forgotten


def test_a_request_that_leaves_a_common_read_leaves_the_others(queued: Queued) -> None:
    queued.request().read_set(1)
    leaving, staying = queued.request(), queued.request()
    call = leaving.read_set(2)
    staying.read_set(3)
    queued.oned.sent[0].reply.callback(machines([1]))
    call.cancel()
    queued.oned.sent[1].reply.callback(machines([2, 3]))
    assert ids_of(staying.results[0]) == [3]


def test_each_document_of_a_reply_has_its_own_machines() -> None:
    root = etree.fromstring("<VM_POOL><VM><ID>1</ID><NAME>a</NAME></VM><VM><ID>2</ID><NAME>b</NAME></VM></VM_POOL>")
    first, second, none = divide(root, [frozenset({"1"}), frozenset({"2", "9"}), frozenset({"8"})]).values()
    assert etree.tostring(first) == b"<VM_POOL><VM><ID>1</ID><NAME>a</NAME></VM></VM_POOL>"
    assert etree.tostring(second) == b"<VM_POOL><VM><ID>2</ID><NAME>b</NAME></VM></VM_POOL>"
    assert etree.tostring(none) == b"<VM_POOL/>"
