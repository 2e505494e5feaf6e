"""The errors of EC2, for clients, and those of oned.

Errors for clients are `EC2Error`, failures of calls to oned are `OpenNebulaError`. If an action does not convert the
latter itself, `econed.answers` does.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

MAX_MESSAGE: Final = 2000
"""Maximum number of characters in a message to a client; it may quote the request, which may be long."""


class EC2Error(Exception):
    """An error in Amazon EC2's wording, which is sent to the client unchanged.

    `code` is one of EC2's API error codes, `message` a sentence without internal details, `status` the HTTP status for
    the code (EC2 API Reference, "Error codes for the Amazon EC2 API").
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        message = message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class ScriptFailed(Exception):
    """A script of the administrator failed; its output is in the log.

    `was_killed` says that it did not exit by itself, so it may have done part of its work.
    """

    def __init__(self, how: str, *, was_killed: bool) -> None:
        super().__init__(how)
        self.was_killed = was_killed


class NotStorable(ValueError):
    """oned cannot store a text unchanged. `name` is the attribute for it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} cannot hold this text")
        self.name = name


class OpenNebulaCode(IntEnum):
    """The error codes of oned's XML-RPC API (OpenNebula, "XML-RPC API", error codes)."""

    AUTHENTICATION = 256
    AUTHORIZATION = 512
    NO_EXISTS = 1024
    ACTION = 2048
    XML_RPC_API = 4096
    INTERNAL = 8192
    ALLOCATE = 16384
    LOCKED = 32768
    REPLICATION = 65536


class XmlRpcFault(IntEnum):
    """The faults of oned's XML-RPC library for calls that it does not carry out (xmlrpc-c)."""

    NOT_COMPLETED = -500
    """Returned by 5.12 in place of some refusals."""
    WRONG_PARAMETERS = -501
    NOT_A_CALL = -503
    UNKNOWN_METHOD = -506


class OpenNebulaError(Exception):
    """A call to oned failed. `method` is the XML-RPC method."""

    def __init__(self, method: str, reason: str) -> None:
        super().__init__(method, reason)
        self.method = method
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.method}: {self.reason}"


class OpenNebulaRefusal(OpenNebulaError):
    """oned replied `[false, text, code]`, or with a fault: it did not carry out the call.

    `code` is oned's (`OpenNebulaCode` has the documented ones), or the negative number of an XML-RPC fault. The text
    differs between versions: decide by the code and by states, never by the text.
    """

    def __init__(self, method: str, code: int, reason: str) -> None:
        super().__init__(method, reason)
        self.code = code

    def __str__(self) -> str:
        return f"{self.method}: {self.reason} ({self.code})"

    @property
    def is_quota(self) -> bool:
        """Whether a quota is exceeded: oned returns the code of a missing right, or that of a wrong state for `resume`.

        Only the text differs.
        """
        return self.code in (OpenNebulaCode.AUTHORIZATION, OpenNebulaCode.ACTION) and " quota in " in self.reason


class ServerAccountRefused(OpenNebulaRefusal):
    """oned refuses the session of the server account: the daemon's credentials are wrong, not a user's."""


class OpenNebulaUnavailable(OpenNebulaError):
    """oned was unreachable, closed the connection, or did not reply in time. A changing call may have been carried out.

    `never_sent`: the call was certainly not carried out, because no connection was established to send it.
    """

    def __init__(self, method: str, reason: str, *, never_sent: bool = False) -> None:
        super().__init__(method, reason)
        self.never_sent = never_sent


class InvalidReply(OpenNebulaError):
    """The response was not a valid oned reply: from oned itself, or from another server at its address."""


class ReplyTooLarge(InvalidReply):
    """The response is longer than the limit. It was not read to its end; other calls are not affected."""


class MalformedDocument(InvalidReply):
    """oned replied with a document that is not well-formed: it does not escape all texts that users write."""
