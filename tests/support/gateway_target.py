"""A target behind a proxy that answers in every shape HTTP/1.1 knows, and keeps what reached it.

Its own small reader, so that the product's reader is not its own judge.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SAID = frozenset(
    {
        "accept",
        "accept-language",
        "authorization",
        "content-type",
        "cookie",
        "host",
        "if-match",
        "if-none-match",
        "range",
        "referer",
        "te",
        "user-agent",
        "x-custom",
        "x-empty",
        "x-long",
    }
)
"""Fields that `/echo` repeats, sorted. Framing is each hop's own: nginx gives short chunked bodies a length."""


@dataclass
class Request:
    """One request as the target read it."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def get(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.fields if key == name), default)


def pattern(size: int, seed: int = 1) -> bytes:
    """Return bytes that no compressor and no off-by-one survives."""
    return random.Random(seed).randbytes(size)


class Target:
    """Serves connections; `seen` holds every request that was read whole."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await Conversation(self, reader, writer).once():
                pass
        writer.close()


class Conversation:
    """One request and its answer."""

    def __init__(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._target = target
        self.reader = reader
        self.writer = writer

    async def once(self) -> bool:
        """Serve one request; False ends the connection."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        method, target, _ = first.split(" ")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        request = Request(method, target, fields)
        name = request.path.strip("/").split("/")[0]
        handler = HANDLERS.get(name, echo)
        if name not in EARLY:
            await self.read_body(request)
        self._target.seen.append(request)
        keep = await handler(self, request)
        await self.writer.drain()
        return keep and request.get("connection").lower() != "close"

    async def read_body(self, request: Request) -> None:
        if request.get("expect").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.get("transfer-encoding").lower() == "chunked":
            request.body, request.trailers = await self._chunked()
        else:
            request.body = await self.reader.readexactly(int(request.get("content-length", "0")))

    async def _chunked(self) -> tuple[bytes, list[tuple[str, str]]]:
        body = b""
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        trailers = []
        while (line := (await self.reader.readuntil(b"\r\n"))[:-2]) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            trailers.append((name.lower(), value.strip()))
        return body, trailers

    def say(self, status: str, body: bytes, *lines: str, length: bool = True) -> None:
        """Write an answer with a length."""
        framing = [f"Content-Length: {len(body)}"] if length else []
        head = "\r\n".join([f"HTTP/1.1 {status}", *lines, *framing, "", ""])
        self.writer.write(head.encode("latin-1") + body)

    def chunk(self, data: bytes, extension: bytes = b"") -> None:
        self.writer.write(b"%x%s\r\n%s\r\n" % (len(data), extension, data))


async def echo(talk: Conversation, request: Request) -> bool:
    """Repeat what arrived."""
    said = {
        "method": request.method,
        "target": request.target,
        "fields": sorted((name, value) for name, value in request.fields if name in SAID),
        "size": len(request.body),
        "sha256": hashlib.sha256(request.body).hexdigest(),
    }
    body = json.dumps(said).encode()
    lines = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    talk.say("200 OK", b"" if request.method == "HEAD" else body, *lines, length=False)
    return True


async def seen_trailers(talk: Conversation, request: Request) -> bool:
    talk.say("200 OK", json.dumps(request.trailers).encode())
    return True


async def sized(talk: Conversation, request: Request) -> bool:
    talk.say("200 OK", pattern(int(request.query["size"])), "Content-Type: application/octet-stream")
    return True


async def chunked(talk: Conversation, request: Request) -> bool:
    query = request.query
    data = pattern(int(query["size"]))
    step = int(query.get("step", "1000"))
    extension = query.get("extension", "").encode()
    talk.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
    for start in range(0, len(data), step):
        talk.chunk(data[start : start + step], extension)
        await talk.writer.drain()
    talk.writer.write(b"0\r\nX-Sum: %s\r\n\r\n" % hashlib.sha256(data).hexdigest().encode())
    return True


async def until_close(talk: Conversation, request: Request) -> bool:
    talk.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + pattern(int(request.query["size"])))
    return False


async def status(talk: Conversation, request: Request) -> bool:
    code = int(request.query["code"])
    if code in (204, 304):
        talk.say(f"{code} Without", b"", 'ETag: "x"', length=False)
    else:
        talk.say(f"{code} Some Words", b"body", "Location: /elsewhere")
    return True


async def fields(talk: Conversation, request: Request) -> bool:
    lines = ["Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; HttpOnly", "X-Twice: 1", "X-Twice: 2", "Vary: Accept"]
    lines += ["Cache-Control: no-cache", "X-Latin: caf\xe9", "X-Empty:", 'ETag: W/"abc"', "X-Long: " + "v" * 3000]
    talk.say("200 OK", b"fields", *lines)
    return True


async def ranged(talk: Conversation, request: Request) -> bool:
    data = pattern(10_000)
    value = request.get("range")
    if not value.startswith("bytes=") or "," in value:
        talk.say("200 OK", data, "Accept-Ranges: bytes")
        return True
    low, _, high = value[6:].partition("-")
    start = int(low) if low else len(data) - int(high)
    end = int(high) if low and high else len(data) - 1
    if start >= len(data):
        talk.say("416 Range Not Satisfiable", b"", f"Content-Range: bytes */{len(data)}")
        return True
    end = min(end, len(data) - 1)
    part = data[start : end + 1]
    talk.say("206 Partial Content", part, f"Content-Range: bytes {start}-{end}/{len(data)}")
    return True


async def hints(talk: Conversation, request: Request) -> bool:
    for number in range(int(request.query.get("count", "1"))):
        talk.writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </%d.css>; rel=preload\r\n\r\n" % number)
        await talk.writer.drain()
    talk.say("200 OK", b"hinted")
    return True


async def events(talk: Conversation, request: Request) -> bool:
    talk.writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    for number in range(int(request.query.get("count", "3"))):
        talk.chunk(b"id: %d\ndata: line %d\ndata: more\n\n" % (number, number))
        await talk.writer.drain()
    talk.writer.write(b"0\r\n\r\n")
    return True


async def refuse_early(talk: Conversation, request: Request) -> bool:
    """Answer before the body was read, and end."""
    talk.say("413 Too Large", b"no", "Connection: close")
    return False


async def expected(talk: Conversation, request: Request) -> bool:
    """Refuse an expectation: the body never comes."""
    talk.say("403 Forbidden", b"no", "Connection: close")
    return False


async def websocket(talk: Conversation, request: Request) -> bool:
    """Echo messages of any shape: each frame goes back as it came, unmasked."""
    key = request.get("sec-websocket-key").encode()
    accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest())
    talk.writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: chat\r\n\r\n" % accept
    )
    while True:
        first, opcode, payload = await read_frame(talk.reader)
        answer = 0xA if opcode == 0x9 else opcode
        talk.writer.write(frame((first & 0xF0) | answer, payload))
        await talk.writer.drain()
        if opcode == 0x8:
            return False


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """Return (first byte, opcode, payload) of one frame."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2))
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8))
    mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
    data = await reader.readexactly(size)
    if any(mask):
        repeated = (mask * (size // 4 + 1))[:size]
        data = (int.from_bytes(data) ^ int.from_bytes(repeated)).to_bytes(size) if size else b""
    return first, first & 0x0F, data


def frame(first: int, payload: bytes, mask: bytes = b"") -> bytes:
    """Return one frame; masked as clients do when a mask is given."""
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 65536:
        head = bytes([first, bit | 126]) + size.to_bytes(2)
    else:
        head = bytes([first, bit | 127]) + size.to_bytes(8)
    if mask and size:
        repeated = (mask * (size // 4 + 1))[:size]
        payload = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)
    return head + mask + payload


async def switched(talk: Conversation, request: Request) -> bool:
    """Switch to a protocol of raw bytes that are echoed in upper case, until the client ends its side."""
    name = request.get("upgrade")
    talk.writer.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {name}\r\nConnection: Upgrade\r\n\r\n".encode())
    while data := await talk.reader.read(65536):
        talk.writer.write(data.upper())
        await talk.writer.drain()
    talk.writer.write(b"bye")
    return False


async def not_switched(talk: Conversation, request: Request) -> bool:
    talk.say("400 Bad Request", b"no upgrade here")
    return True


HANDLERS: dict[str, Callable[[Conversation, Request], Awaitable[bool]]] = {
    "echo": echo,
    "trailers": seen_trailers,
    "sized": sized,
    "chunked": chunked,
    "until-close": until_close,
    "status": status,
    "fields": fields,
    "range": ranged,
    "hints": hints,
    "events": events,
    "early": refuse_early,
    "expected": expected,
    "websocket": websocket,
    "switch": switched,
    "no-switch": not_switched,
}
EARLY = frozenset({"early", "expected", "websocket", "switch", "no-switch"})
