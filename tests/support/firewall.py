"""A stand-in for `nft` and `iptables`: `firewall.py COMMAND STATE ARGUMENT…` keeps the rules in the file STATE."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

Rules = dict[str, Any]


def nft(state: Rules, arguments: list[str]) -> None:
    """Carry out the commands of nft that the scripts use: a transaction, and getting and deleting elements of maps."""
    if arguments == ["-f", "-"]:
        for line in sys.stdin.read().splitlines():
            _add(state, line.split())
        return
    elements, (key,) = _element(state, arguments[2:])
    if elements is None or key not in elements:
        sys.exit("No such file or directory")
    if arguments[:2] == ["get", "element"]:
        sys.stdout.write(f"map x {{\n elements = {{ {key} : {elements[key]} }}\n}}\n")
    elif arguments[:2] == ["delete", "element"]:
        del elements[key]


def _add(state: Rules, words: list[str]) -> None:
    if words[:2] == ["add", "map"]:
        state["maps"].setdefault(words[4], {})
    elif words[:2] == ["add", "element"]:
        elements, (key, value) = _element(state, words[2:])
        assert elements is not None
        if elements.setdefault(key, value) != value:
            sys.exit("File exists")
    elif words[:2] == ["flush", "chain"]:
        state["rules"] = [rule_text for rule_text in state["rules"] if rule_text.split()[0] != words[4]]
    elif words[:2] == ["add", "rule"]:
        state["rules"].append(" ".join(words[4:]))


def _element(state: Rules, words: list[str]) -> tuple[dict[str, str] | None, list[str]]:
    match = re.fullmatch(r"ip econed (\w+) \{ (.*) \}", " ".join(words))
    assert match is not None, words
    return state["maps"].get(match[1]), match[2].split(" : ")


def iptables(state: Rules, arguments: list[str]) -> None:
    """Carry out the commands of iptables that the scripts use: adding, listing and deleting rules of the table nat."""
    assert arguments[:3] == ["-w", "-t", "nat"], arguments
    command, *rule_words = arguments[3:]
    rule = " ".join(rule_words)
    if command == "-S":
        sys.stdout.writelines(
            f"{line}\n" for line in ("-P PREROUTING ACCEPT", *(f"-A {rule}" for rule in state["rules"]))
        )
    elif command in ("-A", "-I"):
        state["rules"].append(re.sub(r"(-[sd] [0-9.]+)(?= )", r"\1/32", rule))
    elif rule in state["rules"]:
        state["rules"].remove(rule)
    else:
        sys.exit("iptables: Bad rule (does a matching rule exist in that chain?).")


if __name__ == "__main__":
    state_path = Path(sys.argv[2])
    saved: Rules = json.loads(state_path.read_text("utf-8")) if state_path.exists() else {"maps": {}, "rules": []}
    {"nft": nft, "iptables": iptables}[sys.argv[1]](saved, sys.argv[3:])
    state_path.write_text(json.dumps(saved), "utf-8")
