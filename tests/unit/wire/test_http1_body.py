"""Bodies end where they say, whatever follows them; what is written can be read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.wire.http1 import Framing, HeadError
from towline.wire.http1_body import (
    MAX_TRAILERS,
    ChunkedReader,
    LengthReader,
    UntilCloseReader,
    body_reader,
    encode_chunk,
    encode_last_chunk,
)


def test_length_body_ends_at_its_length_and_keeps_the_rest() -> None:
    reader = LengthReader(5)
    assert reader.feed(b"he") == [b"he"]
    assert not reader.is_done
    assert reader.feed(b"lloGET") == [b"llo"]
    assert reader.is_done
    assert reader.rest == b"GET"


def test_body_of_length_zero_is_done_before_a_byte() -> None:
    reader = body_reader(Framing.NONE)
    assert reader.is_done
    assert reader.feed(b"next") == []
    assert reader.rest == b"next"


def test_body_until_close_is_never_done_by_itself() -> None:
    reader = UntilCloseReader()
    assert reader.feed(b"x") == [b"x"]
    assert not reader.is_done


def test_chunked_body_keeps_trailers_and_rest() -> None:
    reader = ChunkedReader()
    assert b"".join(reader.feed(b"5\r\nhello\r\n0\r\nX-Sum: 1 \r\n\r\nGET /")) == b"hello"
    assert reader.is_done
    assert reader.trailers == [(b"x-sum", b"X-Sum", b"1")]
    assert reader.rest == b"GET /"


@pytest.mark.parametrize("extension", [b";a", b";a=b", b';a="b;c\\"d"', b";a=1;b=2"])
def test_wellformed_chunk_extension_is_read_over(extension: bytes) -> None:
    assert ChunkedReader().feed(b"5" + extension + b"\r\nhello\r\n0\r\n\r\n") == [b"hello"]


def test_pieces_before_a_broken_chunk_are_not_returned_with_it() -> None:
    with pytest.raises(HeadError):
        ChunkedReader().feed(b"5\r\nhello\r\nzz\r\n")


def test_trailers_are_counted() -> None:
    with pytest.raises(HeadError) as caught:
        ChunkedReader().feed(b"0\r\n" + b"A: b\r\n" * (MAX_TRAILERS + 1) + b"\r\n")
    assert caught.value.status == 431


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.binary(max_size=20), st.data())
def test_chunked_body_is_the_same_in_any_pieces(chunks: list[bytes], rest: bytes, data: st.DataObject) -> None:
    wire = b"".join(encode_chunk([chunk]) for chunk in chunks) + encode_last_chunk([]) + rest
    at = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    reader, body = ChunkedReader(), []
    tail = b""
    for start, end in zip([0, *at], [*at, len(wire)], strict=True):
        if reader.is_done:
            tail += wire[start:end]
        else:
            body += reader.feed(wire[start:end])
    assert b"".join(body) == b"".join(chunks)
    assert reader.rest + tail == rest


def test_no_pieces_make_no_chunk_because_it_would_end_the_body() -> None:
    assert encode_chunk([]) == b""
    assert encode_chunk([b"", b""]) == b""
    assert encode_chunk([b"ab", b"c"]) == b"3\r\nabc\r\n"


def test_trailers_that_frame_or_authorise_are_not_written() -> None:
    trailers = [
        (b"content-length", b"Content-Length", b"5"),
        (b"authorization", b"Authorization", b"x"),
        (b"x-sum", b"X-Sum", b"1"),
    ]
    assert encode_last_chunk(trailers) == b"0\r\nX-Sum: 1\r\n\r\n"
    assert encode_last_chunk([]) == b"0\r\n\r\n"
