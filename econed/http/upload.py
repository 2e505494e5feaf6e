"""Forms with a file on their way in: from a connection to a file that oned can read, in bounded memory.

A file is let in when its sender is known, which is when the fields of the form, which come first, have been looked at.
Until then, and whenever the disk is slower than the network, the sender is paused. A file that does not come whole, or
not as it was signed, leaves nothing behind (`econed.http.upload_directory`).
"""

from __future__ import annotations

import hashlib
import hmac
import re

from zope.interface import implementer

from econed.auth.failures import signature_does_not_match
from econed.errors import EC2Error
from econed.http.inflow import Flow, Inflow
from econed.http.upload_directory import UploadDirectory
from econed.interfaces import IUpload
from econed.wire.multipart import UploadForm
from econed.wire.query import Pairs

_HASH = re.compile(rb"[0-9a-f]{64}")


@implementer(IUpload)
class Upload:
    """One form with a file, on its way in.

    `length` is the announced size of the whole body, None if it comes in chunks; `payload_hash` is the hash that the
    request names for it, if it does. It is fed from below (`data_received`, `body_ended`, `connection_lost`) and asked
    from above (`fields`, and as `IUpload`).
    """

    def __init__(
        self, uploads: UploadDirectory, content_type: str, length: int | None, payload_hash: bytes | None, flow: Flow
    ) -> None:
        self._uploads = uploads
        self._length = length
        self._expected = payload_hash if payload_hash is not None and _HASH.fullmatch(payload_hash) else None
        self._hash = hashlib.sha256()
        self._inflow = Inflow(flow)
        self._taken = 0
        self._path: str | None = None
        self._form: UploadForm | None = None
        try:
            uploads.check_size(length or 0)
            self._form = UploadForm(content_type)
        except EC2Error as error:
            self._inflow.fail(error)

    # From below

    def data_received(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self._form is None or self._inflow.error is not None:
            return
        self._taken += len(data)
        if self._expected is not None:
            self._hash.update(data)
        try:
            self._uploads.check_size(self._taken)
            for piece in self._form.feed(data):
                self._inflow.put(piece)
        except EC2Error as error:
            self._inflow.fail(error)
            return
        if self._form.has_file:
            self._inflow.throttle()

    def body_ended(self) -> None:
        """Take the end of the body."""
        if self._form is not None and self._inflow.error is None:
            try:
                self._form.close()
                self._check_hash()
            except EC2Error as error:
                self._inflow.fail(error)
        self._inflow.end()

    def break_off(self, error: EC2Error) -> None:
        """Take note that no more will come, and why."""
        if not self._inflow.has_ended:
            self._inflow.fail(error)

    def connection_lost(self) -> None:
        """Take note that the sender has gone."""
        self.break_off(EC2Error("RequestTimeout", "The connection broke off before the image had arrived.", 408))

    @property
    def is_known(self) -> bool:
        """Whether it can be told what this is: the fields are complete, or it will never be anything."""
        return self._inflow.error is not None or self._inflow.has_ended or self._has_file

    @property
    def buffered(self) -> int:
        """Bytes of the file that are in memory."""
        return self._inflow.buffered

    # From above

    @property
    def fields(self) -> Pairs:
        """The parameters before the file; raises `EC2Error` if what came is no form with a file."""
        if self._inflow.error is not None:
            raise self._inflow.error
        if self._form is None or not self._form.has_file:
            raise EC2Error("InvalidRequest", "The form has no file.")
        return self._form.fields

    async def admit(self, owner: int) -> None:
        """See `IUpload.admit`."""
        if not await self._uploads.is_readable_by_oned():
            raise EC2Error(
                "UnsupportedOperation",
                "Images cannot be uploaded here: OpenNebula runs on another machine.",
            )
        await self._uploads.check_room(owner, self._length)

    async def receive(self, owner: int) -> str:
        """See `IUpload.receive`."""
        self._path = await self._uploads.receive(owner, self._length, self._inflow.next)
        return self._path

    async def discard(self) -> None:
        """See `IUpload.discard`."""
        if self._path is not None:
            await self._uploads.remove(self._path)

    @property
    def _has_file(self) -> bool:
        return self._form is not None and self._form.has_file

    def _check_hash(self) -> None:
        if self._expected is not None and not hmac.compare_digest(self._hash.hexdigest().encode(), self._expected):
            raise signature_does_not_match(
                "The provided 'x-amz-content-sha256' header does not match what was computed."
            )
