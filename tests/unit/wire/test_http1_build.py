"""Written heads are framed once and cannot be broken out of."""

import pytest

from towline.wire.http1 import parse_request_head, parse_response_head
from towline.wire.http1_build import build_answer, build_request_head, build_response_head


def test_built_request_reads_back() -> None:
    head = parse_request_head(build_request_head(b"GET", b"/a?b", [(b"Host", b"a"), (b"X", b"y")]))
    assert (head.method, head.target, head.get(b"x")) == (b"GET", b"/a?b", b"y")


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb"])
def test_line_end_in_a_value_is_a_mistake(value: bytes) -> None:
    with pytest.raises(ValueError, match="line end"):
        build_response_head(200, b"OK", [(b"X", value)])


def test_blank_in_a_target_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="target"):
        build_request_head(b"GET", b"/a HTTP/1.1", [])


def test_answer_is_whole_and_says_when_the_connection_ends() -> None:
    data = build_answer(404, b"no", b"text/plain", close=True)
    head = parse_response_head(data[:-2])
    assert (head.status, head.content_length, head.keep_alive) == (404, 2, False)
    assert data.endswith(b"\r\n\r\nno")
