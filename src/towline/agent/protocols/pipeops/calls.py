"""HTTP calls to a PipeOps control plane: one client for a connection, a token on each call, a limit on everything."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Collection
from types import TracebackType
from typing import Self

import httpx
import structlog

from towline.agent.join import proxy_to
from towline.agent.protocols.keeper import REFUSALS
from towline.agent.protocols.place import Place
from towline.tunnel.errors import LinkDown, UpgradeRefused

CONNECT_TIMEOUT = 10.0
CALL_TIMEOUT = 30.0
"""Seconds for a whole call, body and answer, as the original has it."""

SAID_CHARACTERS = 200
"""Of an answer that was not wanted, for the log."""

_log = structlog.get_logger("towline.agent.pipeops")


class Unanswered(Exception):
    """A call had no usable answer. `status`: what was answered; 0 for nothing."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def is_refusal(self) -> bool:
        """Whether the token is not taken."""
        return self.status in REFUSALS

    def as_link_down(self) -> LinkDown:
        """Return it as what a `Keeper` waits for."""
        return UpgradeRefused(str(self), status=self.status) if self.status else LinkDown(str(self))


class Calls:
    """Use it as a context manager; the files of authorities and the token are read as it begins."""

    def __init__(self, place: Place, client: httpx.AsyncClient) -> None:
        self.last_message_at = time.monotonic()
        """Monotonic moment of the last answer."""
        self.rtt = 0.0
        """Seconds that the last answer took."""
        self.stream_count = 0
        self._place = place
        self._client = client

    @classmethod
    async def open(cls, place: Place) -> Calls:
        """Make the client. Raises: LinkDown, SettingsError."""
        server = place.endpoint("")
        context = await place.context(server)
        client = httpx.AsyncClient(
            # For plain connections one that believes nobody, which costs no reading of authorities.
            verify=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            proxy=proxy_to(place.route, server),
            trust_env=False,
            follow_redirects=False,  # the token is for this server alone
            timeout=httpx.Timeout(CALL_TIMEOUT, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_connections=4),
        )
        return cls(place, client)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, path: str, *, limit: int) -> bytes:
        """Ask for a document. Args: limit: bytes of it. Raises: Unanswered."""
        return await self._call("GET", path, None, frozenset({200}), limit)

    async def post(self, path: str, body: bytes, taken: Collection[int], *, agent: str = "") -> None:
        """Send a document. Args: taken: the answers that are good. Raises: Unanswered."""
        await self._call("POST", path, body, taken, SAID_CHARACTERS * 4, agent)

    async def _call(
        self, method: str, path: str, body: bytes | None, good: Collection[int], limit: int, agent: str = ""
    ) -> bytes:
        server = self._place.endpoint(path)
        headers = {
            "Authorization": f"Bearer {self._place.token()}",
            "User-Agent": agent or self._place.route.user_agent,
            "Content-Type": "application/json",
        }
        began = time.monotonic()
        try:
            async with (
                asyncio.timeout(CALL_TIMEOUT),
                self._client.stream(method, f"{server}{server.path}", content=body, headers=headers) as answer,
            ):
                text = await _read(answer, limit, is_wanted=answer.status_code in good)
        except TimeoutError as error:
            raise Unanswered(f"{server} did not answer {path} within {CALL_TIMEOUT:g} s") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise Unanswered(f"{server} cannot be asked: {str(error) or type(error).__name__}") from error
        self.last_message_at = time.monotonic()
        self.rtt = self.last_message_at - began
        if answer.status_code not in good:
            raise Unanswered(f"{server} answered {answer.status_code}: {_shown(text)}", answer.status_code)
        return text


async def _read(answer: httpx.Response, limit: int, *, is_wanted: bool) -> bytes:
    """Read an answer as far as it is of use. Raises: Unanswered: it is larger than a good one may be."""
    text = b""
    async for piece in answer.aiter_bytes():
        text += piece
        if len(text) > limit and is_wanted and limit > SAID_CHARACTERS * 4:
            raise Unanswered(f"an answer of more than {limit} bytes")
        if len(text) > limit:
            break
    return text


def _shown(text: bytes) -> str:
    said = "".join(each for each in text[: SAID_CHARACTERS * 4].decode("utf-8", "replace") if each.isprintable())
    return said[:SAID_CHARACTERS] or "no reason given"
