"""Requests to the API server as messages, held against what a real agent was asked and what it answered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.control.protocols.pipeops.translation import (
    WATCH_SECONDS,
    CannotCarry,
    Carried,
    answer_head,
    carried,
    own_answer,
)
from towline.wire import pipeops
from towline.wire import pipeops_messages as messages
from towline.wire.http1 import parse_request_head, parse_response_head


def of(line: str, *fields: str) -> Carried:
    head = "\r\n".join([f"{line} HTTP/1.1", "Host: kubernetes.default.svc:443", *fields, "", ""])
    return carried(parse_request_head(head.encode()))


def test_a_request_is_the_message_that_a_real_agent_understood() -> None:
    asked = of(
        "GET /api/v1/namespaces/default/pods?limit=2", "authorization: Bearer SA_TOKEN", "accept: application/json"
    )
    text = pipeops.encode(asked.request(), request_id="r1")
    recorded = (
        b'{"type":"proxy_request","request_id":"r1","payload":{"method":"GET","path":"/api/v1/namespaces/default/pods",'
        b'"query":"limit=2","headers":{"Authorization":"Bearer SA_TOKEN","Accept":"application/json"},'
        b'"supports_response_streaming":true}}'
    )
    assert text == recorded


def test_a_body_is_whole_and_in_base64() -> None:
    request = of("POST /api/v1/namespaces/default/configmaps").request(b'{"a":"\xff"}')
    assert (request.body, request.body_encoding) == ("eyJhIjoi/yJ9", "base64")
    assert not request.use_streaming and not request.body_binary


def test_fields_of_one_connection_and_lengths_never_reach_the_agent() -> None:
    asked = of(
        "POST /api/v1/namespaces", "Content-Length: 2", "Connection: keep-alive", "Expect: 100-continue", "TE: trailers"
    )
    assert asked.headers == {}


@pytest.mark.parametrize("field", ["X-Forwarded-Host: shop", "X-Forwarded-Proto: https", "Sec-WebSocket-Protocol: x"])
def test_fields_by_which_the_agent_would_go_elsewhere_never_reach_it(field: str) -> None:
    assert of("GET /api/v1/pods", field).headers == {}


def test_identity_is_passed_as_it_is_and_repeated_fields_stay_repeated() -> None:
    asked = of(
        "GET /api/v1/pods", "Impersonate-User: towline:ada", "Impersonate-Group: a", "impersonate-group: b",
        "Impersonate-Extra-towline.dev%2Frequest-id: q1",
    )  # fmt: skip
    assert asked.headers == {
        "Impersonate-User": "towline:ada",
        "Impersonate-Group": ("a", "b"),
        "Impersonate-Extra-Towline.dev%2frequest-Id": "q1",
    }


@pytest.mark.parametrize("path", ["/", "/metrics", "/apisomething", "/logs/", "/.well-known/openid-configuration"])
def test_a_path_that_the_agent_would_take_elsewhere_with_the_token_is_refused(path: str) -> None:
    with pytest.raises(CannotCarry) as refused:
        of(f"GET {path}")
    assert refused.value.code == 404


@pytest.mark.parametrize(
    "tail", ["a%2Fb", "a%3Fb", "a%23b", "a%25b", "a%5Cb", "..", "a%0Ab", "a%00", "%2E%2E/x", "%FF"]
)
def test_a_path_that_the_agent_could_read_in_another_way_is_refused(tail: str) -> None:
    with pytest.raises(CannotCarry):
        of(f"GET /api/v1/namespaces/x/services/web/proxy/{tail}")


def test_a_path_is_decoded_once() -> None:
    assert of("GET /api/v1/namespaces/a/configmaps/kube%20root%3Acrt").path.endswith("/kube root:crt")


def test_a_bare_semicolon_is_encoded_since_it_would_end_the_query() -> None:
    assert of("GET /api/v1/namespaces/a/pods/b/log?x=1;2&y=%3B").query == "x=1%3B2&y=%3B"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("watch=1", "watch=1&timeoutSeconds=25"),
        ("watch=true&timeoutSeconds=300&resourceVersion=7", "watch=true&resourceVersion=7&timeoutSeconds=25"),
        ("watch=true&timeoutSeconds=10", "watch=true&timeoutSeconds=10"),
        ("watch=true&timeoutSeconds=0", "watch=true&timeoutSeconds=25"),
        ("watch=true&timeoutSeconds=soon", "watch=true&timeoutSeconds=25"),
        ("watch=false&timeoutSeconds=300", "watch=false&timeoutSeconds=300"),
    ],
)
def test_a_watch_ends_by_the_api_servers_own_hand_before_the_agent_cuts_it(query: str, expected: str) -> None:
    assert of(f"GET /api/v1/pods?{query}").query == expected


def test_the_old_form_of_watches_is_known() -> None:
    asked = of("GET /api/v1/watch/pods")
    assert asked.is_watch and asked.query == f"timeoutSeconds={WATCH_SECONDS}"


def test_a_followed_log_is_known() -> None:
    assert of("GET /api/v1/namespaces/a/pods/b/log?follow=true").is_followed_log
    assert not of("GET /api/v1/namespaces/a/pods/b/log?follow=false").is_followed_log
    assert not of("GET /api/v1/namespaces/a/pods/b").is_followed_log


def test_nothing_secret_is_shown() -> None:
    asked = of("POST /api/v1/namespaces", "Authorization: Bearer hush")
    assert "hush" not in repr(asked) + repr(asked.request(b"hush")) + repr(asked.websocket("s", "v5.channel.k8s.io"))


# -- answers -----------------------------------------------------------------------------------


def test_an_answer_keeps_its_fields_and_is_framed_anew() -> None:
    headers: messages.Headers = {
        "Content-Type": ("application/json",), "Content-Length": ("170",), "Warning": ("a", "b"), "Connection": ("x",),
        "Transfer-Encoding": ("gzip",),
    }  # fmt: skip
    head = parse_response_head(answer_head(of("GET /api/v1/pods"), 200, headers))
    assert head.chunked and head.content_length is None and head.keep_alive
    assert [(name, value) for _, name, value in head.fields] == [
        (b"Content-Type", b"application/json"), (b"Warning", b"a"), (b"Warning", b"b"),
        (b"Transfer-Encoding", b"chunked"),
    ]  # fmt: skip


def test_an_answer_to_head_keeps_its_length_and_has_no_body() -> None:
    head = parse_response_head(answer_head(of("HEAD /api/v1/pods"), 200, {"Content-Length": ("170",)}))
    assert head.content_length == 170 and not head.chunked


@pytest.mark.parametrize("code", [-1, 0, 99, 101, 199, 600])
def test_a_status_that_is_no_answer_is_refused(code: int) -> None:
    with pytest.raises(CannotCarry):
        answer_head(of("GET /api/v1/pods"), code, {})


@given(st.dictionaries(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=3).map(tuple), max_size=4))
def test_no_head_of_an_agent_breaks_out_of_its_fields(headers: messages.Headers) -> None:
    try:
        raw = answer_head(of("GET /api/v1/pods"), 200, headers)
    except CannotCarry as error:
        assert error.code == 502
        return
    head = parse_response_head(raw)
    assert head.chunked and head.upgrade is None and raw.count(b"\r\n\r\n") == 1


def test_our_own_answers_are_objects_that_kubectl_shows() -> None:
    whole = own_answer(429, "too many", close=True)
    assert b'"reason":"TooManyRequests"' in whole and b"retry-after: 1\r\n" in whole and b"connection: close" in whole
    assert own_answer(502, "x", is_head=True).endswith(b"\r\n\r\n")
