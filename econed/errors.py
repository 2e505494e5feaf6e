"""What can go wrong, in the two languages spoken here: EC2's towards clients, oned's towards OpenNebula.

Everything that is meant for a client is an `EC2Error`; everything that oned answered, or failed to answer, is an
`OpenNebulaError`. The one place where the second becomes the first, for lack of anything better an action knows,
is `econed.answers`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

MAX_MESSAGE: Final = 2000
"""Characters of a message that a client gets; it may hold what the client sent, which may be as long as a request."""


class EC2Error(Exception):
    """An error as Amazon EC2 words it; the client gets it as it is.

    `code` is one of EC2's API error codes, `message` a sentence that shows nothing of the inside, `status` the HTTP
    status that goes with it (EC2 API Reference, "Error codes for the Amazon EC2 API").
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
    """A script of the administrator's did not do its work; what it printed is in the log.

    `broken_off` says that it did not come to its own end, so that part of its work may be done.
    """

    def __init__(self, how: str, *, broken_off: bool) -> None:
        super().__init__(how)
        self.broken_off = broken_off


class NotKeepable(ValueError):
    """A name or a text that oned would not keep as it is. `name` is the attribute that was to hold it."""

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
    """The faults with which oned's XML-RPC library answers what it does not carry out (xmlrpc-c)."""

    NOT_COMPLETED = -500
    """Of 5.12, in place of some refusals."""
    WRONG_PARAMETERS = -501
    NOT_A_CALL = -503
    UNKNOWN_METHOD = -506


class OpenNebulaError(Exception):
    """Anything that kept a call to oned from doing what was asked. `method` is oned's name of the call."""

    def __init__(self, method: str, reason: str) -> None:
        super().__init__(method, reason)
        self.method = method
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.method}: {self.reason}"


class OpenNebulaRefusal(OpenNebulaError):
    """oned answered `[false, text, code]`, or with a fault: it did not do it.

    `code` is oned's (`OpenNebulaCode` names those that are documented), or the negative number of an XML-RPC fault.
    The text differs between versions: decide by the code and by states, never by the text.
    """

    def __init__(self, method: str, code: int, reason: str) -> None:
        super().__init__(method, reason)
        self.code = code

    def __str__(self) -> str:
        return f"{self.method}: {self.reason} ({self.code})"

    @property
    def is_quota(self) -> bool:
        """Whether a quota is exhausted: oned gives it the code of a missing right, only the text tells."""
        return self.code == OpenNebulaCode.AUTHORIZATION and " quota in " in self.reason


class ServerAccountRefused(OpenNebulaRefusal):
    """oned does not take the session of the server account: the daemon's credentials are wrong, not a user's."""


class OpenNebulaUnavailable(OpenNebulaError):
    """oned could not be reached, broke off, or did not answer in time. A writing call may or may not have been done.

    `never_sent` says for certain that it was not: there was no connection over which the call could have gone.
    """

    def __init__(self, method: str, reason: str, *, never_sent: bool = False) -> None:
        super().__init__(method, reason)
        self.never_sent = never_sent


class InvalidReply(OpenNebulaError):
    """The response was not a valid oned reply: from oned itself, or from another server at its address."""


class ReplyTooLarge(InvalidReply):
    """The response is longer than the limit. It was not read to its end; other calls are not affected."""
