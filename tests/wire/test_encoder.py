"""Results are encoded as the XML that EC2's clients expect, and the document is always well-formed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from econed.errors import EC2Error
from econed.services import EC2, IAM, STS
from econed.wire.compiler import SLICE_LENGTH, InvalidResult
from econed.wire.encoder import Encoder, ResponseBody, encode_error
from econed.wire.model import Model
from econed.wire.text import escape

VERSION = "2016-11-15"
NS = f"{{http://ec2.amazonaws.com/doc/{VERSION}/}}"


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """Return one encoder for all tests, as the daemon has."""
    return Encoder()


def response(
    model: Model, encoder: Encoder, action: str, result: Mapping[str, Any], version: str = VERSION
) -> etree._Element:
    """Return the parsed response."""
    operation = model.operation(action)
    assert operation is not None
    return etree.fromstring(encoder.encode(operation, result, version=version, request_id="req-1"))


def texts(root: etree._Element, path: str) -> list[str | None]:
    """Return the texts of the elements at a path without namespaces."""
    return [element.text for element in root.iterfind("/".join(NS + step for step in path.split("/")))]


def children(root: etree._Element) -> list[str]:
    """Return the names of the child elements."""
    return [etree.QName(child).localname for child in root]


def is_xml_character(character: str) -> bool:
    """Whether XML 1.0 permits a character (production 2, Char)."""
    code = ord(character)
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


class TestReturn:
    """Responses that contain `<return>true</return>`."""

    @pytest.mark.parametrize(
        "action", ["RebootInstances", "CreateTags", "DeleteTags", "DeleteVolume", "ReleaseAddress"]
    )
    def test_an_operation_without_an_output_returns_true(self, model: Model, encoder: Encoder, action: str) -> None:
        root = response(model, encoder, action, {})
        assert children(root) == ["requestId", "return"]
        assert root[1].text == "true"

    @pytest.mark.parametrize(
        ("action", "result", "element"),
        [
            ("AssociateAddress", {"AssociationId": "eipassoc-1"}, "associationId"),
            ("CreateSecurityGroup", {"GroupId": "sg-1"}, "groupId"),
        ],
    )
    def test_some_operations_return_true_in_addition_to_their_result(
        self, model: Model, encoder: Encoder, action: str, result: dict[str, Any], element: str
    ) -> None:
        """apache-libcloud recognizes success by the text."""
        assert children(response(model, encoder, action, result)) == ["requestId", element, "return"]

    @pytest.mark.parametrize("action", ["DeleteKeyPair", "DeregisterImage", "AuthorizeSecurityGroupIngress"])
    def test_a_return_member_of_the_model_is_true_by_default(self, model: Model, encoder: Encoder, action: str) -> None:
        assert texts(response(model, encoder, action, {}), "return") == ["true"]
        assert texts(response(model, encoder, action, {"Return": None}), "return") == ["true"]

    @pytest.mark.parametrize(("value", "text"), [(True, "true"), (False, "false")])
    def test_a_return_member_of_the_result_is_written_once(
        self, model: Model, encoder: Encoder, value: bool, text: str
    ) -> None:
        assert texts(response(model, encoder, "DeleteKeyPair", {"Return": value}), "return") == [text]

    def test_a_describe_operation_does_not_return_true(self, model: Model, encoder: Encoder) -> None:
        assert "return" not in children(response(model, encoder, "DescribeInstances", {"Reservations": []}))


class TestSlices:
    """Long responses."""

    def test_the_slices_of_a_long_response_add_up_to_the_response(self, model: Model, encoder: Encoder) -> None:
        """Also if one reservation has all instances: the size of a slice does not depend on the length of a list."""
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

    def test_a_single_item_that_is_longer_than_a_slice_is_encoded_in_slices(
        self, model: Model, encoder: Encoder
    ) -> None:
        """Also where the list in it can be read only once."""
        operation = model.operation("DescribeInstances")
        assert operation is not None
        tags = [{"Key": f"key{n}", "Value": f"n{n}"} for n in range(10 * SLICE_LENGTH)]
        for list_of in (list, iter):
            instances = [{"InstanceId": "i-1"}, {"InstanceId": "i-2", "Tags": list_of(tags), "State": {"Code": 16}}]
            result = {"Reservations": [{"Instances": instances}, {"ReservationId": "r-2"}]}
            slices = list(encoder.slices(operation, result, version=VERSION, request_id="req-1"))
            assert max(len(piece) for piece in slices) < 128 * 1024
            root = etree.fromstring(b"".join(slices))
            instance = "reservationSet/item/instancesSet/item"
            assert texts(root, f"{instance}/instanceId") == ["i-1", "i-2"]
            assert texts(root, f"{instance}/tagSet/item/key") == [tag["Key"] for tag in tags]
            assert texts(root, f"{instance}/instanceState/code") == ["16"]
            assert texts(root, "reservationSet/item/reservationId") == ["r-2"]

    def test_a_slice_is_encoded_only_when_it_is_requested(self, model: Model, encoder: Encoder) -> None:
        operation = model.operation("DescribeRegions")
        assert operation is not None
        consumed = 0

        def regions() -> Any:
            nonlocal consumed
            for number in range(10 * SLICE_LENGTH):
                consumed += 1
                yield {"RegionName": str(number)}

        slices = encoder.slices(operation, {"Regions": regions()}, version=VERSION, request_id="req-1")
        next(slices)
        assert 0 < consumed <= SLICE_LENGTH

    def test_a_short_response_is_one_slice(self, model: Model, encoder: Encoder) -> None:
        operation = model.operation("DescribeInstances")
        assert operation is not None
        assert len(list(encoder.slices(operation, {"Reservations": []}, version=VERSION, request_id="r"))) == 1


class TestParts:
    """Responses that are encoded from several parts."""

    @pytest.fixture
    def body(self, model: Model, encoder: Encoder) -> ResponseBody:
        operation = model.operation("DescribeInstances")
        assert operation is not None
        return encoder.body(operation, version=VERSION, request_id="req-1")

    def test_parts_and_a_whole_result_give_the_same_document(
        self, model: Model, encoder: Encoder, body: ResponseBody
    ) -> None:
        """The list continues in the next part, until a part has another member."""
        ids = [f"r-{number}" for number in range(5)]
        reservations = [{"ReservationId": reservation_id, "Instances": []} for reservation_id in ids]
        parts: list[dict[str, Any]] = [
            {"Reservations": reservations[:2]},
            {"Reservations": []},
            {"Reservations": reservations[2:]},
        ]
        parts.append({"NextToken": "t"})
        output = b"".join(piece for part in parts for piece in (*body.slices(part), body.take()))
        root = etree.fromstring(output + body.end())
        assert texts(root, "reservationSet/item/reservationId") == ids
        assert children(root) == ["requestId", "reservationSet", "nextToken"]
        whole = response(model, encoder, "DescribeInstances", {"Reservations": reservations})
        assert list(map(etree.tostring, whole))[1:] == list(map(etree.tostring, root))[1:-1]

    def test_a_part_may_end_the_list_and_have_the_members_after_it(self, body: ResponseBody) -> None:
        parts: list[dict[str, Any]] = [
            {"Reservations": [{"ReservationId": "r-1"}]},
            {"NextToken": "t", "Reservations": []},
        ]
        for part in parts:
            assert list(body.slices(part)) == []
        assert children(etree.fromstring(body.end())) == ["requestId", "reservationSet", "nextToken"]

    def test_output_that_was_taken_is_not_kept(self, body: ResponseBody) -> None:
        list(body.slices({"Reservations": [{"ReservationId": "r-1"}]}))
        assert b"r-1" in body.take()
        assert body.take() == b""

    @pytest.mark.parametrize("part", [{"NextToken": "u"}, {"Reservations": []}])
    def test_a_complete_member_cannot_be_continued(self, body: ResponseBody, part: dict[str, Any]) -> None:
        list(body.slices({"Reservations": []}))
        list(body.slices({"NextToken": "t"}))
        (member,) = part
        with pytest.raises(InvalidResult, match=f"DescribeInstances.{member}: the member is already complete"):
            list(body.slices(part))

    def test_a_part_that_does_not_match_the_model_is_an_error(self, body: ResponseBody) -> None:
        list(body.slices({"Reservations": []}))
        with pytest.raises(InvalidResult, match=r"DescribeInstances.Reservations\[0\].Nothing: the model has no such"):
            list(body.slices({"Reservations": [{"Nothing": 1}]}))


class CountedMembers(dict[str, Any]):
    """The members of a structure; `reads` counts how often one is read."""

    reads = 0

    def __getitem__(self, key: str) -> Any:
        self.reads += 1
        return super().__getitem__(key)


class TestConstants:
    """Read-only structures, which many items share."""

    def test_a_read_only_structure_is_read_once_however_many_items_share_it(
        self, model: Model, encoder: Encoder
    ) -> None:
        members = CountedMembers(Code=16, Name="running")
        state = MappingProxyType(members)
        instances = [{"InstanceId": f"i-{number}", "State": state} for number in range(100)]
        for _ in range(2):
            root = response(model, encoder, "DescribeInstances", {"Reservations": [{"Instances": instances}]})
            assert texts(root, "reservationSet/item/instancesSet/item/instanceState/name") == ["running"] * 100
        assert members.reads == len(members)

    def test_one_is_never_taken_for_another(self, model: Model, encoder: Encoder) -> None:
        """Not even one that got the identity of one that no longer exists."""

        def instances() -> Iterator[dict[str, Any]]:
            for number in range(1000):
                yield {"State": MappingProxyType({"Code": number})}

        root = response(model, encoder, "DescribeInstances", {"Reservations": [{"Instances": instances()}]})
        codes = texts(root, "reservationSet/item/instancesSet/item/instanceState/code")
        assert codes == [str(number) for number in range(1000)]

    def test_one_that_does_not_match_the_model_is_an_error_every_time(self, model: Model, encoder: Encoder) -> None:
        result = {"Reservations": [{"Instances": [{"State": MappingProxyType({"Code": "16"})}]}]}
        for _ in range(2):
            with pytest.raises(InvalidResult, match=r"Reservations\[0\].Instances\[0\].State.Code: expected int"):
                response(model, encoder, "DescribeInstances", result)


class TestErrors:
    """Error bodies."""

    def test_an_error_has_the_elements_of_ec2s_errors(self) -> None:
        body = encode_error(
            EC2, EC2Error("InvalidInstanceID.NotFound", "The instance ID 'i-1' does not exist"), "req-1"
        )
        root = etree.fromstring(body)
        assert root.tag == "Response"
        assert root.findtext("Errors/Error/Code") == "InvalidInstanceID.NotFound"
        assert root.findtext("Errors/Error/Message") == "The instance ID 'i-1' does not exist"
        assert root.findtext("RequestID") == "req-1"

    def test_a_message_cannot_add_elements_to_an_error(self) -> None:
        message = "</Message></Error><Error><Code>Fake</Code> ]]> & \x00 \ud800"
        root = etree.fromstring(encode_error(EC2, EC2Error("C", message), "</RequestID>"))
        assert [code.text for code in root.iter("Code")] == ["C"]
        assert root.findtext("Errors/Error/Message") == message.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")


class TestInvalidResults:
    """Results that do not match the model."""

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
    def test_an_invalid_result_is_an_error_with_the_path_of_the_member(
        self, model: Model, encoder: Encoder, action: str, result: dict[str, Any], path: str
    ) -> None:
        with pytest.raises(InvalidResult) as caught:
            response(model, encoder, action, result)
        assert caught.value.path == path
        assert str(caught.value).startswith(f"{path}: ")


class TestDocument:
    """The document and its elements."""

    @pytest.mark.parametrize("version", ["2016-11-15", "2008-12-01"])
    def test_the_namespace_ends_with_the_version_of_the_request_and_a_slash(
        self, model: Model, encoder: Encoder, version: str
    ) -> None:
        root = response(model, encoder, "DescribeRegions", {"Regions": []}, version)
        assert root.tag == f"{{http://ec2.amazonaws.com/doc/{version}/}}DescribeRegionsResponse"

    def test_a_version_cannot_add_markup_to_the_document(self, model: Model, encoder: Encoder) -> None:
        root = response(model, encoder, "DescribeRegions", {}, '"><evil a="<&\n\x00')
        assert etree.QName(root).localname == "DescribeRegionsResponse"
        assert len(root) == 1

    def test_a_response_begins_with_the_request_id(self, model: Model, encoder: Encoder) -> None:
        root = response(model, encoder, "DescribeRegions", {"Regions": [{"RegionName": "one"}]})
        assert children(root) == ["requestId", "regionInfo"]
        assert root[0].text == "req-1"

    def test_members_have_the_names_of_the_model_and_lists_have_items(self, model: Model, encoder: Encoder) -> None:
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
        root = response(model, encoder, "DescribeInstances", result)
        instance = "reservationSet/item/instancesSet/item"
        assert texts(root, f"{instance}/instanceId") == ["i-1"]
        assert texts(root, f"{instance}/instanceState/code") == ["16"]
        assert texts(root, f"{instance}/launchTime") == ["2026-01-02T03:04:05.000Z"]
        assert texts(root, f"{instance}/ebsOptimized") == ["false"]
        assert texts(root, f"{instance}/tagSet/item/key") == ["a", "c"]
        assert texts(root, f"{instance}/tagSet/item/value") == ["b", None]

    def test_an_empty_list_is_an_empty_element_and_none_is_omitted(self, model: Model, encoder: Encoder) -> None:
        root = response(model, encoder, "DescribeInstances", {"Reservations": [], "NextToken": None})
        assert children(root) == ["requestId", "reservationSet"]
        assert len(root[1]) == 0

    def test_times_are_converted_to_utc(self, model: Model, encoder: Encoder) -> None:
        moment = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=timezone(timedelta(hours=2)))
        root = response(model, encoder, "CreateVolume", {"CreateTime": moment})
        assert texts(root, "createTime") == ["2026-01-02T01:04:05.678Z"]

    @given(
        st.text(st.characters(), max_size=50)
        | st.text(alphabet="<>&\"']\r\n\t\x00\x1f\x7f\ud800\udfff\ufffe\U0001f600")
    )
    @example("]]>")
    @example("\r\n\r")
    @example("a trailing backslash \\ and $NAME 100$ \U0001f600")
    def test_any_text_is_preserved_except_for_characters_that_xml_does_not_permit(
        self, model: Model, encoder: Encoder, text: str
    ) -> None:
        root = response(model, encoder, "DescribeTags", {"Tags": [{"Value": text}]})
        expected = "".join(character if is_xml_character(character) else "\ufffd" for character in text)
        assert texts(root, "tagSet/item/value") == [expected or None]


def test_every_character_that_needs_it_is_escaped() -> None:
    """Most texts are recognized as harmless without a search for such characters."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        is_harmless = is_xml_character(character) and character not in "<>&\r"
        assert (escape(character) == character) is is_harmless


def test_elements_are_in_the_order_of_the_model_and_not_of_the_result(model: Model) -> None:
    """Libcloud uses the first `name` in a state change as the current state."""
    change = {"PreviousState": {"Name": "running"}, "InstanceId": "i-1", "CurrentState": {"Name": "stopping"}}
    operation = model.operation("StopInstances")
    assert operation is not None
    body = Encoder().encode(operation, {"StoppingInstances": [change]}, version="2016-11-15", request_id="r")
    assert body.index(b"<instanceId>") < body.index(b"<currentState>") < body.index(b"<previousState>")


class TestQueryProtocol:
    """Responses of STS and IAM."""

    def test_the_result_is_wrapped_and_the_request_id_follows(self, encoder: Encoder) -> None:
        operation = Model.load(STS, ["GetCallerIdentity"]).operation("GetCallerIdentity")
        assert operation is not None
        result = {"Account": "000000000002", "Arn": "arn:aws:iam::000000000002:user/a&b", "UserId": "AIDA"}
        assert encoder.encode(operation, result, version="2011-06-15", request_id="req-1") == (
            b'<?xml version="1.0" encoding="UTF-8"?>\n'
            b'<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
            b"<UserId>AIDA</UserId><Account>000000000002</Account><Arn>arn:aws:iam::000000000002:user/a&amp;b</Arn>"
            b"</GetCallerIdentityResult><ResponseMetadata><RequestId>req-1</RequestId></ResponseMetadata>"
            b"</GetCallerIdentityResponse>"
        )

    def test_an_operation_without_an_output_has_the_request_id_alone(self, encoder: Encoder) -> None:
        """No `<return>true</return>` either, which is EC2's."""
        operation = Model.load(IAM, ["DeleteAccessKey"]).operation("DeleteAccessKey")
        assert operation is not None
        body = encoder.encode(operation, {}, version="2010-05-08", request_id="req-1")
        assert body.partition(b"\n")[2] == (
            b'<DeleteAccessKeyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
            b"<ResponseMetadata><RequestId>req-1</RequestId></ResponseMetadata></DeleteAccessKeyResponse>"
        )

    @pytest.mark.parametrize(
        ("status", "kind"), [(400, "Sender"), (409, "Sender"), (500, "Receiver"), (503, "Receiver")]
    )
    def test_an_error_says_whose_fault_it_is(self, status: int, kind: str) -> None:
        body = encode_error(IAM, EC2Error("Code", "<text>", status), "req-1")
        assert body.partition(b"\n")[2].decode() == (
            f'<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>{kind}</Type>'
            "<Code>Code</Code><Message>&lt;text&gt;</Message></Error><RequestId>req-1</RequestId></ErrorResponse>"
        )

    def test_shapes_of_one_name_in_two_services_are_not_confused(self) -> None:
        """Both STS and IAM have a Tag, for example."""
        tag = {"type": "structure", "members": {"Text": {"shape": "Text", "locationName": "x"}}}
        other = {"type": "structure", "members": {"Text": {"shape": "Text", "locationName": "y"}}}
        encoder, bodies = Encoder(), []
        for service, shape in ((STS, tag), (IAM, other)):
            shapes = {"Tag": shape, "Text": {"type": "string"}}
            operation = Model(service, {"operations": {"A": {"output": {"shape": "Tag"}}}, "shapes": shapes}).operation(
                "A"
            )
            assert operation is not None
            bodies.append(encoder.encode(operation, {"Text": "a"}, version="v", request_id="r"))
        assert b"<x>a</x>" in bodies[0]
        assert b"<y>a</y>" in bodies[1]
