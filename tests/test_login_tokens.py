"""Login tokens as secret keys, from the request to oned: who may log in, in which group they act, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent
from zope.interface import implementer

from econed.auth.users import REFRESH_INTERVAL, USER_MAX_AGE
from econed.config.settings import Settings
from econed.errors import OpenNebulaCode
from econed.ids import INSTANCE
from econed.interfaces import IOpenNebula
from econed.telemetry.log_lines import json_formatter, text_formatter
from econed.user import Login, TokenLogin
from tests.support.cloud import Cloud
from tests.support.reactor_turns import wait_until
from tests.support.serving import Client, Server, get, send_request, signed

USERS = [
    ("lena", "-", "ldap"),
    ("sven", "sshkey", "ssh"),
    ("xena", "/C=ES/CN=xena", "x509"),
    ("sara", "samlid", "saml"),
    ("nils", "pw", "no-such-driver"),
]
"""Users as administrators make them, with what oned stores as PASSWORD, and drivers for which it is no secret."""

of_other_drivers = pytest.mark.parametrize(("name", "password"), [(name, password) for name, password, _ in USERS])


@implementer(IOpenNebula)
class OnedHoldingCalls:
    """oned whose replies to one method are held back; `held` are the sessions of the calls that wait for them."""

    def __init__(self, backend: IOpenNebula, method: str) -> None:
        self._backend = backend
        self._method = method
        self._released: Deferred[None] = Deferred()
        self.held: list[Login] = []

    def release(self) -> None:
        """Let all calls reply."""
        self._released.callback(None)

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula.call`)."""
        return await self._backend.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        if method == self._method:
            self.held.append(user)
            waiting: Deferred[None] = Deferred()
            self._released.addCallback(lambda _: waiting.callback(None))
            await waiting
        return await self._backend.document(user, method, *args, **options)


class TokenServer(Server):
    """A daemon on a cloud where each of `USERS` is in the groups dev, their primary group, and ec2."""

    def __init__(self, directory: Path) -> None:
        cloud = Cloud()
        self.ec2 = cloud.user("alice").gid
        self.dev = cloud.oneadmin("one.group.allocate", "dev")
        self.ids = {
            name: cloud.oneadmin("one.user.allocate", name, password, driver, [self.dev, self.ec2])
            for name, password, driver in USERS
        }
        cloud.backend = self.oned = OnedHoldingCalls(cloud.backend, "one.vmpool.infoset")
        super().__init__(
            Settings(
                tmpdir=str(directory), audit_log=str(directory / "audit.log"), debug_level=3, failed_signatures=None
            ),
            cloud=cloud,
        )

    def token(self, name: str, group: int = -1, seconds: int = 3600, text: str = "") -> str:
        """Return a new login token of a user, made in their session."""
        return str(self.cloud.as_user(name, "one.user.login", name, text, seconds, group))

    async def request(self, name: str, secret: str, action: str = "DescribeRegions", **parameters: str) -> Client:
        """Send a request, and return its connection after the response."""
        return await send_request(self, get(self, signed(self, name, secret, Action=action, **parameters)))

    async def status(self, name: str, secret: str) -> int:
        """Return the status of the response to a request."""
        return (await self.request(name, secret)).status


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TokenServer]:
    server = TokenServer(tmp_path)
    yield server
    server.close()


@of_other_drivers
@pytest_twisted.ensureDeferred
async def test_users_of_drivers_without_a_secret_log_in_by_token_alone(
    server: TokenServer, name: str, password: str
) -> None:
    """By nothing that stands in PASSWORD."""
    stored = server.cloud.oned.cloud.find_user(name)
    assert stored is not None
    for secret in {password, stored.password}:
        client = await server.request(name, secret)
        assert (client.status, client.code) == (401, "AuthFailure")
    for token in [server.token(name), server.token(name, server.ec2)]:
        server.cloud.clock.advance(REFRESH_INTERVAL)
        assert await server.status(name, token) == 200


@pytest.mark.parametrize("end", ["expired", "removed", "all removed", "disabled", "user removed", "new password"])
@pytest_twisted.ensureDeferred
async def test_a_token_that_has_ended_is_refused_after_3_seconds(server: TokenServer, end: str) -> None:
    """As a password that has changed."""
    token = server.token("lena", seconds=60)
    server.token("lena")
    assert await server.status("lena", token) == 200
    match end:
        case "expired":
            server.cloud.clock.advance(60)
        case "removed":
            server.token("lena", seconds=0, text=token)
        case "all removed":
            server.token("lena", seconds=0)
        case "disabled":
            server.cloud.oneadmin("one.user.enable", server.ids["lena"], False)
        case "user removed":
            server.cloud.oneadmin("one.user.delete", server.ids["lena"])
        case "new password":
            server.cloud.oneadmin("one.user.passwd", server.ids["lena"], "another")
    server.cloud.clock.advance(USER_MAX_AGE)
    client = await server.request("lena", token)
    assert (client.status, client.code) == (401, "AuthFailure")


@pytest_twisted.ensureDeferred
async def test_oned_refuses_a_token_that_ended_a_moment_ago(server: TokenServer) -> None:
    """Econed has read the user less than 3 seconds ago, and nothing of oned's is shown."""
    token = server.token("lena")
    assert await server.status("lena", token) == 200
    server.token("lena", seconds=0, text=token)
    calls = len(server.cloud.oned.calls)
    client = await server.request("lena", token, "DescribeKeyPairs")
    assert (client.status, client.code) == (401, "AuthFailure")
    assert {call.code for call in list(server.cloud.oned.calls)[calls:]} == {OpenNebulaCode.AUTHENTICATION}


@pytest_twisted.ensureDeferred
async def test_a_machine_made_with_the_token_of_a_group_has_that_group(server: TokenServer) -> None:
    """It is not the user's primary group, which machines of their other sessions have."""
    server.oned.release()
    parameters = {"ImageId": "ami-00000000", "InstanceType": "m1.small", "MinCount": "1", "MaxCount": "1"}
    groups = []
    for token in (server.token("lena", server.ec2), server.token("lena")):
        client = await server.request("lena", token, "RunInstances", **parameters)
        assert client.status == 200, client.received
        machine = max(server.cloud.oned.cloud.vms, key=lambda vm: vm.id)
        groups.append((machine.uname, machine.gid))
    assert groups == [("lena", server.ec2), ("lena", server.dev)]


@pytest_twisted.ensureDeferred
async def test_the_session_of_a_group_sees_nothing_of_another_that_is_in_flight_at_the_same_moment(
    server: TokenServer,
) -> None:
    """What only another group may see is NotFound, although another session of the user reads it."""
    machine = server.cloud.oneadmin("one.vm.allocate", 'NAME="shared"\nCPU="0.1"\nMEMORY="64"', False)
    server.cloud.oneadmin("one.vm.chown", machine, -1, server.dev)
    server.cloud.oneadmin("one.vm.chmod", machine, 1, 1, 0, 1, 0, 0, 0, 0, 0)
    group_token, token = server.token("lena", server.ec2), server.token("lena")
    requests = [
        server.request("lena", secret, "DescribeInstances", **{"InstanceId.1": INSTANCE.format(machine)})
        for secret in (token, group_token)
    ]
    clients = [Deferred.fromCoroutine(request) for request in requests]
    await wait_until(lambda: len(server.oned.held) == len(clients))
    assert server.oned.held == [TokenLogin("lena", token), TokenLogin("lena", group_token)]
    server.oned.release()
    seen, not_seen = [await client for client in clients]
    assert INSTANCE.format(machine).encode() in seen.received
    assert (not_seen.status, not_seen.code) == (400, "InvalidInstanceID.NotFound")


@pytest_twisted.ensureDeferred
async def test_no_token_is_in_a_log_an_error_or_a_metric(server: TokenServer) -> None:
    """Neither of requests that succeed, nor of those that are refused by econed or by oned."""
    tokens = [server.token("lena"), server.token("lena", server.ec2), server.token("lena", text="a token of one's own")]
    answers = [await server.request("lena", token, "DescribeKeyPairs") for token in tokens]
    answers += [await server.request("lena", token, "DescribeInstances", MaxResults="none") for token in tokens]
    answers.append(await server.request("lena", tokens[0], "RunInstances", ImageId="ami-00000099"))
    answers += [await server.request(token, "lena") for token in tokens]
    answers.append(await server.request("lena", "wrong"))
    for token in tokens:
        server.token("lena", seconds=0, text=token)
        answers.append(await server.request("lena", token, "CreateKeyPair", KeyName="key"))
    assert {answer.status for answer in answers} == {200, 400, 401}
    texts = [answer.received.decode() for answer in answers]
    texts.append(repr(server.metrics.snapshot()))
    assert server.audit_path is not None
    texts.append(server.audit_path.read_text("ascii"))
    formatters = (text_formatter(), json_formatter(lambda: 1), formatEvent)
    texts += [str(line(event)) for line in formatters for event in server.events]
    assert any("AuthFailure" in text for text in texts)
    assert any("one.user.info" in text or "one.vmpool.info" in text for text in texts)
    for token in tokens[:2]:
        assert not [text for text in texts if token[:16] in text]
