"""Well-formed requests of every shape, for the comparison of the gateway with nginx."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.gateway_stand import HOST
from tests.support.gateway_target import frame, pattern

HOST_LINE = f"Host: {HOST}\r\n".encode()
LAST = b"0\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """One request, sent in pieces. `methods` are those of the answers that come back, in order."""

    name: str
    pieces: tuple[bytes, ...]
    methods: tuple[str, ...] = ("GET",)
    differs: frozenset[str] = frozenset()
    """What nginx does not pass on: `trailers`, `interim`. There the target itself is what is compared with."""
    ends: bool = False
    """The connection is over afterwards."""


def head(method: str, target: str, *lines: str, minor: int = 1) -> bytes:
    """Return a request head."""
    more = "".join(f"{line}\r\n" for line in lines)
    return f"{method} {target} HTTP/1.{minor}\r\n".encode() + HOST_LINE + more.encode("latin-1") + b"\r\n"


def chunks(data: bytes, step: int, *, form: str = "%x", extension: bytes = b"", end: bytes = LAST) -> bytes:
    """Frame a body."""
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    return b"".join((form % len(part)).encode() + extension + b"\r\n" + part + b"\r\n" for part in parts) + end


def one(name: str, data: bytes, method: str = "GET", **more: object) -> Case:
    return Case(name, (data,), (method,), **more)


def methods() -> Iterator[Case]:
    for method in ("GET", "HEAD", "OPTIONS", "DELETE", "PROPFIND", "REPORT", "PURGE", "MKCOL"):
        yield one(f"method {method}", head(method, "/echo"), method)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        yield one(f"method {method} with a body", head(method, "/echo", "Content-Length: 3") + b"abc", method)
    yield one("POST without a length", head("POST", "/echo"), "POST")
    yield one("POST with a length of zero", head("POST", "/echo", "Content-Length: 0"), "POST")


def targets() -> Iterator[Case]:
    for target in (
        "/echo?",
        "/echo?a=b&c=d",
        "/echo?a=b;c=d",
        "/echo?a?b",
        "/echo?q=%00%ff",
        "/echo?url=http://other.test/",
        "/echo/caf%C3%A9",
        "/echo/a%20b",
        "/echo/a%2Fb",
        "/echo/a//b",
        "/echo/a;v=1/b",
        "/echo/~user",
        "/echo/!$&'()*+,;=:@-._~",
        "/echo/./a",
        "/echo/b/../c",
        "/echo/%7Euser",
        "/echo/" + "a" * 4000,
        "/echo?" + "b" * 6000,
        "/echo/{a}|^`\\",
    ):
        yield one(f"target {target[:40]}", head("GET", target))


def fields() -> Iterator[Case]:
    for name, lines in {
        "two of one": ["X-Custom: 1", "X-Custom: 2"],
        "empty": ["X-Empty:"],
        "long": ["X-Long: " + "v" * 6000],
        "cookies": ["Cookie: a=1; b=2; c=" + "d" * 500],
        "Latin-1": ["X-Custom: caf\xe9"],
        "without a blank": ["X-Custom:1"],
        "blanks around": ["X-Custom: \t 1  "],
        "upper case": ["X-CUSTOM: 1", "ACCEPT: */*"],
        "authorization": ["Authorization: Bearer abc.def"],
        "many": [f"X-Number-{n}: {n}" for n in range(80)] + ["X-Custom: last"],
        "browser": [
            "User-Agent: Mozilla/5.0",
            "Accept: text/html,*/*;q=0.8",
            "Accept-Language: en",
            "Referer: https://a/b",
        ],
        "conditions": ['If-None-Match: W/"x", "y"', 'If-Match: "z"'],
        "TE": ["TE: trailers", "Connection: TE"],
        "named by Connection": ["Connection: close"],
        "keep-alive": ["Connection: keep-alive", "Keep-Alive: timeout=5"],
    }.items():
        ends = "Connection: close" in lines
        yield one(f"fields, {name}", head("GET", "/echo", *lines), ends=ends)


def bodies() -> Iterator[Case]:
    sizes = (1, 2, 1023, 1024, 4096, 16_384, 65_535, 65_536, 131_072, 262_143, 262_144, 262_145, 1_048_576, 3_000_000)
    for size in sizes:
        data = pattern(size)
        yield one(f"body of {size}", head("POST", "/echo", f"Content-Length: {size}") + data, "POST")
    for size in (100, 70_000):
        data = head("POST", "/echo", f"Content-Length: {size}") + pattern(size)
        for step in (1, 37) if size == 100 else (1460, 16_384):
            pieces = tuple(data[at : at + step] for at in range(0, len(data), step))
            yield Case(f"body of {size} in pieces of {step}", pieces, ("POST",))
    start = head("POST", "/echo", "Transfer-Encoding: chunked")
    for size, step in (
        (0, 1),
        (1, 1),
        (100, 1),
        (1000, 999),
        (65_536, 4096),
        (262_145, 65_537),
        (1_000_000, 1_000_000),
    ):
        yield one(f"chunked body of {size} by {step}", start + chunks(pattern(size), step), "POST")
    yield one("chunked in capitals", start + chunks(pattern(300), 171, form="%X"), "POST")
    yield one("chunked with zeros", start + chunks(pattern(300), 30, form="%06x"), "POST")
    yield one("chunked with extensions", start + chunks(pattern(300), 30, extension=b';a=b;c="d e"'), "POST")
    framed = start + chunks(pattern(90), 17)
    yield Case("chunked byte by byte", tuple(framed[at : at + 1] for at in range(len(framed))), ("POST",))
    trailing = head("POST", "/trailers", "Transfer-Encoding: chunked", "Trailer: X-Sum")
    end = b"0\r\nX-Sum: " + hashlib.sha256(b"abc").hexdigest().encode() + b"\r\nX-Other: 1\r\n\r\n"
    yield one("trailers of a request", trailing + chunks(b"abc", 2, end=end), "POST", differs=frozenset({"body"}))


def answers() -> Iterator[Case]:
    for size in (0, 1, 1024, 16_384, 65_535, 65_536, 131_073, 262_144, 262_145, 1_048_577, 5_000_000):
        yield one(f"answer of {size}", head("GET", f"/sized?size={size}"))
    for size, step in ((0, 1), (1, 1), (100, 1), (70_000, 1000), (1_000_000, 65_536), (262_145, 262_145)):
        target = f"/chunked?size={size}&step={step}"
        yield one(f"chunked answer of {size} by {step}", head("GET", target), differs=frozenset({"trailers"}))
    extended = head("GET", "/chunked?size=300&step=30&extension=;a=b")
    yield one("chunked answer with extensions", extended, differs=frozenset({"trailers"}))
    for size in (0, 1, 70_000, 1_000_000):
        yield one(f"answer of {size} until the end", head("GET", f"/until-close?size={size}"))
    for code in (
        200,
        201,
        202,
        203,
        204,
        206,
        301,
        302,
        303,
        304,
        307,
        308,
        400,
        401,
        403,
        404,
        405,
        409,
        410,
        412,
        418,
    ):
        yield one(f"status {code}", head("GET", f"/status?code={code}"))
    for code in (422, 429, 451, 500, 501, 502, 503, 504, 599):
        yield one(f"status {code}", head("GET", f"/status?code={code}"))
    yield one("fields of an answer", head("GET", "/fields"))
    for target in ("/echo", "/status?code=204", "/status?code=304"):
        yield one(f"HEAD {target}", head("HEAD", target), "HEAD")


def ranges() -> Iterator[Case]:
    for value in ("0-0", "0-99", "100-", "-100", "9999-9999", "5000-99999", "10000-", "0-9,20-29"):
        yield one(f"range {value}", head("GET", "/range", f"Range: bytes={value}"))
    yield one("no range", head("GET", "/range"))


def interim() -> Iterator[Case]:
    for count in (1, 3):
        yield one(f"{count} early hints", head("GET", f"/hints?count={count}"), differs=frozenset({"interim"}))
    for size in (0, 3, 70_000):
        lines = ("Expect: 100-continue", f"Content-Length: {size}")
        body = pattern(size)
        differs = frozenset({"interim"})
        yield Case(f"expected body of {size}", (head("POST", "/echo", *lines), body), ("POST",), differs)
    refused = head("POST", "/expected", "Expect: 100-continue", "Content-Length: 5")
    yield one("refused expectation", refused, "POST", differs=frozenset({"interim"}), ends=True)


def streams() -> Iterator[Case]:
    for count in (1, 5, 300):
        yield one(f"{count} events", head("GET", f"/events?count={count}", "Accept: text/event-stream"))


def connections() -> Iterator[Case]:
    yield one("HTTP/1.0", head("GET", "/sized?size=10", minor=0), ends=True)
    yield one("HTTP/1.0 kept", head("GET", "/sized?size=10", "Connection: keep-alive", minor=0))
    yield one(
        "HTTP/1.0 reads a chunked answer",
        head("GET", "/chunked?size=5000", minor=0),
        differs=frozenset({"trailers"}),
        ends=True,
    )
    three = head("GET", "/sized?size=10") + head("GET", "/sized?size=70000") + head("GET", "/status?code=404")
    yield Case("three in a row at once", (three,), ("GET", "GET", "GET"))
    mixed = head("POST", "/echo", "Content-Length: 3") + b"abc" + head("HEAD", "/echo") + head("GET", "/fields")
    yield Case("three of three methods at once", (mixed,), ("POST", "HEAD", "GET"))
    body = head("POST", "/echo", "Transfer-Encoding: chunked") + chunks(b"x" * 50, 7) + head("GET", "/echo?next")
    yield Case("behind a chunked body", (body,), ("POST", "GET"))
    cut = head("GET", "/echo?cut")
    yield Case("head byte by byte", tuple(cut[at : at + 1] for at in range(len(cut))))


def all_cases() -> list[Case]:
    """Return every plain case."""
    made = (methods, targets, fields, bodies, answers, ranges, interim, streams, connections)
    return [case for make in made for case in make()]


MASK = b"\x11\x22\x33\x44"


def websocket_cases() -> dict[str, tuple[bytes, ...]]:
    """Return what a client sends behind the handshake, in pieces: the shapes that the Autobahn cases walk through."""
    close = frame(0x88, (1000).to_bytes(2), MASK)
    cases: dict[str, tuple[bytes, ...]] = {}
    for opcode, kind in ((0x81, "text"), (0x82, "binary")):
        for size in (0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 1_000_000):
            cases[f"{kind} of {size}"] = (frame(opcode, b"*" * size, MASK), close)
    for size in (0, 1, 125):
        cases[f"ping of {size}"] = (frame(0x89, b"p" * size, MASK), close)
    cases["ten pings"] = (*(frame(0x89, b"%d" % n, MASK) for n in range(10)), close)
    cases["unasked pong"] = (frame(0x8A, b"x", MASK), close)
    split = (frame(0x01, b"frag", MASK), frame(0x00, b"men", MASK), frame(0x80, b"ted", MASK))
    cases["fragments"] = (*split, close)
    cases["ping between fragments"] = (split[0], frame(0x89, b"now", MASK), *split[1:], close)
    cases["empty fragments"] = (frame(0x01, b"", MASK), frame(0x00, b"", MASK), frame(0x80, b"", MASK), close)
    cases["many fragments"] = (
        frame(0x02, b"a" * 100, MASK),
        *(frame(0x00, b"b" * 100, MASK) for _ in range(200)),
        frame(0x80, b"c", MASK),
        close,
    )
    whole = frame(0x81, b"byte by byte", MASK) + close
    cases["byte by byte"] = tuple(whole[at : at + 1] for at in range(len(whole)))
    cases["all at once"] = (b"".join(frame(0x81, b"%d" % n, MASK) for n in range(100)) + close,)
    cases["text in UTF-8"] = (frame(0x81, "κόσμε 🚋".encode(), MASK), close)
    cases["text that is not UTF-8"] = (frame(0x81, b"\xff\xfe\xc0", MASK), close)
    cases["reserved bits"] = (frame(0xC1, b"compressed", MASK), close)
    for code in (1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999):
        cases[f"close with {code}"] = (frame(0x88, code.to_bytes(2) + b"reason", MASK),)
    cases["close without a code"] = (frame(0x88, b"", MASK),)
    cases["with the handshake"] = (frame(0x81, b"early", MASK) + close,)
    return cases
