"""From results to XML: the elements EC2's clients look for, and a document that always parses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from econed.wire.encoder import SLICE_LENGTH, Encoder, InvalidResult, ResponseBody, encode_error
from econed.wire.model import Model

VERSION = "2016-11-15"
NS = f"{{http://ec2.amazonaws.com/doc/{VERSION}/}}"


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """One encoder for all, as the daemon has it."""
    return Encoder()


def answer(
    model: Model, encoder: Encoder, action: str, result: Mapping[str, Any], version: str = VERSION
) -> etree._Element:
    """The parsed answer."""
    operation = model.operation(action)
    assert operation is not None
    return etree.fromstring(encoder.encode(operation, result, version=version, request_id="req-1"))


def texts(root: etree._Element, path: str) -> list[str | None]:
    """The texts of the elements at a path without namespaces."""
    return [element.text for element in root.iterfind("/".join(NS + step for step in path.split("/")))]


def children(root: etree._Element) -> list[str]:
    """The names of the elements right below."""
    return [etree.QName(child).localname for child in root]


def in_xml(character: str) -> bool:
    """Whether XML 1.0 has a character (its production 2, Char)."""
    code = ord(character)
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


class TestReturn:
    """Answers that say true."""

    @pytest.mark.parametrize(
        "action", ["RebootInstances", "CreateTags", "DeleteTags", "DeleteVolume", "ReleaseAddress"]
    )
    def test_an_operation_without_an_output_returns_true(self, model: Model, encoder: Encoder, action: str) -> None:
        root = answer(model, encoder, action, {})
        assert children(root) == ["requestId", "return"]
        assert root[1].text == "true"

    @pytest.mark.parametrize(
        ("action", "result", "element"),
        [
            ("AssociateAddress", {"AssociationId": "eipassoc-1"}, "associationId"),
            ("CreateSecurityGroup", {"GroupId": "sg-1"}, "groupId"),
        ],
    )
    def test_some_return_true_beside_what_they_return(
        self, model: Model, encoder: Encoder, action: str, result: dict[str, Any], element: str
    ) -> None:
        """By the text apache-libcloud tells success."""
        assert children(answer(model, encoder, action, result)) == ["requestId", element, "return"]

    @pytest.mark.parametrize("action", ["DeleteKeyPair", "DeregisterImage", "AuthorizeSecurityGroupIngress"])
    def test_a_return_of_the_model_is_true_where_the_result_does_not_say(
        self, model: Model, encoder: Encoder, action: str
    ) -> None:
        assert texts(answer(model, encoder, action, {}), "return") == ["true"]
        assert texts(answer(model, encoder, action, {"Return": None}), "return") == ["true"]

    @pytest.mark.parametrize(("said", "text"), [(True, "true"), (False, "false")])
    def test_a_return_that_the_result_has_stands_once(
        self, model: Model, encoder: Encoder, said: bool, text: str
    ) -> None:
        assert texts(answer(model, encoder, "DeleteKeyPair", {"Return": said}), "return") == [text]

    def test_a_describe_returns_no_true(self, model: Model, encoder: Encoder) -> None:
        assert "return" not in children(answer(model, encoder, "DescribeInstances", {"Reservations": []}))


class TestSlices:
    """Long answers."""

    def test_a_long_answer_comes_in_slices_that_add_up_to_it(self, model: Model, encoder: Encoder) -> None:
        """Also where one reservation has all the instances: the work between two slices does not grow with the list."""
        operation = model.operation("DescribeInstances")
        assert operation is not None
        instances = [{"InstanceId": f"i-{n:08d}", "Tags": [{"Key": "Name", "Value": f"n{n}"}]} for n in range(3000)]
        result = {"Reservations": [{"ReservationId": "r-1", "Instances": instances}]}
        slices = list(encoder.slices(operation, result, version=VERSION, request_id="req-1"))
        assert len(slices) > 10
        assert max(len(piece) for piece in slices) < 64 * 1024
        assert b"".join(slices) == encoder.encode(operation, result, version=VERSION, request_id="req-1")
        root = etree.fromstring(b"".join(slices))
        assert texts(root, "reservationSet/item/instancesSet/item/instanceId") == [i["InstanceId"] for i in instances]

    def test_a_slice_is_made_only_when_it_is_asked_for(self, model: Model, encoder: Encoder) -> None:
        operation = model.operation("DescribeRegions")
        assert operation is not None
        taken = 0

        def regions() -> Any:
            nonlocal taken
            for number in range(10 * SLICE_LENGTH):
                taken += 1
                yield {"RegionName": str(number)}

        slices = encoder.slices(operation, {"Regions": regions()}, version=VERSION, request_id="req-1")
        next(slices)
        assert 0 < taken <= SLICE_LENGTH

    def test_a_short_answer_is_one_slice(self, model: Model, encoder: Encoder) -> None:
        operation = model.operation("DescribeInstances")
        assert operation is not None
        assert len(list(encoder.slices(operation, {"Reservations": []}, version=VERSION, request_id="r"))) == 1


class TestParts:
    """Answers that are written part by part."""

    @pytest.fixture
    def body(self, model: Model, encoder: Encoder) -> ResponseBody:
        operation = model.operation("DescribeInstances")
        assert operation is not None
        return encoder.body(operation, version=VERSION, request_id="req-1")

    def test_parts_and_a_whole_result_give_the_same_document(
        self, model: Model, encoder: Encoder, body: ResponseBody
    ) -> None:
        """The list continues in the next part, until a part has another member."""
        reservations = [{"ReservationId": f"r-{number}", "Instances": []} for number in range(5)]
        parts: list[dict[str, Any]] = [
            {"Reservations": reservations[:2]},
            {"Reservations": []},
            {"Reservations": reservations[2:]},
        ]
        parts.append({"NextToken": "t"})
        made = b"".join(piece for part in parts for piece in (*body.slices(part), body.take()))
        root = etree.fromstring(made + body.end())
        assert texts(root, "reservationSet/item/reservationId") == [each["ReservationId"] for each in reservations]
        assert children(root) == ["requestId", "reservationSet", "nextToken"]
        whole = answer(model, encoder, "DescribeInstances", {"Reservations": reservations})
        assert list(map(etree.tostring, whole))[1:] == list(map(etree.tostring, root))[1:-1]

    def test_a_part_may_end_the_list_and_have_what_comes_behind_it(self, body: ResponseBody) -> None:
        parts: list[dict[str, Any]] = [
            {"Reservations": [{"ReservationId": "r-1"}]},
            {"NextToken": "t", "Reservations": []},
        ]
        for part in parts:
            assert list(body.slices(part)) == []
        assert children(etree.fromstring(body.end())) == ["requestId", "reservationSet", "nextToken"]

    def test_nothing_is_kept_of_a_part_that_was_taken(self, body: ResponseBody) -> None:
        list(body.slices({"Reservations": [{"ReservationId": "r-1"}]}))
        assert b"r-1" in body.take()
        assert body.take() == b""

    @pytest.mark.parametrize("again", [{"NextToken": "u"}, {"Reservations": []}])
    def test_a_member_that_is_complete_has_no_more_parts(self, body: ResponseBody, again: dict[str, Any]) -> None:
        list(body.slices({"Reservations": []}))
        list(body.slices({"NextToken": "t"}))
        with pytest.raises(
            InvalidResult, match=f"DescribeInstances.{next(iter(again))}: the member is already complete"
        ):
            list(body.slices(again))

    def test_a_part_that_does_not_fit_is_an_error_as_always(self, body: ResponseBody) -> None:
        list(body.slices({"Reservations": []}))
        with pytest.raises(InvalidResult, match=r"DescribeInstances.Reservations\[0\].Nothing: the model has no such"):
            list(body.slices({"Reservations": [{"Nothing": 1}]}))


class TestErrors:
    """Error bodies."""

    def test_an_error_has_ec2s_body(self) -> None:
        body = encode_error("InvalidInstanceID.NotFound", "The instance ID 'i-1' does not exist", "req-1")
        root = etree.fromstring(body)
        assert root.tag == "Response"
        assert root.findtext("Errors/Error/Code") == "InvalidInstanceID.NotFound"
        assert root.findtext("Errors/Error/Message") == "The instance ID 'i-1' does not exist"
        assert root.findtext("RequestID") == "req-1"

    def test_a_message_cannot_break_out_of_an_error(self) -> None:
        message = "</Message></Error><Error><Code>Fake</Code> ]]> & \x00 \ud800"
        root = etree.fromstring(encode_error("C", message, "</RequestID>"))
        assert [code.text for code in root.iter("Code")] == ["C"]
        assert root.findtext("Errors/Error/Message") == message.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")


class TestInvalidResults:
    """Results that an action got wrong."""

    @pytest.mark.parametrize(
        ("action", "result", "path"),
        [
            ("DescribeInstances", {"reservations": []}, "DescribeInstances.reservations"),
            ("RebootInstances", {"Return": True}, "RebootInstances"),
            (
                "DescribeInstances",
                {"Reservations": [{}, {"Instances": [{"InstanceID": "i-1"}]}]},
                "DescribeInstances.Reservations[1].Instances[0].InstanceID",
            ),
            (
                "DescribeInstances",
                {"Reservations": [{"Instances": [{"State": {"Code": "16"}}]}]},
                "DescribeInstances.Reservations[0].Instances[0].State.Code",
            ),
            ("DescribeInstances", {"Reservations": "r-1"}, "DescribeInstances.Reservations"),
            ("DescribeInstances", {"Reservations": {"a": 1}}, "DescribeInstances.Reservations"),
            ("DescribeInstances", {"Reservations": 7}, "DescribeInstances.Reservations"),
            ("DescribeInstances", {"Reservations": [[]]}, "DescribeInstances.Reservations[0]"),
            ("DescribeInstances", {"Reservations": [None]}, "DescribeInstances.Reservations[0]"),
            ("CreateVolume", {"Size": True}, "CreateVolume.Size"),
            ("CreateVolume", {"Encrypted": "false"}, "CreateVolume.Encrypted"),
            ("CreateVolume", {"Encrypted": 0}, "CreateVolume.Encrypted"),
            ("CreateVolume", {"VolumeId": 7}, "CreateVolume.VolumeId"),
            ("CreateVolume", {"CreateTime": datetime(2026, 1, 2)}, "CreateVolume.CreateTime"),
            ("CreateVolume", {"CreateTime": 1767322245}, "CreateVolume.CreateTime"),
            ("CreateVolume", {"Tags": [{"Key": "a"}, {"key": "b"}]}, "CreateVolume.Tags[1].key"),
        ],
    )
    def test_a_result_that_does_not_fit_the_model_is_an_error_that_names_the_place(
        self, model: Model, encoder: Encoder, action: str, result: dict[str, Any], path: str
    ) -> None:
        with pytest.raises(InvalidResult) as caught:
            answer(model, encoder, action, result)
        assert caught.value.path == path
        assert str(caught.value).startswith(f"{path}: ")


class TestDocument:
    """The document and its elements."""

    @pytest.mark.parametrize("version", ["2016-11-15", "2008-12-01"])
    def test_the_namespace_is_that_of_the_requests_version_with_a_slash(
        self, model: Model, encoder: Encoder, version: str
    ) -> None:
        root = answer(model, encoder, "DescribeRegions", {"Regions": []}, version)
        assert root.tag == f"{{http://ec2.amazonaws.com/doc/{version}/}}DescribeRegionsResponse"

    def test_a_version_cannot_break_out_of_the_namespace(self, model: Model, encoder: Encoder) -> None:
        root = answer(model, encoder, "DescribeRegions", {}, '"><evil a="<&\n\x00')
        assert etree.QName(root).localname == "DescribeRegionsResponse"
        assert len(root) == 1

    def test_an_answer_begins_with_the_request_id(self, model: Model, encoder: Encoder) -> None:
        root = answer(model, encoder, "DescribeRegions", {"Regions": [{"RegionName": "one"}]})
        assert children(root) == ["requestId", "regionInfo"]
        assert root[0].text == "req-1"

    def test_members_have_the_models_names_and_lists_have_items(self, model: Model, encoder: Encoder) -> None:
        result = {
            "Reservations": [
                {
                    "ReservationId": "r-1",
                    "Instances": [
                        {
                            "InstanceId": "i-1",
                            "State": {"Code": 16, "Name": "running"},
                            "LaunchTime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
                            "EbsOptimized": False,
                            "Tags": [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": ""}],
                        },
                    ],
                }
            ]
        }
        root = answer(model, encoder, "DescribeInstances", result)
        instance = "reservationSet/item/instancesSet/item"
        assert texts(root, f"{instance}/instanceId") == ["i-1"]
        assert texts(root, f"{instance}/instanceState/code") == ["16"]
        assert texts(root, f"{instance}/launchTime") == ["2026-01-02T03:04:05.000Z"]
        assert texts(root, f"{instance}/ebsOptimized") == ["false"]
        assert texts(root, f"{instance}/tagSet/item/key") == ["a", "c"]
        assert texts(root, f"{instance}/tagSet/item/value") == ["b", None]

    def test_an_empty_list_is_an_empty_element_and_none_is_no_element(self, model: Model, encoder: Encoder) -> None:
        root = answer(model, encoder, "DescribeInstances", {"Reservations": [], "NextToken": None})
        assert children(root) == ["requestId", "reservationSet"]
        assert len(root[1]) == 0

    def test_a_time_of_another_zone_is_told_in_utc(self, model: Model, encoder: Encoder) -> None:
        moment = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=timezone(timedelta(hours=2)))
        root = answer(model, encoder, "CreateVolume", {"CreateTime": moment})
        assert texts(root, "createTime") == ["2026-01-02T01:04:05.678Z"]

    @given(
        st.text(st.characters(), max_size=50)
        | st.text(alphabet="<>&\"']\r\n\t\x00\x1f\x7f\ud800\udfff\ufffe\U0001f600")
    )
    @example("]]>")
    @example("\r\n\r")
    @example("a trailing backslash \\ and $NAME 100$ \U0001f600")
    def test_any_text_comes_back_from_the_document_but_for_what_xml_cannot_hold(
        self, model: Model, encoder: Encoder, text: str
    ) -> None:
        root = answer(model, encoder, "DescribeTags", {"Tags": [{"Value": text}]})
        held = "".join(character if in_xml(character) else "\ufffd" for character in text)
        assert texts(root, "tagSet/item/value") == [held or None]


def test_elements_come_in_the_models_order_whatever_the_results(model: Model) -> None:
    """The libcloud library takes the first `name` it finds in a state change for the current state."""
    change = {"PreviousState": {"Name": "running"}, "InstanceId": "i-1", "CurrentState": {"Name": "stopping"}}
    operation = model.operation("StopInstances")
    assert operation is not None
    body = Encoder().encode(operation, {"StoppingInstances": [change]}, version="2016-11-15", request_id="r")
    assert body.index(b"<instanceId>") < body.index(b"<currentState>") < body.index(b"<previousState>")
