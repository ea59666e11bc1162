"""What no handler sees: text and numbers that a database cannot hold."""

import json

import pytest

from towline.control.errors import ApiError
from towline.control.guard import check_json


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "\\u0000"}',
        b'{"a\\u0000": 1}',
        b'["\\ud800"]',
        b'["\\udc00\\ud800"]',
        b"[1e400]",
        b"[NaN]",
        b"[-Infinity]",
        b"[9223372036854775808]",
        b"[" * 5000,
        json.dumps([[[[["x"]]]]]).encode().replace(b"[", b"[" * 20).replace(b"]", b"]" * 20),
    ],
)
def test_json_that_cannot_be_stored_is_refused(body: bytes) -> None:
    if body.startswith(b"[[[[[") and body.count(b"]") == 0:
        body += b"]" * 5000
    with pytest.raises(ApiError) as raised:
        check_json(body)
    assert raised.value.status == 422


@pytest.mark.parametrize(
    "body", [b'{"a": "\\ud83d\\ude00"}', b'["\\\\u0000"]', b"[9223372036854775807]", b"[1.5]", b'"\xc3\xa9"', b"{"]
)
def test_other_json_passes_to_the_handler(body: bytes) -> None:
    check_json(body)
