"""Forms with a file: written to a file that oned can read as they arrive, in bounded memory.

The fields of the form come first. The file is received once they have been authenticated; until then, and whenever the
disk is slower than the network, reading is paused. A file that is incomplete, or differs from what was signed, is
removed (`econed.http.upload_directory`).
"""

from __future__ import annotations

import hashlib
import hmac
import re

from zope.interface import implementer

from econed.auth.failures import signature_does_not_match
from econed.errors import EC2Error
from econed.http.file_buffer import BodySource, FileBuffer
from econed.http.upload_directory import UploadDirectory
from econed.interfaces import IUpload
from econed.wire.multipart import UploadForm
from econed.wire.query import Pairs

_HASH = re.compile(rb"[0-9a-f]{64}")


@implementer(IUpload)
class Upload:
    """A form with a file that is being received.

    `length` is the Content-Length of the body, None if it is chunked. `payload_hash` is the value of the header
    x-amz-content-sha256, None if there is none. The request calls `data_received`, `body_ended`, `fail` and
    `connection_lost`; the action reads `fields` and uses `IUpload`.
    """

    def __init__(
        self,
        uploads: UploadDirectory,
        content_type: str,
        length: int | None,
        payload_hash: bytes | None,
        source: BodySource,
    ) -> None:
        self._uploads = uploads
        self._length = length
        self._expected_hash = payload_hash if payload_hash is not None and _HASH.fullmatch(payload_hash) else None
        self._hash = hashlib.sha256()
        self._buffer = FileBuffer(source)
        self._received = 0
        self._path: str | None = None
        self._form: UploadForm | None = None
        try:
            uploads.check_size(length or 0)
            self._form = UploadForm(content_type)
        except EC2Error as error:
            self._buffer.fail(error)

    # Called by the request

    def data_received(self, data: bytes) -> None:
        """Process a piece of the body."""
        if self._form is None or self._buffer.error is not None:
            return
        self._received += len(data)
        if self._expected_hash is not None:
            self._hash.update(data)
        try:
            self._uploads.check_size(self._received)
            for piece in self._form.feed(data):
                self._buffer.put(piece)
        except EC2Error as error:
            self._buffer.fail(error)
            return
        if self._form.has_file:
            self._buffer.throttle()

    def body_ended(self) -> None:
        """Process the end of the body."""
        if self._form is not None and self._buffer.error is None:
            try:
                self._form.close()
                self._check_hash()
            except EC2Error as error:
                self._buffer.fail(error)
        self._buffer.end()

    def fail(self, error: EC2Error) -> None:
        """Fail the upload, unless the body is complete."""
        if not self._buffer.has_ended:
            self._buffer.fail(error)

    def connection_lost(self) -> None:
        """Fail the upload because its connection was lost."""
        self.fail(EC2Error("RequestTimeout", "The connection was lost before the whole image was received.", 408))

    @property
    def is_ready(self) -> bool:
        """Whether the request can be processed: the fields are complete, or the upload has failed."""
        return self._buffer.error is not None or self._buffer.has_ended or self._has_file

    @property
    def buffered(self) -> int:
        """Bytes of the file that were received and not passed on to the disk yet."""
        return self._buffer.size

    # Used by the action

    @property
    def fields(self) -> Pairs:
        """The parameters before the file; raises `EC2Error` if the body is not a form with a file."""
        if self._buffer.error is not None:
            raise self._buffer.error
        if self._form is None or not self._form.has_file:
            raise EC2Error("InvalidRequest", "The form has no file.")
        return self._form.fields

    async def check_acceptable(self, owner: int) -> None:
        """See `IUpload.check_acceptable`."""
        if not await self._uploads.is_readable_by_oned():
            raise EC2Error(
                "UnsupportedOperation",
                "Images cannot be uploaded here: OpenNebula runs on another machine.",
            )
        await self._uploads.check_room(owner, self._length)

    async def receive(self, owner: int) -> str:
        """See `IUpload.receive`."""
        self._path = await self._uploads.receive(owner, self._length, self._buffer.next_piece)
        return self._path

    async def discard(self) -> None:
        """See `IUpload.discard`."""
        if self._path is not None:
            await self._uploads.remove(self._path)

    @property
    def _has_file(self) -> bool:
        return self._form is not None and self._form.has_file

    def _check_hash(self) -> None:
        if self._expected_hash is not None and not hmac.compare_digest(
            self._hash.hexdigest().encode(), self._expected_hash
        ):
            raise signature_does_not_match(
                "The provided 'x-amz-content-sha256' header does not match what was computed."
            )
