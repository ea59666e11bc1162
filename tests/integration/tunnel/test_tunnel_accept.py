"""What strangers may do at the agents' door, on raw sockets (reference: bad inputs 26 to 35)."""

import asyncio
import base64
import os
import struct
from typing import ClassVar

import pytest
from tests.support.tunnel_pair import AnySigner, link_server

from towline.aio.tasks import TaskOwner
from towline.tunnel import handshake, websocket
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.errors import UpgradeRefused
from towline.tunnel.handshake import UNAUTHENTICATED_BYTES, enter
from towline.wire import link

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
HELLO = link.Hello(agent_id="agt_raw", key_id="k", instance_id="i", generation=1, signature="s", version="0")


def head(**changes):
    """A correct upgrade request; a header set to None is left out."""
    headers = {
        "Host": "towline.test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        "Sec-WebSocket-Protocol": link.PROTOCOL,
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return ("GET /api/v1/agents/link HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode()


def frame(opcode, payload=b"", *, fin=True, masked=True, length=None, reserved=0):
    """One WebSocket frame of a client; `length` may lie."""
    size = len(payload) if length is None else length
    first = (0x80 if fin else 0) | reserved | opcode
    mask_bit = 0x80 if masked else 0
    if size < 126:
        out = struct.pack(">BB", first, mask_bit | size)
    elif size < 65536:
        out = struct.pack(">BBH", first, mask_bit | 126, size)
    else:
        out = struct.pack(">BBQ", first, mask_bit | 127, size)
    if masked:
        mask = os.urandom(4)
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        out += mask
    return out + payload


class Raw:
    """A client that says what it likes."""

    opened: ClassVar = []

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.opened.append(self)

    @classmethod
    async def connect(cls, server, request=None):
        raw = cls(*await asyncio.open_connection("127.0.0.1", server.port))
        raw.writer.write(head() if request is None else request)
        return raw

    async def answer(self):
        """The head of the server's answer."""
        async with asyncio.timeout(5):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def frame(self):
        """The next frame that is no ping; None when the connection is closed."""
        async with asyncio.timeout(5):
            while True:
                try:
                    first, second = await self.reader.readexactly(2)
                    size = second & 0x7F
                    if size == 126:
                        (size,) = struct.unpack(">H", await self.reader.readexactly(2))
                    payload = await self.reader.readexactly(size)
                except (asyncio.IncompleteReadError, ConnectionError):
                    return None
                if first & 0xF != PING:
                    return first & 0xF, payload

    async def close_code(self):
        """Code of the close frame that ends the connection; None when there was none."""
        while (got := await self.frame()) is not None:
            if got[0] == CLOSE:
                return struct.unpack(">H", got[1][:2])[0]
        return None

    async def sign_in(self):
        """Go through the handshake."""
        await self.answer()
        await self.frame()
        self.writer.write(frame(TEXT, link.encode(HELLO)))
        _, data = await self.frame()
        welcome = link.decode(data)
        assert isinstance(welcome, link.Welcome)
        self.writer.write(frame(TEXT, link.encode(link.Ready(generation=welcome.generation))))


@pytest.fixture(autouse=True)
async def close_everything():
    yield
    for raw in Raw.opened:
        raw.writer.transport.abort()
    Raw.opened.clear()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Upgrade": "h2c"}, 400),
        ({"Upgrade": "websocket, h2c"}, 400),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Protocol": None}, 400),
        ({"Sec_WebSocket_Protocol": "towline.v9"}, 400),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
async def test_upgrade_that_is_not_an_agents_is_refused(changes, status):
    async with link_server() as server:
        raw = await Raw.connect(server, head(**changes))
        assert f" {status} " in (await raw.answer()).splitlines()[0]


async def test_upgrade_is_answered_with_our_subprotocol_and_the_challenge_follows():
    async with link_server() as server:
        raw = await Raw.connect(server)
        answer = await raw.answer()
        assert answer.startswith("HTTP/1.1 101 ")
        assert f"Sec-WebSocket-Protocol: {link.PROTOCOL}" in answer
        assert "permessage-deflate" not in answer
        opcode, payload = await raw.frame()
        assert opcode == TEXT
        assert isinstance(link.decode(payload), link.Challenge)


async def test_frames_that_came_with_the_head_are_not_lost():
    async with link_server() as server:
        raw = await Raw.connect(server, head() + frame(TEXT, link.encode(HELLO)))
        await raw.answer()
        await raw.frame()
        assert isinstance(link.decode((await raw.frame())[1]), link.Welcome)


async def test_silent_stranger_is_closed_with_4408(monkeypatch):
    monkeypatch.setattr(handshake, "HELLO_TIMEOUT", 0.05)
    async with link_server() as server:
        raw = await Raw.connect(server)
        await raw.answer()
        assert await raw.close_code() == link.CLOSE_HELLO_TIMEOUT


async def test_slow_stranger_is_closed_with_4408(monkeypatch):
    monkeypatch.setattr(handshake, "HELLO_TIMEOUT", 0.2)
    async with link_server() as server:
        raw = await Raw.connect(server)
        await raw.answer()
        closing = asyncio.ensure_future(raw.close_code())
        for byte in frame(TEXT, link.encode(HELLO)):
            if closing.done():
                break
            raw.writer.write(bytes([byte]))
            await asyncio.wait([closing], timeout=0.01)
        assert await closing == link.CLOSE_HELLO_TIMEOUT


async def test_stranger_that_sends_too_much_is_cut_off():
    async with link_server() as server:
        raw = await Raw.connect(server)
        await raw.answer()
        raw.writer.write(frame(TEXT, b"x" * 200_000)[: UNAUTHENTICATED_BYTES + 500])
        assert await raw.close_code() is None


async def test_budget_ends_with_the_handshake():
    async with link_server() as server:
        raw = await Raw.connect(server)
        await raw.sign_in()
        session = await server.door.sessions.get()
        for _ in range(20):
            raw.writer.write(frame(TEXT, link.encode(link.Error(code="x", message="y" * 500))))
        for _ in range(20):
            assert isinstance(await session.receive(5), link.Error)
        raw.writer.close()
        await session.wait_closed()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(BINARY, b"x", reserved=0x40), 1002),
        (frame(TEXT, b"{}", reserved=0x10), 1002),
        (frame(5, b"x"), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, struct.pack(">H", 1005)), 1002),
        (frame(CLOSE, b"x"), 1002),
        (frame(CLOSE, struct.pack(">H", 1000) + b"\xff\xfe"), 1007),
        (frame(0, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
        (frame(TEXT, b"\xff\xfe"), link.CLOSE_BAD_MESSAGE),
        (frame(TEXT, b"{"), link.CLOSE_BAD_MESSAGE),
        (frame(BINARY, length=2**30), 1009),
        (frame(BINARY, b"x" * 20), link.CLOSE_BAD_MESSAGE),
    ],
    ids=[
        "unmasked",
        "reserved bit on binary",
        "reserved bit on text",
        "bad opcode",
        "fragmented ping",
        "long ping",
        "close code 1005",
        "close of one byte",
        "close reason not UTF-8",
        "continuation of nothing",
        "message within a message",
        "not UTF-8",
        "not JSON",
        "a gigabyte declared",
        "streams before the handshake",
    ],
)
async def test_bad_frame_of_a_stranger_closes_with_the_right_code(data, code):
    async with link_server() as server:
        raw = await Raw.connect(server)
        await raw.answer()
        raw.writer.write(data)
        assert await raw.close_code() == code


async def test_endless_fragments_are_closed_with_1008():
    async with link_server() as server:
        raw = await Raw.connect(server)
        await raw.sign_in()
        await server.door.sessions.get()
        raw.writer.write(frame(TEXT, b"{", fin=False) + frame(0, b"", fin=False) * (websocket.MAX_FRAGMENTS + 1))
        assert await raw.close_code() == 1008


async def test_text_in_fragments_over_a_megabyte_is_closed_with_1009():
    async with link_server() as server:
        raw = await Raw.connect(server)
        await raw.sign_in()
        await server.door.sessions.get()
        piece = b"x" * 300_000
        raw.writer.write(frame(TEXT, piece, fin=False) + frame(0, piece, fin=False) * 3)
        assert await raw.close_code() == 1009


async def test_ping_flood_is_closed_with_1008():
    async with link_server() as server:
        raw = await Raw.connect(server)
        await raw.sign_in()
        await server.door.sessions.get()
        raw.writer.write(frame(PING, b"x") * (websocket.MAX_PINGS_PER_INTERVAL + 1))
        assert await raw.close_code() == 1008


async def test_stream_data_after_the_handshake_may_break_rules_only_so_often():
    async with link_server() as server:
        raw = await Raw.connect(server)
        await raw.sign_in()
        await server.door.sessions.get()
        for number in range(20):
            raw.writer.write(frame(BINARY, struct.pack(">BBHII", 0, 0, 0, 2 + 2 * number, 1) + b"x"))
        assert await raw.close_code() == link.CLOSE_BAD_MESSAGE


async def test_one_address_may_not_fill_the_hall():
    async with link_server(max_per_address=3) as server:
        waiting = [await Raw.connect(server) for _ in range(3)]
        for raw in waiting:
            await raw.answer()
        late = await Raw.connect(server)
        assert " 429 " in (await late.answer()).splitlines()[0]
        assert server.acceptor.stranger_count == 3
        for raw in [*waiting, late]:
            raw.writer.close()
        async with asyncio.timeout(5):
            while server.acceptor.stranger_count:
                await asyncio.sleep(0)


async def test_signed_in_agents_do_not_count_as_strangers():
    async with link_server(max_per_address=1) as server, TaskOwner("agent") as owner:
        agents = []
        for _ in range(5):
            agents.append(await dial(Endpoint.parse(server.url), Route(), owner=owner))
            await enter(agents[-1], AnySigner())
            await server.door.sessions.get()
        assert server.acceptor.stranger_count == 0
        for agent in agents:
            agent.close()


async def test_draining_server_answers_503():
    async with link_server() as server, TaskOwner("agent") as owner:
        server.acceptor.draining = True
        with pytest.raises(UpgradeRefused, match="going away") as refused:
            await dial(Endpoint.parse(server.url), Route(), owner=owner)
        assert refused.value.status == 503
