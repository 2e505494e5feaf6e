"""Query strings and form bodies are parsed exactly as sent, and malformed ones are refused."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from econed.errors import EC2Error
from econed.wire.query import count_pairs, parse_pairs, single_value


class TestSingleValue:
    """The only value of a name."""

    def test_a_name_has_a_value_or_none(self) -> None:
        pairs = parse_pairs(b"Action=DescribeRegions&Version=2016-11-15")
        assert single_value(pairs, "Action") == "DescribeRegions"
        assert single_value(pairs, "Signature") is None

    def test_a_duplicate_name_is_refused(self) -> None:
        with pytest.raises(EC2Error) as caught:
            single_value(parse_pairs(b"Action=DescribeRegions&Action=TerminateInstances"), "Action")
        assert caught.value.code == "InvalidParameterValue"


class TestArbitraryInput:
    """Any bytes."""

    @given(st.binary(max_size=200))
    @example(b"%")
    @example(b"=&=")
    def test_any_bytes_are_parsed_as_text_or_refused_as_malformed(self, raw: bytes) -> None:
        code = ""
        try:
            pairs = parse_pairs(raw)
        except EC2Error as error:
            pairs, code = (), error.code
        assert code in ("", "MalformedQueryString")
        for name, value in pairs:
            (name + value).encode("utf-8")

    @given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=10))
    def test_well_formed_strings_are_parsed_as_by_the_standard_library(self, pairs: list[tuple[str, str]]) -> None:
        raw = urlencode(pairs).encode()
        expected = parse_qsl(raw.decode(), keep_blank_values=True, strict_parsing=False, separator="&")
        assert list(parse_pairs(raw)) == expected


class TestPairs:
    """Parsing bytes into pairs."""

    def test_pairs_keep_their_order_and_duplicates(self) -> None:
        assert parse_pairs(b"B=2&A=1&B=3") == (("B", "2"), ("A", "1"), ("B", "3"))

    def test_a_semicolon_is_part_of_a_value_and_never_starts_a_second_parameter(self) -> None:
        assert parse_pairs(b"Action=DescribeInstances;Action=TerminateInstances") == (
            ("Action", "DescribeInstances;Action=TerminateInstances"),
        )

    def test_a_plus_is_a_space_and_an_escaped_plus_is_a_plus(self) -> None:
        assert parse_pairs(b"a+b=c+d%2Be") == (("a b", "c d+e"),)

    def test_only_the_first_equals_sign_separates(self) -> None:
        assert parse_pairs(b"UserData=aGk==") == (("UserData", "aGk=="),)

    def test_escaped_separators_are_data(self) -> None:
        assert parse_pairs(b"Tag.1.Value=a%26b%3Dc%25") == (("Tag.1.Value", "a&b=c%"),)

    def test_a_name_without_a_value_has_the_empty_one(self) -> None:
        assert parse_pairs(b"acl&x=") == (("acl", ""), ("x", ""))

    def test_empty_pairs_are_ignored(self) -> None:
        assert parse_pairs(b"&&a=1&&b=2&") == (("a", "1"), ("b", "2"))
        assert parse_pairs(b"") == ()

    def test_text_is_utf8_escaped_or_not(self) -> None:
        assert parse_pairs("a=%E2%9C%93&b=✓".encode()) == (("a", "✓"), ("b", "✓"))

    @pytest.mark.parametrize("raw", [b"a=%", b"a=%4", b"a=%zz", b"%g0=1", b"a=100%&b=1", b"a=%+1"])
    def test_an_invalid_escape_is_a_malformed_query_string(self, raw: bytes) -> None:
        with pytest.raises(EC2Error) as caught:
            parse_pairs(raw)
        assert (caught.value.code, caught.value.status) == ("MalformedQueryString", 400)

    @pytest.mark.parametrize("raw", [b"a=%FF", b"a=\xff", b"%C0%AF=1", b"a=%ED%A0%80"], ids=str)
    def test_text_that_is_not_utf8_is_a_malformed_query_string(self, raw: bytes) -> None:
        with pytest.raises(EC2Error) as caught:
            parse_pairs(raw)
        assert (caught.value.code, caught.value.status) == ("MalformedQueryString", 400)

    @pytest.mark.parametrize(("raw", "bound"), [(b"", 0), (b"a", 1), (b"a=1&b=2&c=3", 3), (b"&&a=1&&", 5), (b"%&%", 2)])
    def test_the_number_of_pairs_has_a_bound_that_needs_no_decoding(self, raw: bytes, bound: int) -> None:
        assert count_pairs(raw) == bound

    @given(st.text(alphabet="a=&", max_size=30))
    def test_there_are_never_more_pairs_than_the_bound(self, raw: str) -> None:
        assert len(parse_pairs(raw.encode())) <= count_pairs(raw.encode())
