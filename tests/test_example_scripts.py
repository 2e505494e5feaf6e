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
    """A PATH with a stub of one firewall command and the few tools that the scripts need."""

    def __init__(self, path: Path, command: str) -> None:
        self.command = command
        self.stderr = ""
        self.state = path / "state"
        self.bin = path / "bin"
        self.bin.mkdir()
        stub = self.bin / command
        stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{STUB}" {command} "{self.state}" "$@"\n', "utf-8")
        stub.chmod(0o755)
        for tool in TOOLS:
            path_of_tool = shutil.which(tool)
            assert path_of_tool is not None
            (self.bin / tool).symlink_to(path_of_tool)

    def run(self, script: str, *arguments: str) -> int:
        """Run a script as econed does, and return its exit status."""
        process = subprocess.run(
            [SCRIPTS / script, *arguments, DOCUMENT],
            env={"PATH": str(self.bin)},
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
        self.stderr = process.stderr.decode()
        return process.returncode

    @property
    def associations(self) -> dict[str, str]:
        """The private address of each elastic IP; checks that the rules of both directions agree."""
        rules = json.loads(self.state.read_text("utf-8")) if self.state.exists() else {"maps": {}, "rules": []}
        if self.command == "nft":
            inbound, outbound = (rules["maps"].get(name, {}) for name in ("to_private", "to_elastic"))
            assert not inbound or rules["rules"] == [
                "prerouting dnat to ip daddr map @to_private",
                "output dnat to ip daddr map @to_private",
                "postrouting snat to ip saddr map @to_elastic",
            ]
        else:
            words = [rule.split() for rule in rules["rules"]]
            inbound = {rule[2].removesuffix("/32"): rule[-1] for rule in words if rule[0] == "PREROUTING"}
            local = {rule[2].removesuffix("/32"): rule[-1] for rule in words if rule[0] == "OUTPUT"}
            outbound = {rule[2].removesuffix("/32"): rule[-1] for rule in words if rule[0] == "POSTROUTING"}
            assert inbound == local
            assert len(words) == 3 * len(inbound), "one rule in each chain"
        assert {private: elastic for elastic, private in inbound.items()} == outbound
        return dict(inbound)


@pytest.fixture(params=["nft", "iptables"])
def firewall(request: pytest.FixtureRequest, tmp_path: Path) -> Firewall:
    """A machine with nftables, or with iptables."""
    return Firewall(tmp_path, request.param)


def test_the_example_scripts_are_executable() -> None:
    assert all(os.access(SCRIPTS / name, os.X_OK) for name in ("associate", "disassociate"))


def test_an_address_is_associated_and_disassociated(firewall: Firewall) -> None:
    assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    assert firewall.associations == {ELASTIC: PRIVATE}
    assert firewall.run("disassociate", ELASTIC, PRIVATE) == 0
    assert firewall.associations == {}


def test_the_scripts_are_idempotent(firewall: Firewall) -> None:
    for _ in range(2):
        assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    assert firewall.associations == {ELASTIC: PRIVATE}
    for _ in range(2):
        assert firewall.run("disassociate", ELASTIC, PRIVATE) == 0
    assert firewall.associations == {}


def test_disassociating_an_address_that_is_not_associated_succeeds(firewall: Firewall) -> None:
    assert firewall.run("disassociate", ELASTIC, PRIVATE) == 0
    assert firewall.run("disassociate", ELASTIC, "") == 0


def test_addresses_with_a_common_prefix_are_not_changed(firewall: Firewall) -> None:
    assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    assert firewall.run("associate", OTHER, NEXT) == 0
    assert firewall.run("disassociate", OTHER, NEXT) == 0
    assert firewall.associations == {ELASTIC: PRIVATE}


def test_associating_an_associated_address_replaces_the_association(firewall: Firewall) -> None:
    assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    assert firewall.run("associate", ELASTIC, NEXT) == 0
    assert firewall.associations == {ELASTIC: NEXT}


def test_without_a_private_address_the_association_is_looked_up_in_the_firewall(firewall: Firewall) -> None:
    assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    assert firewall.run("associate", OTHER, NEXT) == 0
    assert firewall.run("disassociate", ELASTIC, "") == 0
    assert firewall.associations == {OTHER: NEXT}


INVALID_ADDRESSES = (
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
def test_invalid_addresses_are_refused_without_a_change(firewall: Firewall, script: str) -> None:
    assert firewall.run("associate", ELASTIC, PRIVATE) == 0
    before = firewall.state.read_text("utf-8")
    for text in INVALID_ADDRESSES:
        for arguments in ((text, PRIVATE), (ELASTIC, text)):
            assert firewall.run(script, *arguments) == 2, arguments
            assert "IPv4 addresses; nothing was done" in firewall.stderr
    assert firewall.state.read_text("utf-8") == before


def test_an_empty_address_is_refused(firewall: Firewall) -> None:
    assert firewall.run("associate", ELASTIC, "") == 2
    assert firewall.run("associate", "", PRIVATE) == 2
    assert firewall.run("disassociate", "", "") == 2
    assert not firewall.state.exists()


@pytest.mark.parametrize("address", ["0.9.10.99", "100.199.200.249", "250.255.0.1"])
def test_valid_addresses_are_accepted(firewall: Firewall, address: str) -> None:
    assert firewall.run("associate", ELASTIC, address) == 0
    assert firewall.associations == {ELASTIC: address}
