"""Our own answers: Status objects, warnings, and where plain text is shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.kube.status import MAX_WARNING_CHARACTERS, prefers_text, reason_of, status, warning


def test_status_is_the_object_that_clients_parse() -> None:
    assert status(503, "ServiceUnavailable", "the agent is away") == (
        b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the agent is away",'
        b'"reason":"ServiceUnavailable","code":503}'
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (400, "BadRequest"), (401, "Unauthorized"), (403, "Forbidden"), (404, "NotFound"), (410, "Expired"),
        (413, "RequestEntityTooLarge"), (429, "TooManyRequests"), (500, "InternalError"), (502, "InternalError"),
        (503, "ServiceUnavailable"), (504, "Timeout"), (418, "BadRequest"),
    ],
)  # fmt: skip
def test_each_code_has_its_reason(code: int, reason: str) -> None:
    assert reason_of(code) == reason
    assert json.loads(status(code, "", "x"))["reason"] == reason


@given(st.text(st.characters(codec="utf-8")))
def test_any_message_survives_in_a_status(message: str) -> None:
    assert json.loads(status(400, "", message))["message"] == message


def test_warning_is_a_quoted_sentence() -> None:
    assert warning('the agent of "prod" is away') == b'299 - "the agent of \\"prod\\" is away"'


@given(st.text())
def test_warning_never_breaks_out_of_its_field(message: str) -> None:
    value = warning(message)
    assert value.startswith(b'299 - "')
    assert value.endswith(b'"')
    assert all(0x20 <= byte < 0x7F for byte in value)
    inside = value[7:-1].replace(b"\\\\", b"").replace(b'\\"', b"")
    assert b'"' not in inside
    assert b"\\" not in inside


def test_warning_is_short() -> None:
    assert len(warning("x" * 100_000)) == MAX_WARNING_CHARACTERS + len(b'299 - ""')


@pytest.mark.parametrize(
    "path", [b"/api", b"/api/", b"/apis", b"/version", b"/openapi", b"/openapi/v2", b"/openapi/v3/apis/a"]
)
def test_roots_of_discovery_prefer_text(path: bytes) -> None:
    assert prefers_text(path)


@pytest.mark.parametrize(
    "path", [b"/", b"/api/v1/pods", b"/apis/apps/v1", b"/openapix", b"/versions", b"/healthz", b"/x/api"]
)
def test_everything_else_prefers_a_status(path: bytes) -> None:
    assert not prefers_text(path)
