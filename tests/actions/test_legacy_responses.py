"""The recorded responses of OpenNebula's own EC2 server on a real 5.12, compared with econed's to the same calls.

Every element of the recorded responses is still present, except those that docs/old-server.md lists with a reason.
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
from econed.services import EC2
from econed.wire.encoder import encode_error
from tests.support.cloud import Cloud, body_of

ROOT = Path(__file__).parents[2]
RECORDED = [json.loads(line) for line in (ROOT / "tests/data/legacy/answers.jsonl").read_text("utf-8").splitlines()]
ROW = re.compile(r"\| `(\w+)` \| `([\w/ ]+)` \| .+ \|")

ELASTIC_IPS = 1
"""The network of elastic IPs in the demo cloud."""


@dataclass(frozen=True)
class Replay:
    """A cloud on which the recorded calls are repeated, and its names for what they name."""

    cloud: Cloud
    addresses: dict[str, str]

    def response(self, action: str, params: dict[str, str]) -> tuple[int, bytes]:
        """Make a call as an old client sent it; return the status and the body."""
        call = self.cloud.call_as("alice")
        try:
            pairs = [(name, self.addresses.get(value, value)) for name, value in params.items()]
            body = self.cloud.result(body_of(call, action, pairs, version="2014-10-01"))
        except (EC2Error, OpenNebulaError) as error:
            ec2_error = failure(error, EC2).error
            return ec2_error.status, encode_error(EC2, ec2_error, "r")
        self.cloud.clock.pump([1] * 30)
        return 200, body


def leaves(body: str | bytes) -> Iterator[tuple[str, str]]:
    """Yield the path of each element that has a text, without the root element, and the text."""
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
    """Repeat all calls; return the action and path of the elements that are missing from a response of econed."""
    cloud = Cloud("5.12", settings=Settings(elasticips_vnet_id=ELASTIC_IPS))
    replay = Replay(cloud, {"opennebula": "default"})
    missing: set[tuple[str, str]] = set()
    for recorded in RECORDED:
        status, body = replay.response(recorded["action"], recorded["params"])
        before, after = dict(leaves(recorded["body"])), dict(leaves(body))
        if recorded["action"] == "AllocateAddress" and status == 200:
            replay.addresses[before["publicIp"]] = after["publicIp"]
        if status != recorded["status"]:
            missing.add((recorded["action"], f"status {recorded['status']}"))
        missing_paths = before.keys() - after.keys() - {"requestId", "RequestID"}
        missing |= {(recorded["action"], path) for path in missing_paths}
    return missing


def test_every_element_missing_from_a_response_has_a_row_in_the_table() -> None:
    table = (ROOT / "docs/old-server.md").read_text("utf-8").splitlines()
    rows = {(match[1], match[2]) for match in map(ROW.fullmatch, table) if match}
    assert differences() == rows
