"""What one process remembers between requests, so that it responds faster.

A process that has just started has an empty memory and comes to the same results, except in two rare cases, which
`econed.actions.token_index` and docs/design.md ("Terminated instances") describe. Every member is bounded, and what
belongs to a user is stored by session (`Call.session_key`), since two sessions of one user may see different objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from econed.actions.item_memory import ItemMemory
from econed.actions.known_machines import KnownLists
from econed.actions.reading_ahead import MAX_SHORT_RESULTS, MAX_SHORT_RESULTS_PER_SESSION, ReadAhead
from econed.actions.shared_result import SharedResult
from econed.actions.token_index import TokenIndex
from econed.actions.zones_and_clusters import ZonesAndClusters
from econed.opennebula.long_documents import LongDocuments
from econed.single_flight import KeyedFlights


@dataclass(frozen=True)
class ProcessMemory:
    """The memory of one process.

    `zones_and_clusters` are the only data that may be older than a request. `long_documents` are the documents that
    were too long to be read. `launch_tokens` are the client tokens of machines, `launches` the launches with a client
    token that are in progress, `login_tokens` the login tokens that are being made. `known_machines` are the machines
    that lists had, `instances` what was sent of them. `read_ahead` limits the sets that lists read ahead,
    `short_results` the results that are produced before their turn. `elastic_addresses` are those of the last document
    of their network.
    """

    zones_and_clusters: ZonesAndClusters
    long_documents: LongDocuments = field(default_factory=LongDocuments)
    launch_tokens: TokenIndex = field(default_factory=TokenIndex)
    launches: KeyedFlights = field(default_factory=KeyedFlights)
    login_tokens: KeyedFlights = field(default_factory=KeyedFlights)
    known_machines: KnownLists = field(default_factory=KnownLists)
    instances: ItemMemory[Any] = field(default_factory=ItemMemory)
    read_ahead: ReadAhead = field(default_factory=ReadAhead)
    short_results: ReadAhead = field(
        default_factory=lambda: ReadAhead(MAX_SHORT_RESULTS, MAX_SHORT_RESULTS_PER_SESSION)
    )
    elastic_addresses: SharedResult = field(default_factory=SharedResult)
