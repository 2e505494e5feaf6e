"""Parses a form that ends with one file (`multipart/form-data`, RFC 7578), incrementally.

The tools of the Ruby econe-server upload an image in this form: first the parameters, as fields, then the file. The
fields are complete when the file begins; the file is passed on and not stored here. Parts after the file are refused:
the upload is authorized before they arrive, so no signature could have covered them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from econed.errors import EC2Error
from econed.wire.query import Pairs

MEDIA_TYPE = b"multipart/form-data"

MAX_FIELDS_SIZE = 1 << 16
"""Maximum number of bytes before the file: fields, their headers, and any text before the first boundary."""

_MAX_PARTS = 200
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", re.ASCII)
"""RFC 2046, 5.1.1: at most 70 of these characters, the last not a space."""

_IDENTITY_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})


class UploadForm:
    """A form, parsed as it is received.

    `fields` are its parameters in order, complete once `has_file` is true; `is_complete` is true after the end of the
    form. The constructor, `feed` and `close` raise `EC2Error` InvalidRequest if it is not such a form.
    """

    def __init__(self, content_type: str) -> None:
        boundary = parse_options_header(content_type)[1].get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            raise _invalid_form("the boundary is missing or not well-formed.")
        self._parser = PushMultipartParser(boundary, max_segment_count=_MAX_PARTS)
        self._fields: list[tuple[str, str]] = []
        self._part: MultipartSegment | None = None
        self._value = bytearray()
        self._size = 0
        self.has_file = False
        self.is_complete = False

    @property
    def fields(self) -> Pairs:
        """The parameters, in order."""
        return tuple(self._fields)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Parse received data and yield the pieces of the file in it; must be exhausted before the next call.

        Between two calls only the fields and at most the length of a boundary are held in memory.
        """
        if not data:
            return
        self._size += len(data)
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._begin_part(event)
                elif event is None:
                    self._end_part()
                elif self.has_file:
                    yield bytes(event)
                else:
                    self._value += event
        except MultipartError as error:
            raise _invalid_form(f"{error}.") from None
        if not self.has_file and self._size > MAX_FIELDS_SIZE:
            raise _invalid_form("its parameters are too long.")

    def close(self) -> None:
        """Handle the end of the body; raises `EC2Error` if the form is not complete."""
        try:
            self._parser.close()
        except MultipartError:
            raise _invalid_form("it is truncated.") from None
        self.is_complete = True

    def _begin_part(self, part: MultipartSegment) -> None:
        if self.has_file:
            raise _invalid_form("a part follows the file, which must be the last part.")
        if (part.header("Content-Transfer-Encoding") or "").strip().lower() not in _IDENTITY_ENCODINGS:
            raise _invalid_form("a part has a transfer encoding.")
        self._part = part
        self.has_file = part.filename is not None

    def _end_part(self) -> None:
        if self.has_file or self._part is None:
            return
        try:
            self._fields.append((self._part.name or "", self._value.decode("utf-8")))
        except UnicodeDecodeError:
            raise _invalid_form("a parameter is not UTF-8.") from None
        self._value = bytearray()


def _invalid_form(reason: str) -> EC2Error:
    return EC2Error("InvalidRequest", f"The request is not a form that ends with one file: {reason}")
