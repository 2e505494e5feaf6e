"""Which requests have a line in the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from zope.interface import implementer

from econed.config.settings import Settings
from econed.errors import OpenNebulaUnavailable
from econed.interfaces import IOpenNebula
from econed.opennebula.methods import is_read_only
from econed.user import Login
from tests.support.cloud import Cloud
from tests.support.reactor_turns import wait_until
from tests.support.serving import Server, connected, get, send_request, signed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Return an econed with an audit log and two instances of alice."""
    settings = Settings(tmpdir=str(tmp_path), audit_log=str(tmp_path / "audit.log"), max_requests_per_user=2)
    cloud = Cloud(vms=2)
    cloud.backend = ControlledOned(cloud.backend)
    server = Server(settings, cloud=cloud)
    yield server
    server.close()


@implementer(IOpenNebula)
class ControlledOned:
    """oned: while `is_down` it does not reply; changes wait for `held`, if it is set."""

    def __init__(self, oned: IOpenNebula) -> None:
        self._oned = oned
        self.is_down = False
        self.held: Deferred[None] | None = None
        self.changes = 0

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Pass a call on (`IOpenNebula`)."""
        self._check(method)
        if not is_read_only(method):
            self.changes += 1
            if self.held is not None:
                await self.held
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Pass a call on (`IOpenNebula`)."""
        self._check(method)
        return await self._oned.document(user, method, *args, **options)

    def _check(self, method: str) -> None:
        if self.is_down:
            raise OpenNebulaUnavailable(method, "no reply")


def oned_of(server: Server) -> ControlledOned:
    """Return the oned of a server."""
    assert isinstance(server.cloud.backend, ControlledOned)
    return server.cloud.backend


def lines(server: Server) -> list[dict[str, Any]]:
    """Return the parsed lines of the audit log."""
    assert server.audit_path is not None
    return [json.loads(line) for line in server.audit_path.read_text("ascii").splitlines()]


async def outcomes(server: Server, query: str) -> list[tuple[str, ...]]:
    """Send a request and return user, key, action and outcome of the lines that it adds."""
    before = len(lines(server))
    await send_request(server, get(server, query))
    return [tuple(line[name] for name in ("user", "key", "action", "outcome")) for line in lines(server)[before:]]


TAG = {"Action": "CreateTags", "ResourceId.1": "i-00000000", "Tag.1.Key": "Name", "Tag.1.Value": "web"}


@pytest_twisted.ensureDeferred
async def test_a_change_is_audited_and_a_read_is_not(server: Server) -> None:
    assert await outcomes(server, signed(server, Action="DescribeInstances")) == []
    assert await outcomes(server, signed(server, **TAG)) == [("alice", "alice", "CreateTags", "ok")]
    (line,) = lines(server)
    assert (line["ids"], line["source"]) == (["i-00000000"], "127.0.0.1")
    assert any(event.get("request_id") == line["request_id"] for event in server.events)


@pytest_twisted.ensureDeferred
async def test_refusals_are_audited_for_reads_too(server: Server) -> None:
    """Bob may not see alice's instance: EC2 says that it does not exist."""
    bobs = signed(server, "bob", "bobpw", Action="DescribeInstances", **{"InstanceId.1": "i-00000000"})
    assert await outcomes(server, bobs) == [("bob", "bob", "DescribeInstances", "InvalidInstanceID.NotFound")]
    assert await outcomes(server, signed(server, "bob", "bobpw", **TAG)) == [
        ("bob", "bob", "CreateTags", "InvalidInstanceID.NotFound")
    ]
    assert [line["ids"] for line in lines(server)] == [["i-00000000"]] * 2
    assert await outcomes(server, signed(server, Action="NoSuchAction")) == [
        ("alice", "alice", "NoSuchAction", "InvalidAction")
    ]


@pytest_twisted.ensureDeferred
async def test_failed_authentication_is_audited_if_a_key_is_claimed(server: Server) -> None:
    assert await outcomes(server, signed(server, "alice", "wrong", **TAG)) == [
        ("", "alice", "CreateTags", "AuthFailure")
    ]
    assert lines(server)[0]["reason"] == "wrong secret key, or the request was changed after it was signed"
    assert await outcomes(server, "Action=DescribeInstances") == []


@pytest_twisted.ensureDeferred
async def test_addresses_with_too_many_failures_write_no_more_lines(tmp_path: Path) -> None:
    """Their requests are refused unread; so a stranger cannot fill the disk."""
    settings = Settings(tmpdir=str(tmp_path), audit_log=str(tmp_path / "audit.log"), failed_signatures=3)
    server = Server(settings)
    try:
        for _ in range(9):
            await send_request(server, get(server, signed(server, "alice", "wrong")))
        assert [line["outcome"] for line in lines(server)] == ["AuthFailure"] * 3
    finally:
        server.close()


@pytest_twisted.ensureDeferred
async def test_a_request_beyond_a_limit_has_a_short_line(tmp_path: Path) -> None:
    """A user can send any number of these; so they must not write all that they contain."""
    settings = Settings(tmpdir=str(tmp_path), audit_log=str(tmp_path / "audit.log"), rate_limit=0.001, rate_burst=1)
    server = Server(settings)
    try:
        for _ in range(3):
            await send_request(server, get(server, signed(server, **TAG)))
        first, *others = [(line["outcome"], line["ids"]) for line in lines(server)]
        assert first == ("InvalidInstanceID.NotFound", ["i-00000000"])
        assert others == [("RequestLimitExceeded", [])] * 2
    finally:
        server.close()


@pytest_twisted.ensureDeferred
async def test_a_dry_run_changes_nothing_and_is_audited_only_if_it_is_refused(server: Server) -> None:
    assert await outcomes(server, signed(server, **TAG, DryRun="true")) == []
    missing = {"Action": "CreateTags", "ResourceId.1": "i-00000099", "Tag.1.Key": "Name", "DryRun": "true"}
    assert await outcomes(server, signed(server, **missing)) == [
        ("alice", "alice", "CreateTags", "InvalidInstanceID.NotFound")
    ]


@pytest_twisted.ensureDeferred
async def test_a_change_that_fails_is_audited_and_a_read_that_fails_is_not(server: Server) -> None:
    """Oned does not reply: the change may have been carried out, the read was not refused."""
    await send_request(server, get(server, signed(server)))
    oned_of(server).is_down = True
    assert await outcomes(server, signed(server, Action="DescribeInstances")) == []
    assert await outcomes(server, signed(server, **TAG)) == [("alice", "alice", "CreateTags", "ServiceUnavailable")]
    assert lines(server)[0]["reason"].endswith("no reply")


@pytest_twisted.ensureDeferred
async def test_a_change_whose_client_disconnects_is_audited_with_its_own_outcome(server: Server) -> None:
    """When it has been carried out; the log line of the request says ClientGone."""
    await send_request(server, get(server, signed(server)))
    oned = oned_of(server)
    oned.held = Deferred()
    client = await connected(server)
    client.send(get(server, signed(server, **TAG)))
    await wait_until(lambda: oned.changes, lambda: server.cloud.clock.advance(0))
    client.close()
    await client.closed
    await wait_until(lambda: any(event.get("code") == "ClientGone" for event in server.events))
    assert lines(server) == []
    oned.held.callback(None)
    await wait_until(lambda: lines(server), lambda: server.cloud.clock.advance(0))
    assert [(line["action"], line["outcome"]) for line in lines(server)] == [("CreateTags", "ok")]
