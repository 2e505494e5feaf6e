"""Machines are recognized by the bytes of their documents; whatever users write, no other machine comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from econed.errors import InvalidReply, OpenNebulaRefusal
from econed.opennebula import unchanged_machines
from econed.opennebula.replies import parse_document
from econed.opennebula.unchanged_machines import MachineParser, MachineReply
from econed.sandbox.server import reply_body

METHOD = "one.vmpool.infoextended"
RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"


@dataclass(frozen=True)
class Remembered:
    """The knowledge about a machine."""

    id: int
    fingerprint: bytes


def machine(machine_id: int, text: str = "text") -> str:
    """Return the document of a machine with an attribute that its user wrote."""
    return f"<VM><ID>{machine_id}</ID><UID>2</UID><USER_TEMPLATE><A><![CDATA[{text}]]></A></USER_TEMPLATE></VM>"


def reply(*machines: str) -> bytes:
    """Return the reply with these machines, as oned writes it."""
    return reply_body([True, f"<VM_POOL>{''.join(machines)}</VM_POOL>", 0])


def parsed(body: bytes, known: Mapping[int, Remembered] | None = None) -> MachineReply[Remembered]:
    return MachineParser((known or {}).get)(METHOD, body)


def learned(*bodies: bytes) -> dict[int, Remembered]:
    """Return the knowledge about the machines in some replies."""
    elements = [element for body in bodies for element in parsed(body).others]
    machines = [Remembered(int(element.findtext("ID", "")), fingerprint) for element, fingerprint in elements]
    return {machine.id: machine for machine in machines if machine.fingerprint}


def ids(machines: MachineReply[Remembered]) -> tuple[list[int], list[int]]:
    """Return the ids of the machines that are unchanged, and of the others."""
    others = [int(element.findtext("ID", "")) for element, _ in machines.others]
    return [known.id for known in machines.unchanged], others


def test_machines_whose_documents_are_the_same_are_not_parsed() -> None:
    known = learned(reply(machine(1), machine(2), machine(3)))
    assert set(known) == {1, 2, 3}
    assert ids(parsed(reply(machine(3), machine(2, "changed"), machine(1), machine(4)), known)) == ([3, 1], [2, 4])
    assert ids(parsed(reply(machine(3), machine(1)), known)) == ([3, 1], [])


def test_a_changed_machine_is_parsed_as_it_is_in_the_whole_reply() -> None:
    known = learned(reply(machine(1), machine(2)))
    body = reply(machine(1), machine(2, "é & <b>\r\n"), machine(3, "&lt;"))
    whole = [etree.tostring(element) for element in parse_document(METHOD, body).iterchildren("VM")][1:]
    assert [etree.tostring(element) for element, _ in parsed(body, known).others] == whole


def test_the_knowledge_about_one_machine_is_not_used_for_another() -> None:
    (known,) = learned(reply(machine(1))).values()
    assert ids(parsed(reply(machine(1), machine(2)), {2: known})) == ([], [1, 2])


def test_an_empty_pool_has_no_machines() -> None:
    assert ids(parsed(reply())) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "</VM><VM><ID>7</ID><UID>0</UID>",
        "</A></USER_TEMPLATE></VM><VM><ID>7</ID><UID>0</UID><USER_TEMPLATE><A>",
        "</VM> <VM><ID>7</ID>",
        "<![CDATA[",
        "<![CDATA[</VM><VM><ID>7</ID>",
        "</VM></VM_POOL>",
        "&lt;/VM&gt;&lt;VM&gt;&lt;ID&gt;7",
        "]]&gt;</VM><VM><ID>7</ID>",
    ],
)
def test_no_text_of_a_user_becomes_a_machine(text: str) -> None:
    """Neither at first sight, nor beside machines that are known, nor if the user's machine was read before."""
    hostile = reply(machine(1), machine(2, text), machine(3))
    for known in ({}, learned(reply(machine(1), machine(3))), learned(hostile)):
        unchanged, others = ids(parsed(hostile, known))
        assert sorted(unchanged + others) == [1, 2, 3]
        elements = {int(element.findtext("ID", "")): element for element, _ in parsed(hostile, known).others}
        if 2 in elements:
            assert elements[2].findtext("USER_TEMPLATE/A") == text


def test_a_copy_of_a_known_machine_in_a_text_is_not_that_machine() -> None:
    copy = "<ID>7</ID><UID>0</UID>"
    known = learned(reply(f"<VM>{copy}</VM>"))
    assert set(known) == {7}
    assert ids(parsed(reply(machine(1), machine(2, f"</VM><VM>{copy}</VM><VM><ID>9</ID>")), known)) == ([], [1, 2])


@pytest.mark.parametrize("piece", ["</VM><VM><ID>7</ID>", "</VM><VM><ID>" + "a" * 20, "</VM><VM><ID>" + "7" * 20])
def test_boundaries_that_a_user_writes_cost_little(monkeypatch: pytest.MonkeyPatch, piece: str) -> None:
    """After the first, no further part is looked at."""
    hashed: list[int] = []

    def counting_sha256(text: memoryview) -> Any:
        hashed.append(len(text))
        return sha256(text)

    monkeypatch.setattr(unchanged_machines, "sha256", counting_sha256)
    assert ids(parsed(reply(machine(1), machine(2, piece * 10_000), machine(3)))) == ([], [1, 2, 3])
    assert len(hashed) <= 3


def test_boundaries_after_one_that_a_user_wrote_are_not_searched_for() -> None:
    """A list of them all could take ten times the memory of the reply."""
    found: list[int] = []

    class CountingBytes(bytes):
        def find(self, *args: Any) -> int:
            found.append(super().find(*args))
            return found[-1]

    body = CountingBytes(reply(machine(1), machine(2, "</VM><VM><ID>7</ID>" * 1000), machine(3)))
    assert ids(parsed(body)) == ([], [1, 2, 3])
    assert len(found) < 10


def test_attributes_that_look_like_machines_are_none_and_cause_no_second_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attribute of a user may have the name VM and a member ID."""
    attributes = "".join(f"<VM><ID><![CDATA[{value}]]></ID></VM>" for value in range(7, 9))
    hostile = reply(machine(1), f"<VM><ID>2</ID><USER_TEMPLATE>{attributes}</USER_TEMPLATE></VM>")
    parses: list[bytes] = []

    def counting_parse(method: str, body: bytes) -> Any:
        parses.append(body)
        return parse_document(method, body)

    monkeypatch.setattr(unchanged_machines, "parse_document", counting_parse)
    assert ids(parsed(hostile, learned(reply(machine(1), machine(7), machine(8))))) == ([], [1, 2])
    assert len(parses) == 2


TEXTS = st.lists(
    st.sampled_from(["</VM>", "<VM>", "<ID>", "7", "</ID>", "<![CDATA[", "]]", "&gt;", "&lt;", "</A>", "x", "<", "é"]),
    max_size=8,
).map("".join)


@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(TEXTS, min_size=1, max_size=4))
def test_what_is_known_never_changes_which_machines_a_reply_has(before: list[str], now: list[str]) -> None:
    known = learned(reply(*(machine(index, text) for index, text in enumerate(before))))
    body = reply(*(machine(index, text) for index, text in enumerate(now)))
    result = parsed(body, known)
    unchanged, others = ids(result)
    assert sorted(unchanged + others) == list(range(len(now)))
    assert all(before[machine_id] == now[machine_id] for machine_id in unchanged)
    for element, _ in result.others:
        assert element.findtext("USER_TEMPLATE/A") == now[int(element.findtext("ID", ""))]


def test_a_reply_of_another_form_is_parsed_as_a_whole() -> None:
    body = reply(machine(1), machine(2))
    for other in (
        body.replace(b"<value><string>", b"<value ><string>"),
        body.replace(b"&lt;VM_POOL&gt;", b"&lt;VM_POOL&gt; "),
        body.replace(b"&lt;/VM_POOL&gt;", b" &lt;/VM_POOL&gt;"),
    ):
        result = parsed(other, learned(body))
        assert ids(result) == ([], [1, 2])
        assert [fingerprint for _, fingerprint in result.others] == [b"", b""]


def test_a_refusal_is_a_refusal() -> None:
    with pytest.raises(OpenNebulaRefusal):
        parsed(reply_body([False, "[one.vmpool.infoextended] no", 512]))


@pytest.mark.parametrize("text", ["<VM_POOL><VM><ID>1</ID></VM>", "<VM_POOL><VM><ID>1</IDS></VM></VM_POOL>", ""])
def test_an_invalid_document_is_an_invalid_reply(text: str) -> None:
    with pytest.raises(InvalidReply):
        parsed(reply_body([True, text, 0]))


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_the_machines_in_recorded_replies_are_recognized(version: str) -> None:
    lines = (RECORDINGS / f"{version}.jsonl").read_text(encoding="utf-8").splitlines()
    calls = [json.loads(line) for line in lines if f'"{METHOD}"' in line]
    bodies = [reply_body(call["reply"]) for call in calls if call["reply"][0] and "<VM>" in call["reply"][1]]
    assert bodies
    for body in bodies:
        known = learned(body)
        assert known
        assert ids(parsed(body, known)) == (list(known), [])
