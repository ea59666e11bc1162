"""Answers that a PipeOps agent sends, in each form that it has: streamed, whole, binary, failed, upgraded."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from towline.aio.streams import StreamError
from towline.control.protocols.pipeops import requests as limits
from towline.control.protocols.pipeops.requests import Requests
from towline.tunnel.errors import TargetRefused, TunnelClosed
from towline.wire import pipeops, pipeops_frames
from towline.wire import pipeops_messages as messages

ASKED = messages.ProxyRequest(method="GET", path="/api/v1/pods", supports_response_streaming=True)
TEXT = {"Content-Type": ("text/plain",)}


@dataclass
class Collected:
    """An answer as it came. Implements `Asker`."""

    goes_on: bool = False
    status: int = 0
    headers: messages.Headers = field(default_factory=dict)
    body: bytes = b""
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    ends: int = 0
    error: str = ""

    def answered(self, status: int, headers: messages.Headers) -> None:
        self.status, self.headers = status, headers

    def arrived(self, data: bytes) -> None:
        self.body += data

    def framed(self, kind: int, payload: bytes) -> None:
        self.frames.append((kind, payload))

    def ended(self) -> None:
        self.ends += 1

    def failed(self, error: StreamError) -> None:
        self.error = str(error)


class Asking:
    """Requests on a line that keeps what was asked, and one that waits."""

    def __init__(self, **how: Any) -> None:
        self.said: list[tuple[messages.Message, str]] = []
        self.requests = Requests(lambda message, request_id: self.said.append((message, request_id)))
        self.answer = Collected(**how)
        self.id = self.requests.begin(ASKED, self.answer)

    def hears(self, name: str, payload: Any, request_id: str = "") -> None:
        text = json.dumps({"type": name, "request_id": request_id or self.id, "payload": payload})
        envelope = pipeops.decode(text.encode())
        self.requests.take(envelope.stream, envelope.message)

    def chunk(self, data: bytes) -> None:
        text = base64.b64encode(data).decode()
        self.hears("proxy_response_chunk", {"data": text, "encoding": "base64", "size": len(data)})


def test_a_streamed_answer_is_its_header_its_chunks_in_order_and_its_end() -> None:
    asking = Asking()
    assert asking.said == [(ASKED, asking.id)]
    asking.hears("proxy_response_header", {"status": 200, "headers": {"Content-Type": ["text/plain"]}})
    for piece in (b"one ", b"two ", b"three"):
        asking.chunk(piece)
    asking.hears("proxy_response_end", {})
    answer = asking.answer
    assert (answer.status, answer.headers, answer.body, answer.ends) == (200, TEXT, b"one two three", 1)
    assert len(asking.requests) == 0


def test_headers_that_are_null_are_none_at_all() -> None:
    asking = Asking()
    asking.hears("proxy_response_header", {"status": 204, "headers": None})
    asking.hears("proxy_response_end", {})
    assert (asking.answer.status, asking.answer.headers, asking.answer.ends) == (204, {}, 1)


@pytest.mark.parametrize("has_begun", [True, False])
def test_an_abort_fails_the_answer_with_or_without_a_header_before_it(has_begun: bool) -> None:
    asking = Asking()
    if has_begun:
        asking.hears("proxy_response_header", {"status": 200, "headers": None})
    asking.hears("proxy_response_abort", {"error": "context deadline exceeded"})
    assert "context deadline exceeded" in asking.answer.error
    assert (asking.answer.ends, len(asking.requests)) == (0, 0)


def test_a_proxy_error_ends_the_request() -> None:
    asking = Asking()
    asking.hears("proxy_error", {"error": "kubernetes client not initialized"})
    assert "kubernetes client not initialized" in asking.answer.error
    assert len(asking.requests) == 0


@pytest.mark.parametrize("size", [0, 5, 5000])
def test_a_whole_answer_is_unpacked_whatever_the_transport_did_to_it(size: int) -> None:
    body = b"x" * size
    packed, encoding = pipeops_frames.pack_body(body, TEXT)
    payload = {"status": 200, "headers": {"Content-Type": ["text/plain"]}}
    if packed:
        payload |= {"body": packed, "encoding": encoding}
    asking = Asking()
    asking.hears("proxy_response", payload)
    assert (asking.answer.status, asking.answer.body, asking.answer.ends) == (200, body, 1)


def test_a_binary_answer_is_taken_by_its_own_id() -> None:
    asking = Asking()
    frame = pipeops_frames.ResponseFrame(request_id=asking.id, status=200, headers=TEXT, body=b"y" * 20_000)
    asking.requests.take_whole(frame.request_id, frame)
    assert (asking.answer.status, asking.answer.body, asking.answer.ends) == (200, b"y" * 20_000, 1)


def test_a_whole_answer_that_cannot_be_unpacked_fails_its_own_request_alone() -> None:
    asking, other = Asking(), Collected()
    asking.requests.expect("other", other)
    asking.hears("proxy_response", {"status": 200, "headers": None, "body": "!!", "encoding": "base64"})
    assert "base64" in asking.answer.error
    assert (other.error, len(asking.requests)) == ("", 1)


def test_the_end_behind_a_101_ends_nothing_and_frames_follow() -> None:
    asking = Asking(goes_on=True)
    asking.hears("proxy_response_header", {"status": 101, "headers": None})
    asking.hears("proxy_response_end", {})
    for data, extra in ((b"\x01text", {"message_type": 1}), (b"\x02\x00\xff", {})):
        asking.hears("proxy_websocket_data", {"stream_id": asking.id, "data": base64.b64encode(data).decode(), **extra})
    assert asking.answer.frames == [(1, b"text"), (2, b"\x00\xff")]
    asking.hears("proxy_websocket_close", {"stream_id": asking.id})
    assert (asking.answer.ends, len(asking.requests)) == (2, 0)


def test_what_comes_after_a_request_was_given_up_is_dropped_as_a_cancel_cancels_nothing() -> None:
    asking = Asking()
    asking.requests.forget(asking.id)
    asking.hears("proxy_response_header", {"status": 200, "headers": None})
    asking.chunk(b"late")
    asking.hears("proxy_response_end", {})
    assert (asking.answer.status, asking.answer.body, asking.answer.ends) == (0, b"", 0)
    assert asking.requests.strays == 3


@pytest.mark.parametrize("foreign", ["tw-999", "x", "r" * 4000])
def test_an_answer_to_an_id_that_nobody_waits_for_touches_no_other(foreign: str) -> None:
    asking = Asking()
    asking.hears("proxy_response_abort", {"error": "not yours"}, foreign)
    assert (asking.answer.error, asking.requests.strays) == ("", 1)


def test_an_answer_that_is_repeated_counts_once() -> None:
    asking = Asking()
    for _ in range(2):
        asking.hears("proxy_response_header", {"status": 200, "headers": None})
        asking.chunk(b"once")
        asking.hears("proxy_response_end", {})
    assert (asking.answer.body, asking.answer.ends, asking.requests.strays) == (b"once", 1, 3)


def test_requests_beyond_the_limit_are_refused_as_busy() -> None:
    asking = Asking()
    for number in range(limits.MAX_WAITING - 1):
        asking.requests.expect(f"r{number}", Collected())
    with pytest.raises(TargetRefused, match="wait for this agent"):
        asking.requests.begin(ASKED, Collected())
    assert len(asking.requests) == limits.MAX_WAITING


def test_the_end_of_the_connection_fails_what_waits() -> None:
    asking = Asking()
    asking.requests.lose(TunnelClosed("tunnel closed: gone"))
    assert "gone" in asking.answer.error
