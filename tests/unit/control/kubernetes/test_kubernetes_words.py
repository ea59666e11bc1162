"""Errors in the shape of Kubernetes: a Status, the same words as a warning, and never a time to come back."""

import json

import pytest

from towline.control.kubernetes import words
from towline.gateway.errors import UpstreamError, UpstreamUnreachable, as_upstream_error
from towline.tunnel.errors import TargetRefused, TunnelClosed


@pytest.mark.parametrize("code", [400, 401, 403, 404, 429, 500, 502, 503, 504])
def test_every_error_is_a_status_and_a_warning(code: int) -> None:
    made = words.answer(code, 'the "cause" of it')
    said = json.loads(made.body or b"")
    assert (said["kind"], said["status"], said["code"]) == ("Status", "Failure", code)
    assert said["message"] == 'the "cause" of it'
    assert made.lines == ((b"Warning", rb'299 - "the \"cause\" of it"'),)
    assert made.content_type == b"application/json"


@pytest.mark.parametrize(
    ("error", "status", "part"),
    [
        (TargetRefused("forbidden", "reading only"), 403, "reading only"),
        (TargetRefused("unreachable", "connection refused"), 504, "connection refused"),
        (TargetRefused("timeout", "slow"), 504, "slow"),
        (TargetRefused("busy", ""), 503, "too many streams"),
        (TargetRefused("unsupported", "compose only"), 503, "no Kubernetes"),
        (TargetRefused("new word", "why"), 502, "why"),
        (TunnelClosed("gone"), 502, "lost"),
        (ConnectionResetError("x"), 502, "lost"),
        (None, 502, "lost"),
    ],
)
def test_end_of_the_way_is_told_with_its_cause(error: Exception | None, status: int, part: str) -> None:
    made = words.lost("prod", 502, "upstream", "", as_upstream_error(error))
    assert made.status == status
    assert part in made.message
    assert "prod" in made.message


def test_absent_agent_is_unavailable_and_not_a_lost_connection() -> None:
    error: UpstreamError = UpstreamUnreachable("no agent")
    error.refusal = "away"
    assert words.lost("prod", 503, "x", "", error).status == 503


def test_withdrawn_right_is_401_or_403_and_a_stopping_server_503() -> None:
    codes = {code: words.lost("prod", 403, code, "why", None).status for code in ("unauthenticated", "access_lost")}
    assert codes == {"unauthenticated": 401, "access_lost": 403}
    assert words.lost("prod", 403, "stopping", "why", None).status == 503


def test_unknown_cluster_has_one_wording() -> None:
    assert words.unknown_cluster("x") == words.unknown_cluster("x")
    assert words.unknown_cluster("x").status == 404
