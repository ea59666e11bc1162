"""`GET /ws`: messages both ways, `{"type", "payload", "id"?}`, for pages and programs that want more than a stream.

Asked for events, a client gets those of the ring; asked for logs, lines of many sources. Whatever cannot be read is
answered with an error that says what, and the connection goes on. What a message may hold is in `Order` and its kin.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from aiohttp import WSMsgType, web

from towline.agent.errors import AgentError
from towline.agent.surface.command_talk import CommandTalk
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.errors import SurfaceError, translated
from towline.agent.surface.feed import METRICS, STATUS
from towline.agent.surface.lasting import cut
from towline.agent.surface.live import Live, live_of
from towline.agent.surface.log_sinks import told
from towline.agent.surface.logs import MOST_TAIL, TAIL, Subscription, subscribe
from towline.agent.surface.requests import caller_of
from towline.agent.surface.ring import Ring
from towline.aio.clock import Clock
from towline.aio.tasks import TaskOwner

PING_INTERVAL = 30.0
"""Seconds without a byte from the client before it is pinged; half as long without an answer ends the connection."""
MESSAGE_BYTES = 64 * 1024
"""Of one message of a client; a longer one closes the connection with 1009."""
SLOW_SECONDS = 10.0
"""That a client has to take a message; then it is cut, because others' events must not wait in memory for it."""
MESSAGES_PER_SECOND = 20.0
"""That a client may send, on average."""
BURST = 40.0
"""Messages that it may send at once: a page that opens subscribes to a dozen things."""
MOST_REFUSED = 100
"""Messages above the limit, one after the other, after which the connection is closed with 1008."""
MOST_LOGS = 8
"""Log subscriptions of one connection: as many as fit on a page."""
CLOSE_SECONDS = 5.0
"""For a client to answer our close."""

Topic = Literal["status", "event", "metrics"]

_encoder = msgspec.json.Encoder()


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Unknown keys are errors: who mistypes one learns it."""


class WantedLogs(_Part, frozen=True):
    """As the parameters of `/api/realtime/logs`."""

    namespace: str = ""
    selector: str = ""
    pod: str = ""
    project: str = ""
    service: str = ""
    container: str = ""
    tail: int = TAIL
    grep: str = ""


class Subscribe(_Part, frozen=True):
    """Topics out of the ring, or logs. `after` is the id of the last event that was had."""

    topics: tuple[Topic, ...] = ()
    after: str = ""
    logs: WantedLogs | None = None


class Unsubscribe(_Part, frozen=True):
    """Topics, or the number of a log subscription."""

    topics: tuple[Topic, ...] = ()
    subscription: int = 0


class Order(msgspec.Struct, frozen=True):
    """What every message of a client has. `id` comes back with the answer."""

    type: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    id: str | int | None = None


_order = msgspec.json.Decoder(Order)
_subscribe = msgspec.json.Decoder(Subscribe)
_unsubscribe = msgspec.json.Decoder(Unsubscribe)


class Allowance:
    """How many messages a client may still send: a bucket that fills with time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left = BURST
        self._at = clock.monotonic()
        self.refused = 0
        """Refused in a row."""

    def take(self) -> bool:
        """Count a message. Returns: whether it may be answered."""
        now = self._clock.monotonic()
        self._left = min(BURST, self._left + (now - self._at) * MESSAGES_PER_SECOND)
        self._at = now
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        self.refused = 0
        return True


async def websocket(request: web.Request) -> web.StreamResponse:
    """Talk for as long as the client stays."""
    live = live_of(request)
    with live.hold("websocket"):
        socket = web.WebSocketResponse(
            heartbeat=PING_INTERVAL, max_msg_size=MESSAGE_BYTES, timeout=CLOSE_SECONDS, compress=False
        )
        if not socket.can_prepare(request):
            raise SurfaceError("bad_request", "this address speaks WebSocket (RFC 6455)")
        await socket.prepare(request)
        with live.feed.listening() as ring, contextlib.suppress(ConnectionError):
            await Talk(request, socket, live, ring, caller_of(request).right).run()
        return socket


class Talk:
    """One client."""

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, live: Live, ring: Ring, right: Right
    ) -> None:
        self._request = request
        self._socket = socket
        self._live = live
        self._ring = ring
        self._right = right
        self._allowance = Allowance(live.parts.clock)
        self._topics: set[str] = set()
        self._number = ring.last
        """The last event that the client has had."""
        self._events: asyncio.Task[None]
        self._logs: dict[int, asyncio.Task[None]] = {}
        self._last_number = 0
        self._owner: TaskOwner
        self._commands: CommandTalk

    def __repr__(self) -> str:
        return f"<Talk {sorted(self._topics)} {len(self._logs)} logs>"

    async def run(self) -> None:
        """Serve until one side closes. Raises: ConnectionError: it broke."""
        async with TaskOwner("websocket") as self._owner:
            self._commands = CommandTalk(self._live.commands, self._right, self._owner, self.send)
            await self.send(STATUS, self._live.feed.status())
            self._events = self._owner.spawn("events", self._send_events())
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._take(message.data)
                elif message.type is WSMsgType.BINARY:
                    await self._refuse(SurfaceError("bad_request", "messages are JSON texts"), None)
                else:
                    return

    async def send(self, kind: str, payload: Any, answering: str | int | None = None) -> None:
        """Send a message. Raises: ConnectionError: the client is gone, or too slow and therefore cut."""
        message = {"type": kind, "payload": payload, **({"id": answering} if answering is not None else {})}
        await self._write(_encoder.encode(message).decode())

    async def _write(self, text: str) -> None:
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                await self._socket.send_str(text)
        except TimeoutError as error:
            cut(self._request, "websocket")
            raise ConnectionResetError("the client does not take its messages") from error

    # -- what comes ------------------------------------------------------------------------------

    async def _take(self, text: str) -> None:
        if not self._allowance.take():
            if self._allowance.refused > MOST_REFUSED:
                await self._socket.close(code=1008, message=b"too many messages")
                return
            await self._refuse(SurfaceError("throttled", f"more than {MESSAGES_PER_SECOND:g} messages a second"), None)
            return
        answering: str | int | None = None
        try:
            order = _order.decode(text)
            answering = order.id
            await self._answer(order)
        except (msgspec.DecodeError, RecursionError) as error:
            await self._refuse(SurfaceError("bad_request", f"the message cannot be used: {error}"), answering)
        except AgentError as error:
            await self._refuse(translated(error), answering)

    async def _answer(self, order: Order) -> None:
        match order.type:
            case "ping":
                await self.send("pong", {}, order.id)
            case "get_status":
                await self.send(STATUS, self._live.feed.status(), order.id)
            case "get_metrics":
                await self.send(METRICS, self._live.feed.figures(), order.id)
            case "subscribe":
                await self._subscribe(_subscribe.decode(order.payload), order.id)
            case "unsubscribe":
                await self._unsubscribe(_unsubscribe.decode(order.payload), order.id)
            case "command":
                await self._commands.take(order.payload, order.id)
            case _:
                known = "ping, get_status, get_metrics, subscribe, unsubscribe, command"
                raise SurfaceError("bad_request", f"unknown type {order.type[:60]!r}; known are: {known}")

    async def _refuse(self, error: SurfaceError, answering: str | int | None) -> None:
        await self.send("error", error.body()["error"], answering)

    async def _subscribe(self, asked: Subscribe, answering: str | int | None) -> None:
        if not asked.topics and asked.logs is None:
            raise SurfaceError("bad_request", "name topics (status, event, metrics), or logs")
        number = await self._subscribe_logs(asked.logs) if asked.logs is not None else 0
        gap = self._go_back(asked.after) if asked.after else None
        self._topics |= set(asked.topics)
        told: dict[str, Any] = {"topics": sorted(self._topics)}
        await self.send("subscribed", {**told, "subscription": number} if number else told, answering)
        if gap is not None:
            await self.send("gap", gap)
        elif asked.after:
            self._events.cancel()  # it waits for what is newer
            self._events = self._owner.spawn("events", self._send_events())

    def _go_back(self, last_id: str) -> dict[str, Any] | None:
        """Go on behind an id. Returns: what to say when that cannot be."""
        found = self._ring.position(last_id)
        if found is None:
            return {"missed": None, "reason": "this id is not known any more"}
        self._number = found
        return None

    async def _unsubscribe(self, asked: Unsubscribe, answering: str | int | None) -> None:
        self._topics -= set(asked.topics)
        if asked.subscription:
            task = self._logs.get(asked.subscription)
            if task is None:
                raise SurfaceError("not_found", f"there is no subscription {asked.subscription}")
            task.cancel()
        await self.send("unsubscribed", {"topics": sorted(self._topics)}, answering)

    # -- events ----------------------------------------------------------------------------------

    async def _send_events(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await self._ring.wait(self._number)
                await self._tell_gap()
                for entry in self._ring.after(self._number):
                    self._number = entry.number
                    if entry.kind in self._topics:
                        await self._write(entry.message)

    async def _tell_gap(self) -> None:
        if self._ring.has_lost(self._number):
            missed = self._ring.first - 1 - self._number
            self._number = self._ring.first - 1
            if self._topics:
                await self.send("gap", {"missed": missed, "reason": "more happened than is kept"})

    # -- logs ------------------------------------------------------------------------------------

    async def _subscribe_logs(self, asked: WantedLogs) -> int:
        """Begin to send logs. Returns: the number of the subscription."""
        if self._right < Right.OPERATE:
            raise SurfaceError("forbidden", "logs need the token that operates; the one that was sent only reads")
        if len(self._logs) >= MOST_LOGS:
            raise SurfaceError("throttled", f"{MOST_LOGS} log subscriptions are open on this connection")
        if not -1 <= asked.tail <= MOST_TAIL:
            raise SurfaceError("bad_request", f"tail must be between -1 and {MOST_TAIL}")
        subscription = await subscribe(self._live, self._right, msgspec.structs.asdict(asked))
        self._last_number += 1
        number = self._last_number
        self._logs[number] = self._owner.spawn(f"logs {number}", self._send_logs(number, subscription))
        return number

    async def _send_logs(self, number: int, subscription: Subscription) -> None:
        reason = "the log has ended"
        try:
            with self._live.hold("logs"):
                await subscription.run(_LogSink(self, number))
        except AgentError as error:
            reason = translated(error).message
        except ConnectionError:
            return
        finally:
            del self._logs[number]
        with contextlib.suppress(ConnectionError):
            await self.send("ended", {"subscription": number, "reason": reason})


class _LogSink:
    """Lines as messages `log`, those of one read together; word of sources as `source`."""

    def __init__(self, talk: Talk, number: int) -> None:
        self._talk = talk
        self._number = number

    async def lines(self, source: str, lines: Iterable[bytes]) -> None:
        shown = [told(line) for line in lines]
        await self._talk.send("log", {"subscription": self._number, "source": source, "lines": shown})

    async def tell(self, source: str, text: str) -> None:
        await self._talk.send("source", {"subscription": self._number, "source": source, "text": text})


ENDPOINTS = (
    Endpoint(
        "GET",
        "/ws",
        websocket,
        Right.READ,
        "A WebSocket of JSON messages: status, events and logs by subscription, and commands.",
        '-N --max-time 2 -H "Authorization: Bearer $TOKEN" -H "Connection: Upgrade" -H "Upgrade: websocket" '
        '-H "Sec-WebSocket-Version: 13" -H "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==" $URL/ws',
        takes_ticket=True,
        answer="application/octet-stream",
    ),
)
