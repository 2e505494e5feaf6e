"""The audit log: a JSON object in one line for each call that changed something or was refused (econe.conf, audit_log).

It has no parameters of requests but the ids in them, and the names that users give sessions of roles (RoleSessionName),
from which secrets are removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from twisted.internet.interfaces import IReactorTime

from econed.ids import is_resource_id
from econed.telemetry.access_log import claimed_action, claimed_key
from econed.telemetry.log_lines import cut, redacted, safe_message, utc_time
from econed.telemetry.log_targets import AppendedFile, FallbackTarget
from econed.user import Sender

_MAX_TEXT = 1024
_MAX_NAMES = 20
"""Names of key pairs in a line: a name may be as long as a request, with characters that take six bytes in JSON."""

_MAX_NAME = 255
"""Characters of EC2's names of key pairs."""

_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", re.ASCII)
_ACCESS_KEY = re.compile(r"A[KS]IA[A-Z2-7]{16}", re.ASCII)
_KEY_NAME = re.compile(r"KeyName(?:\.[0-9]+)?", re.ASCII)


class AuditLog:
    """The file of the audit log, to which several processes append whole lines.

    Lines that cannot be written go to standard error, as those of the log do (`FallbackTarget`).
    """

    def __init__(self, path: str, clock: IReactorTime) -> None:
        """Append to the file at `path`; `clock` gives the time in seconds since the epoch."""
        self._clock = clock
        self._target = FallbackTarget(AppendedFile(path), lambda message: self._line({"audit_log": message}))
        self._target.reopen()

    def write(self, fields: Mapping[str, object]) -> None:
        """Write a line with the time and these fields."""
        self._target.write(self._line(fields))

    def reopen(self) -> None:
        """Open a new file, after the current one has been renamed (logrotate)."""
        self._target.reopen()

    def _line(self, fields: Mapping[str, object]) -> bytes:
        return json.dumps({"time": utc_time(self._clock.seconds()), **fields}).encode("ascii") + b"\n"


class CallAudit:
    """The audit of one request, which writes one line at most; without a `log` it does nothing.

    `source` is the address of the client.
    """

    def __init__(self, log: AuditLog | None, source: str, request_id: str) -> None:
        self._log = log
        self._source = source
        self._request_id = request_id
        self._sender: Sender | None = None
        self._action = ""
        self._ids: tuple[str, ...] = ()

    def begin(self, sender: Sender, action: str) -> None:
        """Record who has sent the request, and for which action."""
        if self._log is not None:
            self._sender, self._action = sender, action

    def name(self, parameters: Iterable[tuple[str, str]]) -> None:
        """Record the resources that the request names; not for requests beyond a limit: their lines are short."""
        if self._log is not None:
            self._ids = tuple(dict.fromkeys(_named(parameters)))

    def succeeded(self, result: object) -> None:
        """Write the line of a change that was carried out, with the further ids in its result."""
        if self._log is not None:
            self._write("ok", "", tuple(found for found in dict.fromkeys(_ids_in(result)) if found not in self._ids))

    def failed(self, code: str, cause: BaseException | None) -> None:
        """Write the line of a call that ended with an EC2 error; `cause` is the exception behind it, if any.

        Without an authenticated sender nothing is written (see `not_authenticated`).
        """
        self._write(code, "" if cause is None else safe_message(cause), ())

    def not_authenticated(self, action: str, key: str, code: str, reason: str) -> None:
        """Write the line of a request whose sender claimed a key and was not authenticated."""
        if self._log is not None and key:
            self._log.write(self._fields("", None, claimed_key(key), "", action, code, reason))

    def _write(self, outcome: str, reason: str, result_ids: tuple[str, ...]) -> None:
        log, sender = self._log, self._sender
        if log is None or sender is None:
            return
        self._log = None
        user, credential = sender.user, sender.credential
        key, kind = cut(sender.key, _MAX_TEXT), credential.kind.value
        fields = self._fields(user.name, user.id, key, kind, self._action, outcome, reason)
        role = {"role": credential.role or "", "session_name": redacted(credential.session_name or "")}
        log.write(fields | role | {"ids": self._ids, "result_ids": result_ids})

    def _fields(
        self, user: str, user_id: int | None, key: str, credential: str, action: str, outcome: str, reason: str
    ) -> dict[str, object]:
        return {
            "user": user,
            "user_id": user_id,
            "key": key,
            "credential": credential,
            "role": "",
            "session_name": "",
            "source": self._source,
            "action": claimed_action(action),
            "outcome": outcome,
            "reason": cut(reason, _MAX_TEXT),
            "request_id": self._request_id,
            "ids": (),
            "result_ids": (),
        }


def _named(parameters: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the ids, also of access keys, the elastic IPs and the names of key pairs in the parameters of a request."""
    names = 0
    for name, value in parameters:
        if is_resource_id(value) or (name == "PublicIp" and _ADDRESS.fullmatch(value)) or _ACCESS_KEY.fullmatch(value):
            yield value
        elif _KEY_NAME.fullmatch(name) and names < _MAX_NAMES:
            names += 1
            yield cut(redacted(value), _MAX_NAME)


def _ids_in(value: object) -> Iterator[str]:
    """Yield the ids, elastic IPs and ARNs of assumed roles in a result."""
    match value:
        case str() if is_resource_id(value) or _ACCESS_KEY.fullmatch(value):
            yield value
        case Mapping():
            if isinstance(address := value.get("PublicIp"), str):
                yield address
            if isinstance(role := value.get("AssumedRoleUser"), Mapping):
                yield redacted(str(role["Arn"]))
            yield from chain.from_iterable(map(_ids_in, value.values()))
        case list() | tuple():
            yield from chain.from_iterable(map(_ids_in, value))
