"""Stands between us and a Pebble, and does what Pebble cannot: rate limits, failures, silence, a clock that is off.

Requests go on with the Host that they came with, so that the authority's addresses, which are signed, are the proxy's.
"""

import http.client
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme
from tests.testbed.pebble import Authority

TIMEOUT = 30.0


@dataclass
class Reply:
    """What is answered instead of asking, or after it."""

    status: int
    headers: dict[str, str]
    body: bytes


def problem(code: str, detail: str, status: int = 403, **headers: str) -> Reply:
    """A refusal as authorities word it."""
    body = {"type": f"urn:ietf:params:acme:error:{code}", "detail": detail, "status": status}
    return Reply(status, {"Content-Type": "application/problem+json", **headers}, json.dumps(body).encode())


Meddling = Callable[[str], Reply | None]


@dataclass
class AcmeProxy:
    """A running proxy. `instead` answers before the authority is asked; `after` changes what it said."""

    authority: Authority
    folder: Path
    instead: Meddling = lambda path: None
    after: Callable[[str, Reply], Reply] = lambda path, reply: reply
    paths: list[str] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        ca = trustme.CA()
        own = ca.issue_cert("127.0.0.1")
        self.ca_file = self.folder / "proxy-ca.pem"
        ca.cert_pem.write_to_path(str(self.ca_file))
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.configure_cert(trust)
        self._upstream = ssl.create_default_context(cafile=str(self.authority.ca_file))
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.socket = trust.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "AcmeProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def directory(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}/dir"

    def count(self, word: str) -> int:
        """How many requests had a word in their path."""
        return len([path for path in self.paths if word in path])

    def wait_for(self, word: str, timeout: float = TIMEOUT) -> None:
        """Wait until a request with a word in its path has arrived."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: self.count(word), timeout), f"no {word} in {self.paths}"

    def _seen(self, path: str) -> None:
        with self.arrived:
            self.paths.append(path)
            self.arrived.notify_all()

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.authority.ports.acme, context=self._upstream, timeout=TIMEOUT
        )
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    proxy: AcmeProxy
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self._pass()

    def do_POST(self) -> None:
        self._pass()

    def do_HEAD(self) -> None:
        self._pass()

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.proxy._seen(self.path)
        reply = self.proxy.instead(self.path)
        if reply is None:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            reply = self.proxy.after(self.path, self.proxy._ask(self.command, self.path, headers, body))
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests look at `paths`."""
