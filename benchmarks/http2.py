"""What HTTP/2 to the client would cost: one request in the kept Python library beside one in the edge's HTTP/1.1.

    python -m benchmarks.http2

Machines alone, without a network, in one process: a request with a short head arrives, an answer of 1 KiB is written.
HTTP/2 is h2 with its checks and without them; HTTP/1.1 is the edge's own strict reading and building. 32 requests of
one connection arrive at once, as from a browser or a gRPC client. The edge would decide, route and forward on top.
"""

import time
from collections.abc import Callable

from benchmarks.common import Row, table
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived

from towline.wire.http1 import RequestBuffer, RequestHead, parse_request_head
from towline.wire.http1_build import build_response_head

REQUESTS = 16_000
AT_ONCE = 32
ROUNDS = 3
EDGE_MICROSECONDS = 38.0
"""Processor time of the whole server for one request of 1 KiB over HTTP/1.1: the section on the gateway measures it."""
BODY = bytes(1024)
REQUEST = [
    (":method", "GET"),
    (":path", "/small"),
    (":scheme", "https"),
    (":authority", "app.example.test"),
    ("user-agent", "benchmark"),
    ("accept", "*/*"),
]
FIELDS = [
    ("server", "nginx"),
    ("content-type", "application/octet-stream"),
    ("content-length", "1024"),
    ("etag", '"abc-400"'),
    ("accept-ranges", "bytes"),
]
HEAD = b"GET /small HTTP/1.1\r\nHost: app.example.test\r\nUser-Agent: benchmark\r\nAccept: */*\r\n\r\n"


class Two:
    """A client and a server that speak HTTP/2; `spent` is the server's processor time."""

    def __init__(self, *, checks: bool) -> None:
        self.spent = 0.0
        self._client, self._server = (H2Connection(_config(is_client, checks)) for is_client in (True, False))
        self._client.initiate_connection()
        self._server.initiate_connection()
        for source, sink in ((self._client, self._server), (self._server, self._client), (self._client, self._server)):
            sink.receive_data(source.data_to_send())

    def exchange(self) -> None:
        """Ask many times at once, and let the server answer."""
        for _ in range(AT_ONCE):
            self._client.send_headers(self._client.get_next_available_stream_id(), REQUEST, end_stream=True)
        asked = self._client.data_to_send()
        began = time.process_time()
        answered = self._serve(asked)
        self.spent += time.process_time() - began
        for event in self._client.receive_data(answered):
            if isinstance(event, DataReceived):
                self._client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self._server.receive_data(self._client.data_to_send())

    def _serve(self, data: bytes) -> bytes:
        for event in self._server.receive_data(data):
            if isinstance(event, RequestReceived):
                self._server.send_headers(event.stream_id, [(":status", "200"), *FIELDS])
                self._server.send_data(event.stream_id, BODY, end_stream=True)
        answer: bytes = self._server.data_to_send()
        return answer


def _config(is_client: bool, checks: bool) -> H2Configuration:
    return H2Configuration(
        client_side=is_client,
        validate_inbound_headers=checks,
        normalize_inbound_headers=checks,
        validate_outbound_headers=checks,
        normalize_outbound_headers=checks,
    )


class One:
    """A server that speaks HTTP/1.1, as the edge reads and writes it."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._buffer = RequestBuffer()
        self._before: RequestHead | None = None
        self._lines = [(name.encode(), value.encode()) for name, value in FIELDS]

    def exchange(self) -> None:
        """Read many requests that arrived at once, and write the answers."""
        began = time.process_time()
        self._buffer.feed(HEAD * AT_ONCE)
        while (raw := self._buffer.cut()) is not None:
            self._before = parse_request_head(raw, before=self._before)
            _ = build_response_head(200, b"OK", self._lines) + BODY
        self.spent += time.process_time() - began


def per_request(make: Callable[[], One | Two]) -> float:
    """Return microseconds of processor time of one request, the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        machine = make()
        for _ in range(REQUESTS // AT_ONCE):
            machine.exchange()
        best = min(best, machine.spent / REQUESTS * 1e6)
    return best


def main() -> None:
    """Measure, and print the table."""
    ours = per_request(One)
    rows: list[Row] = [("HTTP/1.1, the edge's machine", f"{ours:.0f} µs", "", None)]
    for label, checks in (("HTTP/2, h2", True), ("HTTP/2, h2 without its checks", False)):
        theirs = per_request(lambda checks=checks: Two(checks=checks))  # type: ignore[misc]
        kept = EDGE_MICROSECONDS / (EDGE_MICROSECONDS - ours + theirs)
        measured = f"{theirs:.0f} µs: the edge would keep x{kept:.2f} of its rate"
        rows.append((label, measured, "x0.5", kept >= 0.5))
    print(table(rows))


if __name__ == "__main__":
    main()
