"""Long responses over real sockets: produced in parts, in order, as the client reads them."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import pytest_twisted
from lxml import etree

from econed.actions.reading_ahead import MAX_AHEAD_PER_SESSION
from econed.opennebula.read_session import SET_SIZE
from tests.http.responses.reading import (
    MACHINES,
    PARTS,
    body_of,
    counting_oned,
    held_bytes,
    instances,
    listing,
    memory_of,
    reader,
    until,
    until_quiet,
    use_small_send_buffers,
    with_boto,
)
from tests.support.serving import Server, connected, get, signed

pytestmark = pytest.mark.slow

READERS = 10


@pytest_twisted.ensureDeferred
async def test_one_part_of_a_response_is_produced_if_the_client_does_not_read(server: Server) -> None:
    """For each client that does not read, one part is in memory, however long the list is; a set is read ahead."""
    use_small_send_buffers(server)
    part_length, _, _ = await _one_part(server)
    with ExitStack() as readers:
        for _ in range(READERS):
            readers.enter_context(reader(server, listing(server)))
        await until(server, lambda: counting_oned(server).sets >= READERS)
        await until_quiet(server)
        assert counting_oned(server).sets == READERS + MAX_AHEAD_PER_SESSION
        assert held_bytes(server) <= READERS * (part_length + (1 << 17))
        assert memory_of(server).producing == 0
    await until(server, lambda: server.site.connections == 0)
    assert held_bytes(server) == 0
    await until_quiet(server)
    assert counting_oned(server).sets == READERS + MAX_AHEAD_PER_SESSION, (
        "nothing more is read for a client that has disconnected"
    )


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("action", ["DescribeInstances", "DescribeInstanceStatus"])
async def test_a_few_instances_given_by_id_are_read_by_one_call_at_a_time(server: Server, action: str) -> None:
    """Their documents may be long, and a user may send many such requests at a time."""
    request = get(server, signed(server, Action=action, **{"InstanceId.1": "i-00000000", "InstanceId.2": "i-00000001"}))
    clients = [await connected(server) for _ in range(READERS)]
    for client in clients:
        client.send(request)
    await until(server, lambda: all(client.received.endswith(f"</{action}Response>".encode()) for client in clients))
    assert counting_oned(server).max_in_flight == 1
    assert counting_oned(server).sets < READERS


async def _one_part(server: Server) -> tuple[int, bytes, bytes]:
    """Return the length, headers and body of a response with one set of machines, and reset the count of sets."""
    client = await connected(server)
    client.send(listing(server, MaxResults=str(SET_SIZE)))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    client.close()
    await client.closed
    headers, body = body_of(client.received)
    counting_oned(server).sets = 0
    return len(body), headers, body


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_gets_all_instances_in_order(server: Server) -> None:
    """In one well-formed document in chunks, with each instance once."""
    client = await connected(server)
    client.send(listing(server))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    headers, body = body_of(client.received)
    assert b"transfer-encoding: chunked" in headers
    assert b"content-length" not in headers
    ids = instances(body)
    assert len(ids) == MACHINES
    assert ids == sorted(set(ids))
    assert counting_oned(server).sets == PARTS
    assert held_bytes(server) == 0
    client.send(get(server, signed(server)))
    await until(server, lambda: client.received.endswith(b"</DescribeRegionsResponse>"))
    assert client.received.count(b"HTTP/1.1 200") == 2, "the connection is persistent"


@pytest_twisted.ensureDeferred
async def test_a_short_response_has_a_content_length(server: Server) -> None:
    client = await connected(server)
    client.send(listing(server, MaxResults="5"))
    await until(server, lambda: client.has_response)
    headers, _, body = client.received.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in headers.lower()
    assert b"transfer-encoding" not in headers.lower()
    assert len(instances(body)) == 5
    assert etree.fromstring(body).findtext("{*}nextToken")


@pytest_twisted.ensureDeferred
async def test_a_page_of_several_parts_ends_with_its_token(server: Server) -> None:
    """The token is known only after the last part, so it follows the list."""
    client = await connected(server)
    client.send(listing(server, MaxResults="600"))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    _, body = body_of(client.received)
    first_page = instances(body)
    assert len(first_page) == 600
    assert [etree.QName(element).localname for element in etree.fromstring(body)][-2:] == [
        "reservationSet",
        "nextToken",
    ]
    token = str(etree.fromstring(body).findtext("{*}nextToken"))
    client.received = b""
    client.send(listing(server, MaxResults="1000", NextToken=token))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    assert min(instances(body_of(client.received)[1])) > max(first_page)


@pytest_twisted.ensureDeferred
async def test_an_http_1_0_client_gets_the_body_until_the_connection_is_closed(server: Server) -> None:
    client = await connected(server)
    client.send(listing(server).replace(b"HTTP/1.1", b"HTTP/1.0"))
    await until(server, lambda: client.is_closed)
    headers, _, body = client.received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in headers.lower()
    assert len(instances(body)) == MACHINES


@pytest_twisted.ensureDeferred
async def test_boto3_reads_a_long_list(server_at_wall_time: Server) -> None:
    response = await with_boto(server_at_wall_time, lambda ec2: ec2.describe_instances())
    ids = [instance["InstanceId"] for reservation in response["Reservations"] for instance in reservation["Instances"]]
    assert len(set(ids)) == len(ids) == MACHINES
