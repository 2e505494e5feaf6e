"""The sandbox as a server and as a backend, and the cloud that it starts with."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from econed.errors import InvalidReply
from econed.interfaces import IOpenNebula
from econed.sandbox.demo_cloud import PUBLIC_ADDRESSES, populate
from econed.sandbox.oned import Oned
from econed.sandbox.server import SandboxResource
from econed.sandbox.versions import Version
from tests.sandbox.demo_cloud import DemoCloud, result

CALL = b"<methodCall><methodName>%s</methodName><params>%s</params></methodCall>"
SESSION = b"<param><value><string>oneadmin:opennebula</string></value></param>"


def _exchange(port: int, body: bytes) -> bytes:
    head = b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(head + body)
        parts = []
        while part := peer.recv(65536):
            parts.append(part)
    return b"".join(parts)


async def response(oned: Oned, body: bytes) -> bytes:
    """Send a call over a socket, and return the response up to the close of the connection."""
    site: Any = Site(SandboxResource(oned))
    port: Any = cast(IReactorTCP, reactor).listenTCP(0, site, interface="127.0.0.1")
    try:
        return await deferToThread(_exchange, port.getHost().port, body)
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_the_server_sends_the_content_length_and_closes_the_connection() -> None:
    reply = await response(Oned(Clock()), CALL % (b"one.system.version", SESSION))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"content-length: %d" % len(body) in head.lower()
    assert b"<boolean>1</boolean>" in body
    assert b"7.4.0" in body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (CALL % (b"one.nonsense.info", SESSION), b"-506"),
        (CALL % (b"one.vm.info", SESSION), b"-501"),
        (CALL % (b"one.vm.info", b""), b"-501"),
        (CALL % (b"one.vm.info", SESSION + b"<param><value><string>x</string></value></param>"), b"-501"),
        (b"<methodCall>", b"-503"),
        (b"", b"-503"),
        (CALL % (b"one.vm.info", b"<param><value><string>\x01</string></value></param>"), b"-503"),
        (CALL % (b"one.vm.info", "<param><value><string>\U0001f600</string></value></param>".encode()), b"-503"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_malformed_calls_get_faults(body: bytes, code: bytes) -> None:
    reply = await response(Oned(Clock()), body)
    assert b"<fault>" in reply
    assert code in reply


def test_the_backend_provides_the_interface() -> None:
    assert verifyObject(IOpenNebula, DemoCloud().backend)


def test_a_reply_without_a_document_raises_invalid_reply_where_one_was_requested() -> None:
    demo = DemoCloud()
    with pytest.raises(InvalidReply):
        result(demo.backend.document(None, "one.system.version"))


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"6\.10"):
        Version.of("6.10")


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_the_demo_cloud_has_what_an_ec2_user_needs(version: str) -> None:
    demo = DemoCloud(version)
    types = demo.document("alice", "one.templatepool.info", -2, -1, -1)
    assert {e.text for e in types.iterfind("VMTEMPLATE/TEMPLATE/EC2_INSTANCE_TYPE")} == {"m1.small", "m1.large"}
    images = demo.document("alice", "one.imagepool.info", -2, -1, -1)
    assert {e.text for e in images.iterfind("IMAGE/STATE")} == {"1"}
    assert [e.text for e in images.iterfind("IMAGE/TEMPLATE/EC2_AMI")] == ["YES"]
    assert len(images) == 2
    elastic_network = demo.document(None, "one.vn.info", 1, False)
    assert elastic_network.findtext("NAME") == "ElasticIPs"
    assert tuple(e.text for e in elastic_network.iterfind("AR_POOL/AR/IP")) == PUBLIC_ADDRESSES
    assert demo.state(demo.run_machine()) == (3, 3)


def test_a_cloud_may_start_with_running_machines_of_its_first_user() -> None:
    oned = Oned(Clock())
    populate(oned, users=[("alice", "s"), ("bob", "t")], vms=300)
    machines = list(oned.cloud.vms)
    assert len(machines) == 300
    assert {(m.uname, int(m.state), int(m.lcm_state)) for m in machines} == {("alice", 3, 3)}
    assert {m.user_template.get("EC2_INSTANCE_TYPE") for m in machines} == {"m1.small"}
    assert {m.user_template.get("IMAGE_ID") for m in machines} == {"ami-00000000"}
    assert len({m.user_template.get("EC2_RESERVATION_ID") for m in machines}) == 300
    assert len({m.nics[0]["IP"] for m in machines}) == 300


def test_a_user_cannot_be_created_twice() -> None:
    with pytest.raises(ValueError, match="serveradmin"):
        populate(Oned(Clock()), users=[("serveradmin", "x")])
