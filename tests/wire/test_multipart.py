"""Forms that end with a file, parsed incrementally."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from econed.errors import EC2Error
from econed.wire.multipart import MAX_FIELDS_SIZE, UploadForm

TYPE = 'multipart/form-data; boundary="xyz"'


def part(name: str, value: bytes, *more: str, file: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{file}"' if file is not None else "")
    lines = [f"Content-Disposition: {disposition}", *more]
    return b"--xyz\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + value + b"\r\n"


def parsed(body: bytes, size: int = 1 << 16) -> tuple[UploadForm, bytes]:
    form = UploadForm(TYPE)
    file = b"".join(piece for start in range(0, len(body), size) for piece in form.feed(body[start : start + size]))
    form.close()
    return form, file


def refusal(body: bytes) -> EC2Error:
    with pytest.raises(EC2Error) as caught:
        parsed(body)
    return caught.value


FIELDS = part("Action", b"UploadImage") + part("Signature", b"a+b/c=")
END = b"--xyz--\r\n"


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(1, 40))
def test_fields_and_file_do_not_depend_on_how_the_body_is_divided(content: bytes, size: int) -> None:
    form, file = parsed(
        FIELDS + part("file", content, "Content-Type: application/octet-stream", file="a.img") + END, size
    )
    assert form.fields == (("Action", "UploadImage"), ("Signature", "a+b/c="))
    assert file == content
    assert form.has_file
    assert form.is_complete


@pytest.mark.parametrize("content", [b"\r\n--xy", b"\r\n--xyZ\r\n", b"\r\n" * 20, b"--xyz", b"\r\n--x\r\n--xyz"[:-1]])
def test_text_similar_to_a_boundary_is_part_of_the_file(content: bytes) -> None:
    for size in (1, 2, 3, 7, 100):
        assert parsed(FIELDS + part("file", content, file="f") + END, size)[1] == content


def test_the_form_of_the_ruby_tools_without_curl_is_accepted() -> None:
    """The gem multipart-post sends several headers with the file."""
    headers = ("Content-Length: 4", "Content-Type: application/octet-stream", "Content-Transfer-Encoding: binary")
    assert parsed(FIELDS + part("file", b"data", *headers, file="/tmp/a b.img") + END)[1] == b"data"


def test_the_fields_are_complete_before_the_first_byte_of_the_file() -> None:
    form = UploadForm(TYPE)
    whole = FIELDS + part("file", b"data", file="f")
    head = whole[: whole.index(b"\r\n\r\ndata") + 4]
    assert list(form.feed(head[:-1])) == []
    assert not form.has_file
    assert list(form.feed(head[-1:])) == []
    assert form.has_file
    assert dict(form.fields)["Action"] == "UploadImage"


@pytest.mark.parametrize(
    "body",
    [
        FIELDS + part("file", b"data", file="f"),
        FIELDS[:-5],
        b"",
        b"Action=UploadImage",
        FIELDS + part("file", b"x", file="f") + part("Extra", b"1") + END,
        FIELDS + part("file", b"x", file="f") + part("file", b"y", file="g") + END,
        part("Action", b"\xff") + END,
        part("Action", b"VXBsb2FkSW1hZ2U=", "Content-Transfer-Encoding: base64") + END,
        b'--xyz\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n' + END,
        b"--xyz\r\nX" + b"y" * 10_000,
        FIELDS * 150 + END,
    ],
    ids=[
        "no-end",
        "truncated",
        "empty",
        "urlencoded",
        "field-after",
        "second-file",
        "not-utf8",
        "base64",
        "not-form-data",
        "unfinished-header",
        "many-fields",
    ],
)
def test_any_other_body_is_refused(body: bytes) -> None:
    assert refusal(body).code == "InvalidRequest"


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'x' * 71}",
        'multipart/form-data; boundary="a\nb"',
        'multipart/form-data; boundary="\n"',
        'multipart/form-data; boundary="a\rb"',
        'multipart/form-data; boundary="a\x00b"',
        'multipart/form-data; boundary="a "',
        'multipart/form-data; boundary="a\\"b"',
        'multipart/form-data; boundary="\xe9"',
    ],
)
def test_a_missing_or_invalid_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(EC2Error) as caught:
        UploadForm(content_type)
    assert (caught.value.code, caught.value.status) == ("InvalidRequest", 400)


@pytest.mark.parametrize(
    "boundary",
    [
        "------------------------d74496d66958873e",
        "----WebKitFormBoundary7MA4YWxkTrZu0gW",
        "-----------RubyMultipartPost",
        "a b",
    ],
)
def test_the_boundaries_of_clients_are_accepted(boundary: str) -> None:
    form = UploadForm(f'multipart/form-data; boundary="{boundary}"')
    assert list(form.feed(f"--{boundary}--\r\n".encode())) == []
    form.close()
    assert form.is_complete


_HEADER_PIECES = st.sampled_from(
    ['boundary="', "boundary=", "boundary*=", '"', "a", "\n", "\r", "\\", ";", " ", "=", "\xff", "\x00"]
)
_BODY_PIECES = st.sampled_from(
    [
        *(b"--xyz", b"\r\n", b"\n", b"\r\n\r\n", b"--", b":", b" : v", b"\xff\xfe", b"\x00", b"data"),
        *(b"Content-Disposition: form-data; ", b'name="a"', b'; filename="f"', b"; filename*=x-y''%zz", b'name="\\'),
        *(b"Content-Type: text/plain; charset=zz", b"Content-Length: -1", b"Content-Transfer-Encoding: binary"),
    ]
)


@settings(deadline=None)
@given(st.lists(_HEADER_PIECES, max_size=14), st.lists(_BODY_PIECES, max_size=12), st.integers(1, 60))
def test_any_input_is_a_form_or_an_error_of_the_client(header: list[str], body: list[bytes], size: int) -> None:
    """The parser raises no other exception, in the header, in a part or at the end."""
    for content_type in (TYPE, "multipart/form-data; " + "".join(header)):
        content = b"--xyz\r\n" + b"".join(body)
        try:
            form = UploadForm(content_type)
            for start in range(0, len(content), size):
                list(form.feed(content[start : start + size]))
            form.close()
        except EC2Error as error:
            assert (error.code, error.status) == ("InvalidRequest", 400)


@pytest.mark.parametrize("content", [part("Action", b"x" * (MAX_FIELDS_SIZE + 1)), b"x" * (MAX_FIELDS_SIZE + 1)])
def test_the_size_before_the_file_is_limited(content: bytes) -> None:
    form = UploadForm(TYPE)
    *pieces, last = (content[start : start + 1000] for start in range(0, MAX_FIELDS_SIZE + 1, 1000))
    assert [list(form.feed(piece)) for piece in pieces] == [[]] * len(pieces)
    with pytest.raises(EC2Error, match="too long"):
        list(form.feed(last))
