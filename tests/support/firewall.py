"""A stand-in for `nft` and `iptables`: `firewall.py COMMAND STATE ARGUMENT…`, which keeps in a file what it is told."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

Kept = dict[str, Any]


def nft(kept: Kept, arguments: list[str]) -> None:
    """Carry out what the scripts ask of nft: a transaction, and looking for and deleting elements of maps."""
    if arguments == ["-f", "-"]:
        for line in sys.stdin.read().splitlines():
            _add(kept, line.split())
        return
    found, (key,) = _element(kept, arguments[2:])
    if found is None or key not in found:
        sys.exit("No such file or directory")
    if arguments[:2] == ["get", "element"]:
        sys.stdout.write(f"map x {{\n elements = {{ {key} : {found[key]} }}\n}}\n")
    elif arguments[:2] == ["delete", "element"]:
        del found[key]


def _add(kept: Kept, words: list[str]) -> None:
    if words[:2] == ["add", "map"]:
        kept["maps"].setdefault(words[4], {})
    elif words[:2] == ["add", "element"]:
        found, (key, value) = _element(kept, words[2:])
        assert found is not None
        if found.setdefault(key, value) != value:
            sys.exit("File exists")
    elif words[:2] == ["flush", "chain"]:
        kept["rules"] = [each for each in kept["rules"] if each.split()[0] != words[4]]
    elif words[:2] == ["add", "rule"]:
        kept["rules"].append(" ".join(words[4:]))


def _element(kept: Kept, words: list[str]) -> tuple[dict[str, str] | None, list[str]]:
    match = re.fullmatch(r"ip econed (\w+) \{ (.*) \}", " ".join(words))
    assert match is not None, words
    return kept["maps"].get(match[1]), match[2].split(" : ")


def iptables(kept: Kept, arguments: list[str]) -> None:
    """Carry out what the scripts ask of iptables: adding, listing and deleting rules of the table nat."""
    assert arguments[:3] == ["-w", "-t", "nat"], arguments
    command, *rest = arguments[3:]
    rule = " ".join(rest)
    if command == "-S":
        sys.stdout.writelines(
            f"{each}\n" for each in ("-P PREROUTING ACCEPT", *(f"-A {rule}" for rule in kept["rules"]))
        )
    elif command in ("-A", "-I"):
        kept["rules"].append(re.sub(r"(-[sd] [0-9.]+)(?= )", r"\1/32", rule))
    elif rule in kept["rules"]:
        kept["rules"].remove(rule)
    else:
        sys.exit("iptables: Bad rule (does a matching rule exist in that chain?).")


if __name__ == "__main__":
    state = Path(sys.argv[2])
    known: Kept = json.loads(state.read_text("utf-8")) if state.exists() else {"maps": {}, "rules": []}
    {"nft": nft, "iptables": iptables}[sys.argv[1]](known, sys.argv[3:])
    state.write_text(json.dumps(known), "utf-8")
