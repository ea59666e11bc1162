"""Errors of the data plane become answers that say what happened and hide where."""

import json

import pytest

from towline.gateway.errors import (
    UpstreamAway,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
    as_upstream_error,
    error_answer,
    status_body,
    words_for_clients,
)
from towline.tunnel.errors import TargetRefused, TunnelClosed


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (None, UpstreamUnreachable, 502),
        (ConnectionResetError(), UpstreamUnreachable, 502),
        (TunnelClosed("gone"), UpstreamAway, 503),
        (TargetRefused("forbidden", "policy"), UpstreamRefused, 502),
        (TargetRefused("unreachable", "10.0.0.7:80"), UpstreamUnreachable, 502),
        (TargetRefused("timeout"), UpstreamTimeout, 504),
        (TargetRefused("busy"), UpstreamAway, 503),
        (TargetRefused("something new"), UpstreamRefused, 502),
        (UpstreamTimeout("slow"), UpstreamTimeout, 504),
    ],
)
def test_end_of_a_connection_has_one_meaning(error: Exception | None, kind: type[UpstreamError], status: int) -> None:
    translated = as_upstream_error(error)
    assert type(translated) is kind
    assert translated.status == status


def test_clients_do_not_read_addresses() -> None:
    assert "10.0.0.7" not in words_for_clients(as_upstream_error(TargetRefused("unreachable", "10.0.0.7:80")))


def test_error_has_the_shape_of_every_api_error() -> None:
    body = error_answer(400, "bad_host", "no").partition(b"\r\n\r\n")[2]
    assert set(json.loads(body)["error"]) == {"code", "message", "hint", "detail", "request_id"}


def test_kubernetes_clients_get_a_status() -> None:
    status = json.loads(status_body(404, "no such cluster"))
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 404, "NotFound")
