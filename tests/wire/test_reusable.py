"""A structure that several results contain is encoded once, and its XML is the same in all."""

from __future__ import annotations

from typing import Any

import pytest

from econed.reusable import MAX_SIZE, KeptXml, Reusable
from econed.wire.compiler import SLICE_LENGTH, InvalidResult
from econed.wire.encoder import Encoder
from econed.wire.model import Model

INSTANCE: dict[str, Any] = {
    "InstanceId": "i-00000007",
    "KeyName": "a < b & é",
    "State": {"Code": 16, "Name": "running"},
    "Tags": [{"Key": "Name", "Value": "web"}],
}


def encoded(model: Model, encoder: Encoder, *instances: Any) -> bytes:
    """Return a response with these instances in one reservation."""
    operation = model.operation("DescribeInstances")
    assert operation is not None
    result = {"Reservations": [{"ReservationId": "r-1", "Instances": list(instances)}]}
    return encoder.encode(operation, result, version="2016-11-15", request_id="req-1")


def test_a_reusable_structure_is_encoded_like_any_other_and_then_repeated(model: Model) -> None:
    encoder = Encoder()
    expected = encoded(model, encoder, INSTANCE, {"InstanceId": "i-00000008"}, INSTANCE)
    first, second = Reusable(INSTANCE), Reusable(INSTANCE)
    assert not first.kept
    assert encoded(model, encoder, first, {"InstanceId": "i-00000008"}, second) == expected
    assert first.kept
    assert encoded(model, encoder, first.kept, Reusable({"InstanceId": "i-00000008"}), second.kept) == expected


@pytest.mark.parametrize(
    "tags",
    [
        [{"Key": "k", "Value": "v" * MAX_SIZE}],
        [{"Key": "k", "Value": "\u20ac" * (MAX_SIZE // 2)}],
        [{"Key": f"{n}", "Value": ""} for n in range(SLICE_LENGTH)],
    ],
    ids=["characters", "bytes", "elements"],
)
def test_a_structure_with_long_xml_is_encoded_and_not_kept(model: Model, tags: list[dict[str, str]]) -> None:
    instance = {**INSTANCE, "Tags": tags}
    reusable = Reusable(instance)
    assert encoded(model, Encoder(), reusable) == encoded(model, Encoder(), instance)
    assert not reusable.kept


def test_xml_that_was_kept_remains() -> None:
    kept = KeptXml()
    kept.keep("<a/>")
    kept.keep("x" * (MAX_SIZE + 1))
    assert kept.text == "<a/>"


def test_an_invalid_reusable_structure_is_reported_with_its_path(model: Model) -> None:
    with pytest.raises(InvalidResult, match=r"Reservations\[0\].Instances\[1\].InstanceId"):
        encoded(model, Encoder(), INSTANCE, Reusable({"InstanceId": 7}))


def test_a_slice_has_the_usual_length_if_its_xml_was_kept(model: Model) -> None:
    operation = model.operation("DescribeInstances")
    assert operation is not None
    reusable = Reusable({**INSTANCE, "Tags": [{"Key": f"{n}", "Value": "value"} for n in range(60)]})
    encoder = Encoder()
    encoded(model, encoder, reusable)
    result = {"Reservations": [{"ReservationId": "r-1", "Instances": [reusable.kept] * 1000}]}
    slices = list(encoder.slices(operation, result, version="2016-11-15", request_id="req-1"))
    assert sum(map(len, slices)) > 2_000_000
    assert max(map(len, slices)) < 128 * 1024
