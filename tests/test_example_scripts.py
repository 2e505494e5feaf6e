"""The example scripts for elastic IPs, run with stubs in place of the firewall's commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

STUB = Path(__file__).parent / "support" / "firewall.py"
SCRIPTS = Path(__file__).parent.parent / "etc" / "elastic-ips"
TOOLS = ("sh", "dirname", "grep", "cat")
DOCUMENT = "PFZORVQ+PC9WTkVUPg=="
ELASTIC, OTHER = "203.0.113.10", "203.0.113.1"
PRIVATE, NEXT = "10.0.0.5", "10.0.0.6"


class Firewall:
    """A machine with one firewall command, of which the scripts find nothing else."""

    def __init__(self, path: Path, command: str) -> None:
        self.command = command
        self.said = ""
        self.state = path / "state"
        self.bin = path / "bin"
        self.bin.mkdir()
        stub = self.bin / command
        stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{STUB}" {command} "{self.state}" "$@"\n', "utf-8")
        stub.chmod(0o755)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)

    def run(self, script: str, *arguments: str) -> int:
        """Run a script as econed does, and return how it ended."""
        ended = subprocess.run(
            [SCRIPTS / script, *arguments, DOCUMENT],
            env={"PATH": str(self.bin)},
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
        self.said = ended.stderr.decode()
        return ended.returncode

    @property
    def leads(self) -> dict[str, str]:
        """Where elastic IPs lead, both ways."""
        kept = json.loads(self.state.read_text("utf-8")) if self.state.exists() else {"maps": {}, "rules": []}
        if self.command == "nft":
            there, back = (kept["maps"].get(name, {}) for name in ("to_private", "to_elastic"))
            assert not there or kept["rules"] == [
                "prerouting dnat to ip daddr map @to_private",
                "output dnat to ip daddr map @to_private",
                "postrouting snat to ip saddr map @to_elastic",
            ]
        else:
            words = [each.split() for each in kept["rules"]]
            there = {each[2].removesuffix("/32"): each[-1] for each in words if each[0] == "PREROUTING"}
            local = {each[2].removesuffix("/32"): each[-1] for each in words if each[0] == "OUTPUT"}
            back = {each[2].removesuffix("/32"): each[-1] for each in words if each[0] == "POSTROUTING"}
            assert there == local
            assert len(words) == 3 * len(there), "a rule for each way, and each once"
        assert {private: elastic for elastic, private in there.items()} == back
        return dict(there)


@pytest.fixture(params=["nft", "iptables"])
def firewall(request: pytest.FixtureRequest, tmp_path: Path) -> Firewall:
    """A machine with nftables, and one with iptables."""
    return Firewall(tmp_path, request.param)


def test_the_examples_can_be_run() -> None:
    assert all(os.access(SCRIPTS / name, os.X_OK) for name in ("associate", "disassociate"))


def test_an_address_is_led_there_and_away(firewall: Firewall) -> None:
    assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    assert firewall.leads == {ELASTIC: PRIVATE}
    assert firewall.run("disassociate", ELASTIC, PRIVATE) == 0
    assert firewall.leads == {}


def test_doing_it_twice_does_no_harm(firewall: Firewall) -> None:
    for _ in range(2):
        assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    assert firewall.leads == {ELASTIC: PRIVATE}
    for _ in range(2):
        assert firewall.run("disassociate", ELASTIC, PRIVATE) == 0
    assert firewall.leads == {}


def test_undoing_what_was_never_done_is_no_error(firewall: Firewall) -> None:
    assert firewall.run("disassociate", ELASTIC, PRIVATE) == 0
    assert firewall.run("disassociate", ELASTIC, "") == 0


def test_other_addresses_are_left_alone_also_those_that_begin_alike(firewall: Firewall) -> None:
    assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    assert firewall.run("associate", OTHER, NEXT) == 0
    assert firewall.run("disassociate", OTHER, NEXT) == 0
    assert firewall.leads == {ELASTIC: PRIVATE}


def test_an_address_that_is_associated_anew_leads_to_the_new_one_alone(firewall: Firewall) -> None:
    assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    assert firewall.run("associate", ELASTIC, NEXT) == 0
    assert firewall.leads == {ELASTIC: NEXT}


def test_without_a_private_address_all_that_the_firewall_knows_is_undone(firewall: Firewall) -> None:
    assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    assert firewall.run("associate", OTHER, NEXT) == 0
    assert firewall.run("disassociate", ELASTIC, "") == 0
    assert firewall.leads == {OTHER: NEXT}


NO_ADDRESSES = (
    "10.0.0.99 } ; flush ruleset ; {",
    "--help $(id)",
    "10.0.0.5\n",
    "10.0.0.5\n10.0.0.6",
    " 10.0.0.5",
    "10.0.0.256",
    "10.0.0.05",
    "010.0.0.5",
    "10.0.0",
    "10.0.0.5.6",
    "10..0.5",
    ".10.0.0.5",
    "10.0.0.5.",
    "10.0.0.5/8",
    "0x0a.0.0.5",
    "10.0.0.*",
    "10.0.0.[5]",
    "1e1.0.0.5",
    "fe80::1",
    "localhost",
    "\u0661.0.0.5",
    "-w",
)


@pytest.mark.parametrize("script", ["associate", "disassociate"])
def test_what_is_no_address_is_refused_and_nothing_is_done(firewall: Firewall, script: str) -> None:
    assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    before = firewall.state.read_text("utf-8")
    for text in NO_ADDRESSES:
        for arguments in ((text, PRIVATE), (ELASTIC, text)):
            assert firewall.run(script, *arguments) == 2, arguments
            assert "IPv4 addresses; nothing was done" in firewall.said
    assert firewall.state.read_text("utf-8") == before


def test_an_address_is_associated_with_an_address_only(firewall: Firewall) -> None:
    assert firewall.run("associate", ELASTIC, "") == 2
    assert firewall.run("associate", "", PRIVATE) == 2
    assert firewall.run("disassociate", "", "") == 2
    assert not firewall.state.exists()


@pytest.mark.parametrize("address", ["0.9.10.99", "100.199.200.249", "250.255.0.1"])
def test_every_address_is_taken(firewall: Firewall, address: str) -> None:
    assert firewall.run("associate", ELASTIC, address) == 0
    assert firewall.leads == {ELASTIC: address}
