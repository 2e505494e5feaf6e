"""What one process remembers between requests: it makes answers faster, and never changes them.

A process that has just started has an empty memory and comes to the same answers. Every member is bounded, and what
belongs to a user is stored by session (`Call.session_key`), since two sessions of one user may see different objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from econed.actions.shared_reads import SharedReads
from econed.opennebula.long_documents import LongDocuments


@dataclass(frozen=True)
class ProcessMemory:
    """The memory of one process.

    `long_documents` are the documents that were too long to be read, `shared_reads` the reads that several requests
    wait for.
    """

    long_documents: LongDocuments = field(default_factory=LongDocuments)
    shared_reads: SharedReads = field(default_factory=SharedReads)
