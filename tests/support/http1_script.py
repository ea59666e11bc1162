"""Reads a script of bytes as a server would, for tests of the HTTP/1.1 readers: heads and bodies, without a socket.

Also the table of bad requests, which is played against the pure readers and against the real edge.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from towline.wire import http1, http1_body

HOST = b"Host: app.example.test\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Got:
    """One whole request."""

    method: bytes
    target: bytes
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Refused:
    """The reader stopped here."""

    status: int


class Script:
    """A server's reading side; feed it in pieces of any size."""

    def __init__(self) -> None:
        self.seen: list[Got | Refused] = []
        self.head: http1.RequestHead | None = None
        self._buffer = http1.RequestBuffer()
        self._reader: http1_body.BodyReader | None = None
        self._body = b""

    def feed(self, data: bytes) -> None:
        if self.seen and isinstance(self.seen[-1], Refused):
            return
        self._buffer.feed(data)
        try:
            while self._step():
                pass
        except http1.HeadError as error:
            self.seen.append(Refused(error.status))

    def _step(self) -> bool:
        if self._reader is None:
            cut = self._buffer.cut()
            if cut is None:
                return False
            self.head = http1.parse_request_head(cut)
            self._reader = http1_body.body_reader(self.head.framing, self.head.content_length)
        assert self.head is not None
        self._body += b"".join(self._reader.feed(self._buffer.take()))
        if not self._reader.is_done:
            return False
        self._buffer.feed(self._reader.rest)
        self.seen.append(Got(self.head.method, self.head.target, self._body))
        self._reader, self._body = None, b""
        return True


def read(pieces: Iterable[bytes]) -> list[Got | Refused]:
    """Return what a server makes of the pieces."""
    script = Script()
    for piece in pieces:
        script.feed(piece)
    return script.seen


def cuts(data: bytes, *, most: int = 400) -> Iterator[list[bytes]]:
    """Yield the data whole, byte by byte, and cut in two at every byte (evenly spread when it is long)."""
    yield [data]
    if len(data) <= most:
        yield [data[i : i + 1] for i in range(len(data))]
    step = max(1, len(data) // most)
    for at in range(1, len(data), step):
        yield [data[:at], data[at:]]


def _host(value: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


BAD_REQUESTS: dict[str, tuple[bytes, set[int]]] = {
    "length and chunked together": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "chunked and length together": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", {400}),
    "two lengths that differ": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", {400}),
    "two lengths that agree": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", {400}),
    "length with a plus": (POST + b"Content-Length: +5\r\n\r\nhello", {400}),
    "length list": (POST + b"Content-Length: 5, 5\r\n\r\nhello", {400}),
    "length in hex": (POST + b"Content-Length: 0x5\r\n\r\nhello", {400}),
    "negative length": (POST + b"Content-Length: -5\r\n\r\nhello", {400}),
    "length of 2^64": (POST + b"Content-Length: 18446744073709551616\r\n\r\n", {400}),
    "length of 2^64 + 5": (POST + b"Content-Length: 18446744073709551621\r\n\r\nhello", {400}),
    "empty length": (POST + b"Content-Length: \r\n\r\n", {400}),
    "length with a blank inside": (POST + b"Content-Length: 5 5\r\n\r\n", {400}),
    "length with underscore": (POST + b"Content-Length: 1_0\r\n\r\n", {400}),
    "xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", {400}),
    "chunked, identity": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", {400}),
    "gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", {400}),
    "identity": (POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", {400}),
    "two encodings": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "blank before the colon": (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", {400}),
    "vertical tab before chunked": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", {400}),
    "chunked in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "chunk size with 0x": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", {400}),
    "negative chunk size": (CHUNKED + b"-1\r\nhello\r\n0\r\n\r\n", {400}),
    "chunk size with a plus": (CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", {400}),
    "chunk size of 17 digits": (CHUNKED + b"00000000000000005\r\nhello\r\n0\r\n\r\n", {400}),
    "chunk size that overflows": (CHUNKED + b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", {400}),
    "chunk size with a blank": (CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", {400}),
    "empty chunk size": (CHUNKED + b"\r\nhello\r\n0\r\n\r\n", {400}),
    "chunk longer than it said": (CHUNKED + b"3\r\nhello\r\n0\r\n\r\n", {400}),
    "chunk with other terminator": (CHUNKED + b"5\r\nhelloXX0\r\n\r\n", {400}),
    "chunk ended by LF": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", {400}),
    "chunk size ended by LF": (CHUNKED + b"5\nhello\r\n0\r\n\r\n", {400}),
    "LF in a chunk extension": (CHUNKED + b"5;a=\nb\r\nhello\r\n0\r\n\r\n", {400}),
    "CR in a chunk extension": (CHUNKED + b"5;a=\rb\r\nhello\r\n0\r\n\r\n", {400}),
    "chunk extension of 1 MB": (CHUNKED + b"5;a=" + b"x" * 1_000_000 + b"\r\nhello\r\n0\r\n\r\n", {400}),
    "chunk extension that is no token": (CHUNKED + b"5;\xd6=b\r\nhello\r\n0\r\n\r\n", {400}),
    "chunk extension with a blank": (CHUNKED + b"5; a=b\r\nhello\r\n0\r\n\r\n", {400}),
    "many chunk extensions": (CHUNKED + (b"1;a=" + b"x" * 900 + b"\r\nh\r\n") * 100 + b"0\r\n\r\n", {400}),
    "endless trailers": (CHUNKED + b"0\r\n" + b"".join(b"T%d: x\r\n" % n for n in range(5000)) + b"\r\n", {400, 431}),
    "one endless trailer": (CHUNKED + b"0\r\nT: " + b"x" * 100_000 + b"\r\n\r\n", {400, 431}),
    "folded trailer": (CHUNKED + b"0\r\nT: x\r\n y\r\n\r\n", {400}),
    "trailer that frames": (CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", {400}),
    "trailer that routes": (CHUNKED + b"0\r\nHost: evil.test\r\n\r\n", {400}),
    "trailer without a colon": (CHUNKED + b"0\r\nnothing\r\n\r\n", {400}),
    "bare LF after the request line": (b"GET / HTTP/1.1\nHost: app.example.test\r\n\r\n", {400}),
    "bare LF everywhere": (b"GET / HTTP/1.1\nHost: app.example.test\n\n", {400}),
    "bare LF in a field": (GET + b"A: b\nX: y\r\n\r\n", {400}),
    "bare CR in a field": (GET + b"A: b\rX: y\r\n\r\n", {400}),
    "bare CR in the request line": (b"GET /\r HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "NUL in a field": (GET + b"A: b\x00c\r\n\r\n", {400}),
    "NUL in a name": (GET + b"A\x00: b\r\n\r\n", {400}),
    "NUL in the target": (b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "control character in a field": (GET + b"A: b\x01c\r\n\r\n", {400}),
    "DEL in a field": (GET + b"A: b\x7fc\r\n\r\n", {400}),
    "folded field": (GET + b"A: b\r\n c\r\n\r\n", {400}),
    "folded by a tab": (GET + b"A: b\r\n\tc\r\n\r\n", {400}),
    "folded first field": (b"GET / HTTP/1.1\r\n Host: app.example.test\r\n\r\n", {400}),
    "field without a colon": (GET + b"nothing\r\n\r\n", {400}),
    "field without a name": (GET + b": x\r\n\r\n", {400}),
    "blank in a name": (GET + b"A B: x\r\n\r\n", {400}),
    "non-ASCII name": (GET + "Ä: x\r\n\r\n".encode(), {400}),
    "two Hosts": (GET + b"Host: evil.test\r\n\r\n", {400}),
    "two equal Hosts": (GET + HOST + b"\r\n", {400}),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", {400}),
    "no Host in HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", {400}),
    "empty Host": (_host(b""), {400}),
    "Host with a user": (_host(b"a@b"), {400}),
    "Host with a path": (_host(b"evil/x"), {400}),
    "Host with a query": (_host(b"evil?y"), {400}),
    "Host with a fragment": (_host(b"evil#y"), {400}),
    "Host with a large port": (_host(b"a:99999"), {400}),
    "Host with port 0": (_host(b"a:0"), {400}),
    "Host with an empty port": (_host(b"a:"), {400}),
    "Host with a port in words": (_host(b"a:http"), {400}),
    "Host with two ports": (_host(b"a:80:80"), {400}),
    "Host with an open bracket": (_host(b"[::1"), {400}),
    "Host with a bracketed name": (_host(b"[abc]"), {400}),
    "Host with a zone": (_host(b"[fe80::1%25eth0]"), {400}),
    "Host with text behind the bracket": (_host(b"[::1]x"), {400}),
    "Host with bare IPv6": (_host(b"::1"), {400}),
    "Host with two dots": (_host(b"a..b"), {400}),
    "Host of dots": (_host(b"."), {400}),
    "Host with two trailing dots": (_host(b"a.."), {400}),
    "Host with an underscore": (_host(b"a_b.test"), {400}),
    "Host with a leading hyphen": (_host(b"-a.test"), {400}),
    "Host in Unicode": (_host("bücher.test".encode()), {400}),
    "Host with an escape": (_host(b"%61.test"), {400}),
    "Host with a blank": (_host(b"a b"), {400}),
    "Host with a comma": (_host(b"a,b"), {400}),
    "Host of 300 bytes": (_host(b".".join([b"a" * 49] * 6)), {400}),
    "Host with a label of 64 bytes": (_host(b"a" * 64 + b".test"), {400}),
    "absolute form with another host": (b"GET http://evil.test/ HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "absolute form with the same host": (b"GET http://app.example.test/ HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "CONNECT": (b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n", {400, 405}),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "target without a slash": (b"GET index.html HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "target with a fragment": (b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "target with raw UTF-8": ("GET /ä HTTP/1.1\r\n".encode() + HOST + b"\r\n", {400}),
    "target with a tab": (b"GET /a\tb HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "target with a blank": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "two blanks after the method": (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "two blanks before the version": (b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "blank after the version": (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", {400}),
    "leading empty line": (b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "leading blank": (b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "field of 2 MB": (GET + b"A: " + b"x" * 2_000_000 + b"\r\n\r\n", {431}),
    "1,000 fields": (GET + b"".join(b"A%d: x\r\n" % n for n in range(1000)) + b"\r\n", {431}),
    "path of 70 KB": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", {414}),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", {505}),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {505}),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", {505}),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", {505}),
    "no version": (b"GET /\r\n" + HOST + b"\r\n", {400}),
    "lower-case version": (b"GET / http/1.1\r\n" + HOST + b"\r\n", {400}),
    "version of three digits": (b"GET / HTTP/1.10\r\n" + HOST + b"\r\n", {400}),
    "lower-case method": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "unknown method": (b"FROBNICATE / HTTP/1.1\r\n" + HOST + b"\r\n", {501}),
    "method of 8 KB": (b"A" * 8192 + b" / HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "method with a NUL": (b"G\x00T / HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "TLS on a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x11" * 64, {400}),
    "another expectation": (POST + b"Expect: 200-maybe\r\nContent-Length: 1\r\n\r\nx", {417}),
    "Connection that is no list of tokens": (GET + b"Connection: a b\r\n\r\n", {400}),
}
"""Name to (bytes, statuses that may answer them); rows 1 to 13 and 15 of the table in docs/design/edge.md."""
