"""A form with one file at its end (`multipart/form-data`, RFC 7578), taken apart while it arrives.

So the tools of the Ruby econe-server send an image: the parameters first, as fields, and then the file. The fields are
complete when the file begins; nothing of the file is kept here. What comes after the file is refused: no signature
could have covered it when the file was let in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from econed.errors import EC2Error
from econed.wire.query import Pairs

MEDIA_TYPE = b"multipart/form-data"

MAX_FIELDS = 1 << 16
"""Bytes before the file: fields, their headers, and whatever stands in front of the first boundary."""

_MAX_PARTS = 200
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", re.ASCII)
"""RFC 2046, 5.1.1: at most 70 characters of these, the last one no space."""

_PLAIN = frozenset({"", "7bit", "8bit", "binary"})


class UploadForm:
    """One form, fed as it comes.

    `fields` are its parameters in their order, complete once `has_file`; `is_complete` says that the form has come to
    its end. Raises `EC2Error` InvalidRequest for what is no such form, also from `feed` and `close`.
    """

    def __init__(self, content_type: str) -> None:
        boundary = parse_options_header(content_type)[1].get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            raise _invalid("the boundary is missing or not well-formed.")
        self._parser = PushMultipartParser(boundary, max_segment_count=_MAX_PARTS)
        self._fields: list[tuple[str, str]] = []
        self._part: MultipartSegment | None = None
        self._value = bytearray()
        self._fed = 0
        self.has_file = False
        self.is_complete = False

    @property
    def fields(self) -> Pairs:
        """The parameters, in their order."""
        return tuple(self._fields)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what has come and yield the pieces of the file in it; to be run to its end before the next call.

        No more is kept between two calls than the fields and the length of a boundary.
        """
        if not data:
            return
        self._fed += len(data)
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._end()
                elif self.has_file:
                    yield bytes(event)
                else:
                    self._value += event
        except MultipartError as error:
            raise _invalid(f"{error}.") from None
        if not self.has_file and self._fed > MAX_FIELDS:
            raise _invalid("its parameters are too long.")

    def close(self) -> None:
        """Take the end of the body; raises `EC2Error` if the form is not complete."""
        try:
            self._parser.close()
        except MultipartError:
            raise _invalid("it breaks off.") from None
        self.is_complete = True

    def _begin(self, part: MultipartSegment) -> None:
        if self.has_file:
            raise _invalid("something follows the file, which has to be the last part.")
        if (part.header("Content-Transfer-Encoding") or "").strip().lower() not in _PLAIN:
            raise _invalid("a part has a transfer encoding.")
        self._part = part
        self.has_file = part.filename is not None

    def _end(self) -> None:
        if self.has_file or self._part is None:
            return
        try:
            self._fields.append((self._part.name or "", self._value.decode("utf-8")))
        except UnicodeDecodeError:
            raise _invalid("a parameter is not UTF-8.") from None
        self._value = bytearray()


def _invalid(reason: str) -> EC2Error:
    return EC2Error("InvalidRequest", f"The request is not a form with one file at its end: {reason}")
