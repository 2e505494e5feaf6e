"""The private names of Twisted that tests read; no other module of the tests uses any.

A new release of Twisted may rename them: then this module is what has to change.
"""

from __future__ import annotations

from typing import Any

from twisted.application.internet import StreamServerEndpointService


def unsent_bytes(transport: Any) -> int:
    """Return how many bytes a TCP transport holds that the kernel has not taken yet.

    `dataBuffer` from `offset` on is next; `_tempDataBuffer`, of `_tempDataLen` bytes, is appended to it by the next
    write (`twisted.internet.abstract.FileDescriptor`).
    """
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


def unparsed_bytes(channel: Any) -> int:
    """Return how many bytes an HTTP channel has received and not parsed yet.

    `_buffer` belongs to its `LineReceiver`; `_dataBuffer` holds what a client sends while its request is being
    carried out (`twisted.web.http.HTTPChannel`).
    """
    return len(channel._buffer) + sum(map(len, channel._dataBuffer))


async def listening_port(service: StreamServerEndpointService) -> Any:
    """Return the port of an endpoint service that has been started.

    `_waitingForPort` is the Deferred that its endpoint's `listen` returned.
    """
    assert service._waitingForPort is not None
    return await service._waitingForPort
