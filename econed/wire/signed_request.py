"""A request as it was received: the bytes that a signature covers are those that are parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from econed.wire.query import Pairs, count_pairs, parse_pairs


@dataclass(frozen=True)
class SignedRequest:
    """A request exactly as it was received.

    `path` is that of the request line, undecoded, up to the `?`; `query` is what follows it. `headers` have lower-case
    names and values as received, in their order. `body` is the form (`application/x-www-form-urlencoded`), empty for
    a GET. `fields` are the parameters of a `multipart/form-data` form whose file is still to come, None of any other
    request: of such a form a Version 2 signature covers the fields alone. `certificate` is the client's (DER), verified
    by our own TLS or by a trusted proxy, None where it brought none; no signature covers it.
    """

    method: str
    path: bytes
    query: bytes
    headers: tuple[tuple[str, bytes], ...]
    body: bytes
    fields: Pairs | None = None
    certificate: bytes | None = None

    @property
    def parameters(self) -> int:
        """How many parameters there are at most: they are counted, not read."""
        return count_pairs(self.query) + (count_pairs(self.body) if self.fields is None else len(self.fields))

    @property
    def size(self) -> int:
        """Bytes of the query string and the form."""
        return len(self.query) + len(self.body)

    @cached_property
    def query_pairs(self) -> Pairs:
        """The parameters of the query string; raises `EC2Error` MalformedQueryString."""
        return parse_pairs(self.query)

    @cached_property
    def form_pairs(self) -> Pairs:
        """The parameters of the form; raises `EC2Error` MalformedQueryString."""
        return parse_pairs(self.body) if self.fields is None else self.fields

    def header(self, name: str) -> tuple[bytes, ...]:
        """Return the values of all headers called `name` (in lower case), in their order."""
        return self._headers_by_name.get(name, ())

    @cached_property
    def _headers_by_name(self) -> Mapping[str, tuple[bytes, ...]]:
        found: dict[str, list[bytes]] = {}
        for name, value in self.headers:
            found.setdefault(name, []).append(value)
        return {name: tuple(values) for name, values in found.items()}
