"""A request as it was received: the bytes that a signature covers are the bytes that are parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from econed.services import AmazonService, service_of
from econed.wire.query import Pairs, count_pairs, parse_pairs


@dataclass(frozen=True)
class SignedRequest:
    """A request exactly as it was received.

    `path` is that of the request line up to the `?`, undecoded; `query` is the rest. `headers` are in order, with names
    in lower case and unmodified values. `body` is the form (`application/x-www-form-urlencoded`), empty for a GET.
    `fields` are the parameters of a `multipart/form-data` form whose file has not been received yet, None for any other
    request; a Version 2 signature of such a form covers the fields alone. `certificate` is the client's (DER), verified
    by our own TLS or by a trusted proxy, None if the client sent none; no signature covers it.
    """

    method: str
    path: bytes
    query: bytes
    headers: tuple[tuple[str, bytes], ...]
    body: bytes
    fields: Pairs | None = None
    certificate: bytes | None = None

    @property
    def parameter_count(self) -> int:
        """Upper bound on the number of parameters, counted without parsing them."""
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

    @property
    def pairs(self) -> Pairs:
        """All parameters, those of the query string first; raises `EC2Error` MalformedQueryString."""
        return (*self.query_pairs, *self.form_pairs)

    @property
    def service(self) -> AmazonService:
        """The service that the parameters ask for; raises `EC2Error` MalformedQueryString."""
        return service_of(self.pairs)

    def header(self, name: str) -> tuple[bytes, ...]:
        """Return the values of all headers called `name` (in lower case), in order."""
        return self._headers_by_name.get(name, ())

    @cached_property
    def _headers_by_name(self) -> Mapping[str, tuple[bytes, ...]]:
        by_name: dict[str, list[bytes]] = {}
        for name, value in self.headers:
            by_name.setdefault(name, []).append(value)
        return {name: tuple(values) for name, values in by_name.items()}
