"""What OpenNebula's own EC2 server answered on a real 5.12, and what is answered to the same calls now.

Every element of the old answers is there still, but for those that docs/old-server.md lists, each with its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree

from econed.answers import failure
from econed.config.settings import Settings
from econed.errors import EC2Error, OpenNebulaError
from econed.wire.encoder import encode_error
from tests.support.cloud import Cloud, body_of

ROOT = Path(__file__).parents[2]
ANSWERS = [json.loads(line) for line in (ROOT / "tests/data/legacy/answers.jsonl").read_text("utf-8").splitlines()]
ROW = re.compile(r"\| `(\w+)` \| `([\w/ ]+)` \| .+ \|")

ELASTIC_IPS = 1
"""The network of elastic IPs in the demo cloud."""


@dataclass(frozen=True)
class Now:
    """The cloud on which the old calls are made again, and how what they name is called there."""

    cloud: Cloud
    addresses: dict[str, str]

    def answer(self, action: str, params: dict[str, str]) -> tuple[int, bytes]:
        """Make a call as an old client wrote it; return the status and the body."""
        call = self.cloud.call_as("alice")
        try:
            pairs = [(name, self.addresses.get(value, value)) for name, value in params.items()]
            body = self.cloud.result(body_of(call, action, pairs, version="2014-10-01"))
        except (EC2Error, OpenNebulaError) as error:
            told = failure(error).error
            return told.status, encode_error(told.code, told.message, "r")
        self.cloud.clock.pump([1] * 30)
        return 200, body


def leaves(body: str | bytes) -> Iterator[tuple[str, str]]:
    """Yield the path of each element that has a text, without the answer's own name, and the text."""
    root = etree.fromstring(body.encode() if isinstance(body, str) else body)

    def below(element: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for child in element:
            name = (*path, etree.QName(child).localname)
            if len(child):
                yield from below(child, name)
            elif child.text:
                yield "/".join(name), child.text

    return below(root, ())


def differences() -> set[tuple[str, str]]:
    """Make all calls again; return the elements with a text that were in an old answer and are not in ours."""
    cloud = Cloud("5.12", settings=Settings(elasticips_vnet_id=ELASTIC_IPS))
    now = Now(cloud, {"opennebula": "default"})
    found: set[tuple[str, str]] = set()
    for old in ANSWERS:
        status, body = now.answer(old["action"], old["params"])
        before, after = dict(leaves(old["body"])), dict(leaves(body))
        if old["action"] == "AllocateAddress" and status == 200:
            now.addresses[before["publicIp"]] = after["publicIp"]
        if status != old["status"]:
            found.add((old["action"], f"status {old['status']}"))
        gone = before.keys() - after.keys() - {"requestId", "RequestID"}
        found |= {(old["action"], path) for path in gone}
    return found


def test_every_element_missing_from_a_response_has_a_row_in_the_table() -> None:
    table = (ROOT / "docs/old-server.md").read_text("utf-8").splitlines()
    rows = {(match[1], match[2]) for match in map(ROW.fullmatch, table) if match}
    assert differences() == rows
