"""Replays a recording of real oned against a sandbox, over real XML-RPC, and tells where the two differ."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
"""Whose passwords the recording does not tell."""

BEGIN = 1_800_000_000
"""The time at which a replay begins, in epoch seconds."""

STEP, PATIENCE, BETWEEN_WRITES = 0.005, 5.0, 0.008
"""In seconds: how far the clock goes at a time, how far at most for one reading, and before each writing call."""

PROGRESS = ("STATE", "LCM_STATE", "CLONING_OPS", "TEMPLATE/SECURITY_GROUP_RULE/RANGE")
"""What changes by itself: a reading is repeated, the clock going on, until the sandbox shows what was recorded."""

WAIT_AFTER_DELETE = 2.0
"""Seconds that the recording waited after deleting an image."""


@dataclass(frozen=True)
class Call:
    """One line of a recording."""

    line: int
    scene: str
    actor: str
    method: str
    args: Sequence[Any]
    reply: Any
    until: Mapping[str, Any] | None
    volatile: bool

    def __str__(self) -> str:
        return f"line {self.line} ({self.scene}) {self.actor}: {self.method}{self.args!r}"


def read(version: str) -> list[Call]:
    """Return the calls of a recording."""
    with (RECORDINGS / f"{version}.jsonl").open(encoding="utf-8") as lines:
        parsed = [json.loads(line) for line in lines]
    return [
        Call(
            number,
            record["scene"],
            record["as"],
            record["method"],
            record["args"],
            record["reply"],
            record.get("until"),
            bool(record.get("volatile")),
        )
        for number, record in enumerate(parsed, 1)
    ]


def outcome(reply: Any) -> tuple[str, int]:
    """Return what a reply comes to: ok, refused with a code, or a fault with a number."""
    if isinstance(reply, dict):
        return "fault", int(reply["fault"][0])
    return ("ok", 0) if reply[0] is True else ("refused", int(reply[2]))


def document(reply: Any) -> etree._Element | None:
    """Return the document that a reply carries, or None."""
    if isinstance(reply, list) and reply[0] is True and isinstance(reply[1], str) and reply[1].startswith("<"):
        return etree.fromstring(reply[1].encode())
    return None


RECORDED_MOMENT = re.compile(r"HISTORY_RECORDS/HISTORY/[A-Z]+TIME$")
"""When something happened in a record of a machine, or 0 where it has not."""


def leaves(root: etree._Element) -> Iterator[tuple[str, str]]:
    """Yield every element without children: its path from the root, and its text.

    Of the moments in a machine's records there is only whether they have come.
    """

    def walk(element: etree._Element, path: str) -> Iterator[tuple[str, str]]:
        if len(element) == 0:
            text = element.text or ""
            yield path, "a moment" if RECORDED_MOMENT.search(path) and text != "0" else text
        for child in element:
            yield from walk(child, f"{path}/{child.tag}")

    yield from walk(root, str(root.tag))


def _states(root: etree._Element) -> Counter[tuple[str, str]]:
    """Return what changes by itself of the objects in a document, in a pool of all of them."""
    return Counter(
        (path, found.text or "") for element in [root, *root] for path in PROGRESS for found in element.findall(path)
    )


@dataclass
class Replayed:
    """What came of a replay: where outcomes differ, and where elements do (with how often, by path).

    `seen` counts the recorded elements that were compared, by path.
    """

    outcomes: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    paths: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def compared(self) -> int:
        """How many elements were compared."""
        return self.seen.total()


class IdMapping:
    """How the sandbox of a replay differs from the recorded cloud: not at all, here."""

    def prepare(self, oned: Oned, clock: Clock) -> None:
        """Make what must be there before the first call."""

    def name(self, recorded: str) -> str:
        """Return the user name in place of a recorded one."""
        return recorded

    def arguments(self, call: Call) -> Sequence[Any]:
        """Return the arguments in place of the recorded ones."""
        return call.args

    def learn(self, call: Call, value: Any) -> None:
        """Take note of what an allocating call returned."""

    def recorded(self, leaf: tuple[str, str]) -> tuple[str, str]:
        """Return an element of the sandbox's as it is in the recording."""
        return leaf


class Replay:
    """A sandbox on a loopback port, driven call by call."""

    def __init__(self, version: str, mapping: IdMapping, *, ignored: Sequence[str]) -> None:
        self._clock = Clock()
        self._clock.advance(BEGIN)
        self._modern = version.startswith("7")
        self._oned = Oned(
            self._clock, version=version, oneadmin="oneadmin:opennebula", serveradmin="serveradmin:secret"
        )
        self._mapping = mapping
        self._ignored = [re.compile(pattern) for pattern in ignored]
        self._token = ""
        self._failing = False
        mapping.prepare(self._oned, self._clock)

    async def run(self, calls: Sequence[Call]) -> Replayed:
        """Replay all calls; the port is closed afterwards."""
        site: Any = Site(SandboxResource(self._oned))
        port: Any = cast(IReactorTCP, reactor).listenTCP(0, site, interface="127.0.0.1")
        proxy = Proxy(b"http://127.0.0.1:%d/RPC2" % port.getHost().port, allowNone=False, connectTimeout=5.0)
        result = Replayed()
        try:
            for call in calls:
                await self._one(proxy, call, result)
        finally:
            await port.stopListening()
        return result

    async def _one(self, proxy: Proxy, call: Call, result: Replayed) -> None:
        if document(call.reply) is None:
            self._clock.advance(BETWEEN_WRITES)
        if call.scene == "failures" and not self._failing:
            self._failing = True
            self._oned.fail_next_deployment()
        reply = await self._settled(proxy, call)
        if outcome(reply) != outcome(call.reply):
            result.outcomes.append(f"{call}\n    recorded {call.reply!r:.200}\n    sandbox  {reply!r:.200}")
        elif outcome(reply) == ("ok", 0):
            self._after(call, reply)
            self._compare(call, reply, result)

    def _after(self, call: Call, reply: Any) -> None:
        self._mapping.learn(call, reply[1])
        if call.method == "one.user.login":
            self._token = str(reply[1])
        if call.method == "one.image.delete":
            self._clock.advance(WAIT_AFTER_DELETE)

    async def _settled(self, proxy: Proxy, call: Call) -> Any:
        """Make a call; repeat a reading, the clock going on, until it shows the state that was recorded."""
        reply = await self._made(proxy, call)
        waited = 0.0
        while waited < PATIENCE and not self._is_then(call, reply):
            self._clock.advance(STEP)
            waited += STEP
            reply = await self._made(proxy, call)
        return reply

    def _is_then(self, call: Call, reply: Any) -> bool:
        wanted, found = document(call.reply), document(reply)
        if wanted is None or found is None or call.volatile:
            return True
        if _states(wanted) != _states(found):
            return False
        message = "USER_TEMPLATE/SCHED_MESSAGE"
        pending = wanted.tag == "VM" and wanted.findtext("STATE") == "1"
        return not pending or (wanted.find(message) is None) == (found.find(message) is None)

    async def _made(self, proxy: Proxy, call: Call) -> Any:
        args = list(self._mapping.arguments(call))
        if call.volatile and call.method == "one.vmpool.accounting":
            args[1] = BEGIN
        try:
            return list(await proxy.callRemote(call.method, self._session(call.actor), *args))
        except Fault as fault:
            return {"fault": [fault.faultCode, fault.faultString]}

    def _session(self, actor: str) -> str:
        actor, _, how = actor.partition("/")
        server, tilde, target = actor.partition("~")
        if tilde:
            target = target if target == "serveradmin" else self._mapping.name(target)
            zero_iv = self._modern if how == "other-iv" else not self._modern
            return server_cipher_token("secret", target, BEGIN + 86_400, zero_iv, server_user=server)
        name = self._mapping.name(actor) if actor not in ("oneadmin", "nobody") else actor
        return f"{name}:{self._token if how == 'token' else PASSWORDS[actor]}"

    def _compare(self, call: Call, reply: Any, result: Replayed) -> None:
        wanted, found = document(call.reply), document(reply)
        if wanted is None or found is None:
            return
        if wanted.findtext("NAME") in ADMINISTRATORS:
            for password in wanted.findall("PASSWORD") + found.findall("PASSWORD"):
                password.text = ""
        theirs = Counter(leaf for leaf in leaves(wanted) if not self._is_ignored(leaf[0]))
        ours = Counter(leaf for leaf in map(self._mapping.recorded, leaves(found)) if not self._is_ignored(leaf[0]))
        for (path, _), count in theirs.items():
            result.seen[path] += count
        for sign, only in (("recorded", theirs - ours), ("sandbox ", ours - theirs)):
            for (path, value), count in sorted(only.items()):
                result.paths[path] += count
                result.elements.append(f"{call.line} {call.method} {sign} {path}={value!r:.120}")

    def _is_ignored(self, path: str) -> bool:
        return any(pattern.search(path) for pattern in self._ignored)
