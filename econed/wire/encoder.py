"""Encodes members of the model as XML: `{"Reservations": [...]}` to `<DescribeInstancesResponse>`.

The protocols of EC2 and of the other services differ in what is around the members, and in their errors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from econed.errors import EC2Error
from econed.services import EC2, SERVICES, AmazonService
from econed.wire.compiler import Compiler, InvalidResult, ListStepper, Structure, member_of
from econed.wire.model import ServiceOperation, own_name
from econed.wire.text import escape

ALSO_RETURN_TRUE: Final = frozenset(
    {"AssignPrivateIpAddresses", "AssociateAddress", "CreatePlacementGroup", "CreateSecurityGroup"}
)
"""Operations whose responses contain `<return>true</return>`, although today's model has no such member.

The older models (botocore, 2014-09-01) or Amazon's documented responses have it, and libcloud recognizes
success by it.
"""

_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'


class Encoder:
    """Encodes responses as the XML of their service.

    An encoder must be used with one `Model` of each service only: it caches compiled shapes by their names in it.
    """

    def __init__(self) -> None:
        self._compilers = {service: Compiler() for service in SERVICES}

    def encode(self, operation: ServiceOperation, result: Mapping[str, Any], *, version: str, request_id: str) -> bytes:
        """Return a whole response; raises `InvalidResult`. For long responses see `slices` and `body`."""
        return b"".join(self.slices(operation, result, version=version, request_id=request_id))

    def slices(
        self, operation: ServiceOperation, result: Mapping[str, Any], *, version: str, request_id: str
    ) -> Iterator[bytes]:
        """Yield a response in slices, each a bounded amount of work; see `body`."""
        body = self.body(operation, version=version, request_id=request_id)
        yield from body.slices(result)
        yield body.end()

    def body(self, operation: ServiceOperation, *, version: str, request_id: str) -> ResponseBody:
        """Return an empty response body, to which the parts of a result are written.

        `version` is the API version in the request: clients expect their own in the namespace.
        """
        return ResponseBody(self._compilers[operation.service], operation, _Frame.of(operation, version, request_id))


class ResponseBody:
    """A response in XML, encoded from the parts of a result; each part has members of the result.

    The following parts may continue a top-level list, until a part has another member. The members of a part are
    written in the model's order. Members that are None are omitted; an empty list becomes an empty element. EC2's
    operations without an output in the model return `<return>true</return>`.
    """

    def __init__(self, compiler: Compiler, operation: ServiceOperation, frame: _Frame) -> None:
        self._compiler = compiler
        self._operation = operation
        self._closing = frame.closing
        self._out = [_DECLARATION, frame.opening]
        self._written: set[str] = set()
        """The members that were written, wholly or in part."""
        self._open: tuple[str, ListStepper] | None = None
        """The list that the next part may continue, with the name of its member."""

    def slices(self, part: Mapping[str, Any]) -> Iterator[bytes]:
        """Encode a part, and yield the output after each `econed.wire.compiler.SLICE_LENGTH` tags and elements.

        The remaining output is in the first slice of the next part, in `take`, or in `end`. Any step may raise
        `InvalidResult`.
        """
        try:
            for _ in self._write(part):
                yield self.take()
        except InvalidResult as error:
            error.prepend(self._operation.name)
            raise

    def take(self) -> bytes:
        """Return the output that has not been returned yet."""
        output = "".join(self._out).encode()
        self._out.clear()
        return output

    def end(self) -> bytes:
        """Return the remaining output with the end of the response."""
        self._close_list()
        if _has_return(self._operation, self._written):
            self._out.append("<return>true</return>")
        self._out.append(self._closing)
        return self.take()

    def _write(self, part: Mapping[str, Any]) -> Iterator[None]:
        shape = self._operation.output_shape
        if shape is not None:
            structure = self._compiler.structure(shape)
            items = structure.items(part)
            if self._open is not None:
                items = sorted(items, key=self._continues, reverse=True)
            for key, value in items:
                if value is not None:
                    yield from self._write_member(structure, key, value)
        elif part:
            raise InvalidResult(f"the operation returns nothing, not {', '.join(part)}")

    def _continues(self, item: tuple[str, Any]) -> bool:
        return self._open is not None and item[0] == self._open[0]

    def _write_member(self, structure: Structure, key: str, value: Any) -> Iterator[None]:
        try:
            if self._open is not None and self._open[0] == key:
                yield from self._open[1].items(value, self._out)
                return
            self._close_list()
            if key in self._written:
                raise InvalidResult("the member is already complete")
            stepper = structure.steppers.get(key)
            if isinstance(stepper, ListStepper):
                self._out.append(stepper.opening)
                self._open = key, stepper
                self._written.add(key)
                yield from stepper.items(value, self._out)
            elif stepper is not None:
                self._written.add(key)
                yield from stepper(value, self._out)
            else:
                member_of(structure.writers, key)(value, self._out)
                self._written.add(key)
        except InvalidResult as error:
            error.prepend(f".{key}")
            raise

    def _close_list(self) -> None:
        if self._open is not None:
            self._out.append(self._open[1].closing)
            self._open = None


class _Frame(NamedTuple):
    """The beginning and the end of a response, around the members of a result."""

    opening: str
    closing: str

    @classmethod
    def of(cls, operation: ServiceOperation, version: str, request_id: str) -> _Frame:
        """Return the frame of EC2's protocol or of the query protocol; the request id is first or last in it."""
        root = f"{operation.name}Response"
        opening, closing = f'<{root} xmlns="{_namespace(operation.service, version)}">', f"</{root}>"
        if operation.service.protocol == "ec2":
            return cls(f"{opening}<requestId>{escape(request_id)}</requestId>", closing)
        wrapper = operation.result_wrapper
        return cls(
            f"{opening}<{wrapper}>" if wrapper else opening,
            (f"</{wrapper}>" if wrapper else "")
            + f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId></ResponseMetadata>{closing}",
        )


def encode_error(service: AmazonService, error: EC2Error, request_id: str) -> bytes:
    """Return the body of an error.

    EC2 has a form of its own (EC2 API Reference, "Error codes": no namespace, and the spelling RequestID), the services
    of the query protocol have another (IAM API Reference, "Common Errors").
    """
    text = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message></Error>"
    if service.protocol == "ec2":
        body = f"<Response><Errors><Error>{text}</Errors><RequestID>{escape(request_id)}</RequestID></Response>"
    else:
        kind = "Receiver" if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "Sender"
        body = (
            f'<ErrorResponse xmlns="{_namespace(service, service.version or "")}"><Error><Type>{kind}</Type>{text}'
            f"<RequestId>{escape(request_id)}</RequestId></ErrorResponse>"
        )
    return f"{_DECLARATION}{body}".encode()


def _namespace(service: AmazonService, version: str) -> str:
    """Return the namespace of a version of the API, which may be any text that a client sent."""
    scheme = "http" if service is EC2 else "https"
    return f"{scheme}://{service.name}.amazonaws.com/doc/{quote(version, safe='', errors='replace')}/"


def _has_return(operation: ServiceOperation, written: Collection[str]) -> bool:
    """Whether to add `<return>true</return>`, which EC2 returns with every success, unless it was written already."""
    if operation.service.protocol != "ec2":
        return False
    if operation.output_shape is None or operation.name in ALSO_RETURN_TRUE:
        return True
    members = operation.output_shape.members.items()
    keys = [key for key, member in members if own_name(member, key) == "return" and member.type_name == "boolean"]
    return any(key not in written for key in keys)
