"""Records what a real oned replies: `python -m tests.sandbox.record SCRIPT --oned URL --users FILE >RECORDING`.

SCRIPT has a call in each line, a JSON object: `scene`, a name for what is recorded; `as`, who calls
(`tests.sandbox.replay.Sessions`); `method` and `args`, without the session; for a read also `until`, a path of the
document and the texts of which one must be there: the read is repeated until it is; `waited`, seconds to wait before
the call. `{token#K}` in an argument is the K-th login token that the calls returned. FILE has NAME:PASSWORD of each
user in a line, always that of oneadmin, and that of serveradmin if it makes calls. The recording has the same lines,
each with the `reply`. The calls are made one after the other. Refused calls are recorded as well, but the recording
ends with an error if a read with `until` is refused.
"""

from __future__ import annotations

import json
import sys
import time
import xmlrpc.client
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lxml import etree

from tests.sandbox.replay import WAIT_AFTER_DELETE, Sessions, learn_token, with_tokens

INTERVAL, MAX_WAIT = 0.2, 120.0
"""Seconds between two reads of what is waited for, and for which it is waited at most."""

_LIFETIME = 3600


class RecordingError(Exception):
    """The recording cannot be completed."""


def recorded(
    script: Iterable[Mapping[str, Any]],
    url: str,
    passwords: Mapping[str, str],
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """Make the calls of a script at the oned at `url` and yield each with its reply.

    `passwords` are those of the users, serveradmin included. Raises `RecordingError` if a password is missing or
    oneadmin's is wrong, and for a read with `until` that is refused or does not reach the state in `MAX_WAIT`.
    """
    script = list(script)
    missing = ({"oneadmin"} | {_user_of(call["as"]) for call in script}) - passwords.keys()
    if missing:
        raise RecordingError(f"the file of the users has no line NAME:PASSWORD for {', '.join(sorted(missing))}")
    proxy = xmlrpc.client.ServerProxy(url)
    is_v7 = _is_v7(proxy, passwords["oneadmin"])
    sessions = Sessions(passwords, passwords.get("serveradmin", ""), int(now()) + _LIFETIME, is_v7)
    tokens: list[str] = []
    for call in script:
        if "waited" in call:
            sleep(call["waited"])
        session, args = sessions.of(call["as"], tokens), with_tokens(call["args"], tokens)
        reply = _reply(proxy, call["method"], session, args)
        deadline = now() + MAX_WAIT
        while not _has_state(call, reply):
            if now() > deadline:
                raise RecordingError(f"the state was not reached within {MAX_WAIT:.0f} s: {_line(call, reply)}")
            sleep(INTERVAL)
            reply = _reply(proxy, call["method"], session, args)
        learn_token(call["method"], reply, tokens)
        if call["method"] == "one.image.delete":
            sleep(WAIT_AFTER_DELETE)
        yield {**call, "reply": reply}


def _user_of(actor: str) -> str:
    """Return the user whose password the session of an actor needs (`tests.sandbox.replay.Sessions`)."""
    return actor.partition("/")[0].partition("~")[0]


def _is_v7(proxy: xmlrpc.client.ServerProxy, password: str) -> bool:
    call: dict[str, Any] = {"as": "oneadmin", "method": "one.system.version", "args": []}
    reply = _reply(proxy, call["method"], f"oneadmin:{password}", [])
    if not _is_success(reply):
        raise RecordingError(f"the version of oned cannot be read: {_line(call, reply)}")
    return not str(reply[1]).startswith("5")


def _reply(proxy: xmlrpc.client.ServerProxy, method: str, session: str, args: Sequence[Any]) -> Any:
    try:
        return getattr(proxy, method)(session, *args)
    except xmlrpc.client.Fault as fault:
        return {"fault": [fault.faultCode, fault.faultString]}
    finally:
        proxy("close")()


def _is_success(reply: Any) -> bool:
    return isinstance(reply, list) and reply[0] is True


def _has_state(call: Mapping[str, Any], reply: Any) -> bool:
    until = call.get("until")
    if until is None:
        return True
    if not _is_success(reply):
        raise RecordingError(f"a read with `until` was refused: {_line(call, reply)}")
    return etree.fromstring(str(reply[1]).encode()).findtext(until["path"]) in until["in"]


def _line(call: Mapping[str, Any], reply: Any) -> str:
    return json.dumps({**call, "reply": reply})


def main(arguments: list[str]) -> None:
    """Record, and print the recording."""
    parser = ArgumentParser(prog="python -m tests.sandbox.record", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("script", type=Path)
    parser.add_argument("--oned", required=True, metavar="URL")
    parser.add_argument("--users", required=True, type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    users = [line.partition(":") for line in options.users.read_text("utf-8").splitlines() if line]
    passwords = {name: password for name, _, password in users}
    script = [json.loads(line) for line in options.script.read_text("utf-8").splitlines()]
    try:
        for call in recorded(script, options.oned, passwords):
            sys.stdout.write(json.dumps(call) + "\n")
            sys.stdout.flush()
    except RecordingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
