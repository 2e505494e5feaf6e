"""Replays a recording of real oned against a sandbox, over real XML-RPC, and reports the differences."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from lxml import etree
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import Clock
from twisted.web.server import Site
from twisted.web.xmlrpc import Fault, Proxy

from econed.opennebula.tokens import server_cipher_token
from econed.sandbox.oned import Oned
from econed.sandbox.server import SandboxResource

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
PASSWORDS = {"oneadmin": "opennebula", "alice": "alicepw", "bob": "bobpw", "carol": "carolpw", "nobody": "nothing"}
ADMINISTRATORS = ("oneadmin", "serveradmin")
"""Users whose passwords are not in the recording."""

BEGIN = 1_800_000_000
"""The time at which a replay starts, in epoch seconds."""

STEP, MAX_WAIT, TIME_BEFORE_WRITE = 0.005, 5.0, 0.008
"""Seconds by which the clock is advanced at a time, at most for a read, and before each write."""

CHANGING = ("STATE", "LCM_STATE", "CLONING_OPS", "TEMPLATE/SECURITY_GROUP_RULE/RANGE", "UPDATING_VMS/ID")
"""Elements that change with time: a read is repeated until they have the recorded values in the sandbox."""

WAIT_AFTER_DELETE = 2.0
"""Seconds that the recording waited after deleting an image."""


@dataclass(frozen=True)
class Call:
    """A line of a recording."""

    line: int
    scenario: str
    actor: str
    method: str
    args: Sequence[Any]
    reply: Any
    until: Mapping[str, Any] | None
    volatile: bool
    waited: float = 0.0
    """Seconds that the recording waited before the call."""

    def __str__(self) -> str:
        return f"line {self.line} ({self.scenario}) {self.actor}: {self.method}{self.args!r}"


def read(name: str) -> list[Call]:
    """Return the calls in a file of `RECORDINGS`, named without its extension: VERSION or VERSION-SUBJECT."""
    return read_file(RECORDINGS / f"{name}.jsonl")


def read_file(path: Path) -> list[Call]:
    """Return the calls in a recording, as `tests.sandbox.record` writes it."""
    with path.open(encoding="utf-8") as lines:
        parsed = [json.loads(line) for line in lines]
    return [
        Call(
            line,
            record["scene"],
            record["as"],
            record["method"],
            record["args"],
            record["reply"],
            record.get("until"),
            bool(record.get("volatile")),
            record.get("waited", 0.0),
        )
        for line, record in enumerate(parsed, 1)
    ]


def outcome(reply: Any) -> tuple[str, int]:
    """Return the outcome of a reply: ok, refused with a code, or a fault with a code."""
    if isinstance(reply, dict):
        return "fault", int(reply["fault"][0])
    return ("ok", 0) if reply[0] is True else ("refused", int(reply[2]))


def document(reply: Any) -> etree._Element | None:
    """Return the document in a reply, or None."""
    if isinstance(reply, list) and reply[0] is True and isinstance(reply[1], str) and reply[1].startswith("<"):
        return etree.fromstring(reply[1].encode())
    return None


_HISTORY_TIME = re.compile(r"HISTORY_RECORDS/HISTORY/[A-Z]+TIME$")
"""The paths of times in history records; a time is 0 until the event has happened."""


def leaves(root: etree._Element) -> Iterator[tuple[str, str]]:
    """Yield the path from the root and the text of every element without children.

    Times in history records are replaced by whether they are set.
    """

    def walk(element: etree._Element, path: str) -> Iterator[tuple[str, str]]:
        if len(element) == 0:
            text = element.text or ""
            yield path, "a time" if _HISTORY_TIME.search(path) and text != "0" else text
        for child in element:
            yield from walk(child, f"{path}/{child.tag}")

    yield from walk(root, str(root.tag))


def relate_expirations(root: etree._Element) -> None:
    """Replace times of login tokens by minutes since the first that ends of the same user; -1, for never, stays."""
    for user in root.iter("USER"):
        ends = [end for end in user.iterfind("LOGIN_TOKEN/EXPIRATION_TIME") if end.text != "-1"]
        first = min((int(end.text or 0) for end in ends), default=0)
        for end in ends:
            end.text = str(round((int(end.text or 0) - first) / 60))


def _states(root: etree._Element) -> Counter[tuple[str, str]]:
    """Return the elements of `CHANGING` of an object, or of all objects in a pool; of ids only how many there are."""
    return Counter(
        (path, "an id" if element.tag == "ID" else element.text or "")
        for parent in [root, *root]
        for path in CHANGING
        for element in parent.findall(path)
    )


@dataclass
class Differences:
    """The result of a replay: calls with different outcomes, and different elements.

    `compared` counts the recorded elements that were compared, by path.
    """

    outcomes: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)


class IdMapping:
    """Maps names and ids between the recording and the sandbox; here they are the same."""

    def remove_left_out(self, recorded: etree._Element) -> None:
        """Remove from a recorded document what calls created that are not in the recording."""

    def prepare(self, oned: Oned, clock: Clock) -> None:
        """Create objects that must exist before the first call."""

    def name(self, recorded: str) -> str:
        """Return the user name in the sandbox for a recorded name."""
        return recorded

    def arguments(self, call: Call) -> Sequence[Any]:
        """Return the arguments of a recorded call for the sandbox."""
        return call.args

    def learn(self, call: Call, value: Any) -> None:
        """Learn the id of the object that a call has created."""

    def recorded(self, leaf: tuple[str, str]) -> tuple[str, str]:
        """Return an element from the sandbox with recorded names and ids."""
        return leaf


@dataclass(frozen=True)
class Sessions:
    """The sessions of the actors of a recording.

    An actor is a user's name; `NAME/token#K` is the user with the K-th login token of the recording, `NAME/token` with
    the last, `serveradmin~NAME` serveradmin on behalf of the user, `serveradmin~NAME/other-iv` the same with the token
    of another version of oned. `name` maps recorded names of users; `expiry` of server tokens is in epoch seconds.
    """

    passwords: Mapping[str, str]
    server_password: str
    expiry: int
    is_v7: bool
    name: Callable[[str], str] = str

    def of(self, actor: str, tokens: Sequence[str]) -> str:
        """Return the session of an actor; `tokens` are the login tokens of the recording."""
        actor, _, credentials = actor.partition("/")
        server, tilde, target = actor.partition("~")
        if tilde:
            target = target if target == "serveradmin" else self.name(target)
            has_zero_iv = self.is_v7 if credentials == "other-iv" else not self.is_v7
            return server_cipher_token(self.server_password, target, self.expiry, has_zero_iv, server_user=server)
        name = actor if actor in ("oneadmin", "nobody") else self.name(actor)
        if not credentials:
            return f"{name}:{self.passwords[actor]}"
        _, _, number = credentials.partition("#")
        return f"{name}:{tokens[int(number or len(tokens)) - 1]}"


def learn_token(method: str, reply: Any, tokens: list[str]) -> None:
    """Append the token that a call returned to `tokens`; removing all tokens returns none."""
    if method == "one.user.login" and isinstance(reply, list) and reply[0] is True and reply[1]:
        tokens.append(str(reply[1]))


_TOKEN_MARK = re.compile(r"\{token#(\d+)\}")


def with_tokens(args: Sequence[Any], tokens: Sequence[str]) -> list[Any]:
    """Return arguments with the K-th of `tokens` in place of `{token#K}`."""

    def text(argument: str) -> str:
        return _TOKEN_MARK.sub(lambda mark: tokens[int(mark[1]) - 1], argument)

    return [text(argument) if isinstance(argument, str) else argument for argument in args]


class Replay:
    """A sandbox on a loopback port, to which recorded calls are sent one by one."""

    def __init__(self, version: str, mapping: IdMapping, *, ignored: Sequence[str]) -> None:
        self._clock = Clock()
        self._clock.advance(BEGIN)
        self._modern = not version.startswith("5")
        self._oned = Oned(
            self._clock, version=version, oneadmin="oneadmin:opennebula", serveradmin="serveradmin:secret"
        )
        self._mapping = mapping
        self._ignored = [re.compile(pattern) for pattern in ignored]
        self._tokens: list[str] = []
        self._recorded_tokens: list[str] = []
        self._has_failed_deployment = False
        mapping.prepare(self._oned, self._clock)

    async def run(self, calls: Sequence[Call]) -> Differences:
        """Replay all calls and return the differences."""
        site: Any = Site(SandboxResource(self._oned))
        port: Any = cast(IReactorTCP, reactor).listenTCP(0, site, interface="127.0.0.1")
        proxy = Proxy(b"http://127.0.0.1:%d/RPC2" % port.getHost().port, allowNone=False, connectTimeout=5.0)
        result = Differences()
        try:
            for call in calls:
                await self._replay(proxy, call, result)
        finally:
            await port.stopListening()
        return result

    async def _replay(self, proxy: Proxy, call: Call, result: Differences) -> None:
        self._clock.advance(call.waited)
        if document(call.reply) is None:
            self._clock.advance(TIME_BEFORE_WRITE)
        if call.scenario == "failures" and not self._has_failed_deployment:
            self._has_failed_deployment = True
            self._oned.fail_next_deployment()
        reply = await self._reply(proxy, call)
        if outcome(reply) != outcome(call.reply):
            result.outcomes.append(f"{call}\n    recorded {call.reply!r:.200}\n    sandbox  {reply!r:.200}")
        elif outcome(reply) == ("ok", 0):
            self._follow_up(call, reply)
            self._compare(call, reply, result)

    def _follow_up(self, call: Call, reply: Any) -> None:
        self._mapping.learn(call, reply[1])
        learn_token(call.method, call.reply, self._recorded_tokens)
        learn_token(call.method, reply, self._tokens)
        if call.method == "one.image.delete":
            self._clock.advance(WAIT_AFTER_DELETE)

    async def _reply(self, proxy: Proxy, call: Call) -> Any:
        """Make a call; repeat a read, advancing the clock, until the reply has the recorded states.

        The reads in between are made without the socket, which takes most of the time of a call.
        """
        reply = await self._send(proxy, call)
        if self._has_recorded_states(call, reply):
            return reply
        waited = 0.0
        while waited < MAX_WAIT:
            self._clock.advance(STEP)
            waited += STEP
            if self._has_recorded_states(call, self._oned.execute(call.method, *self._params(call))):
                break
        return await self._send(proxy, call)

    def _has_recorded_states(self, call: Call, reply: Any) -> bool:
        recorded, replayed = document(call.reply), document(reply)
        if recorded is None or replayed is None:
            return True
        self._mapping.remove_left_out(recorded)
        if _states(recorded) != _states(replayed):
            return False
        message = "USER_TEMPLATE/SCHED_MESSAGE"
        is_pending = recorded.tag == "VM" and recorded.findtext("STATE") == "1"
        return not is_pending or (recorded.find(message) is None) == (replayed.find(message) is None)

    def _params(self, call: Call) -> list[Any]:
        args = with_tokens(self._mapping.arguments(call), self._tokens)
        if call.volatile and call.method == "one.vmpool.accounting":
            args[1] = BEGIN
        return [self._session(call.actor), *args]

    async def _send(self, proxy: Proxy, call: Call) -> Any:
        try:
            return list(await proxy.callRemote(call.method, *self._params(call)))
        except Fault as fault:
            return {"fault": [fault.faultCode, fault.faultString]}

    def _session(self, actor: str) -> str:
        return Sessions(PASSWORDS, "secret", BEGIN + 86_400, self._modern, self._mapping.name).of(actor, self._tokens)

    def _compare(self, call: Call, reply: Any, result: Differences) -> None:
        recorded, replayed = document(call.reply), document(reply)
        if recorded is None or replayed is None:
            return
        if recorded.findtext("NAME") in ADMINISTRATORS:
            for password in recorded.findall("PASSWORD") + replayed.findall("PASSWORD"):
                password.text = ""
        self._mapping.remove_left_out(recorded)
        relate_expirations(recorded)
        relate_expirations(replayed)
        theirs = Counter(leaf for leaf in leaves(recorded) if not self._is_ignored(leaf[0]))
        ours = Counter(leaf for leaf in map(self._recorded, leaves(replayed)) if not self._is_ignored(leaf[0]))
        for (path, _), count in theirs.items():
            result.compared[path] += count
        for source, only in (("recorded", theirs - ours), ("sandbox ", ours - theirs)):
            for path, value in sorted(only):
                result.elements.append(f"{call.line} {call.method} {source} {path}={value!r:.120}")

    def _recorded(self, leaf: tuple[str, str]) -> tuple[str, str]:
        path, value = leaf
        if path.endswith("/LOGIN_TOKEN/TOKEN") and value in self._tokens:
            return path, self._recorded_tokens[self._tokens.index(value)]
        return self._mapping.recorded(leaf)

    def _is_ignored(self, path: str) -> bool:
        return any(pattern.search(path) for pattern in self._ignored)
