"""Where alerts go in tests: a real mail server and a real webhook receiver, on loopback.

async with webhook() as hook, mailbox() as mails:
    ...
    posted = await hook.next()

A test whose thread belongs to somebody else's loop has them on another one: `with Receivers() as both`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

WAIT = 20.0
"""Seconds that a test waits for a message that should come at once."""


@dataclass
class Posted:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Hook:
    """What came, and how the next ones are answered."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    """Of the next answers; 200 when there is none left."""
    got: asyncio.Queue[Posted] = field(default_factory=asyncio.Queue)

    async def next(self) -> Posted:
        async with asyncio.timeout(WAIT):
            return await self.got.get()


@asynccontextmanager
async def webhook() -> AsyncIterator[Hook]:
    """A receiver of webhooks."""
    hook = Hook()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head[1:] if line}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            status = hook.statuses.pop(0) if hook.statuses else 200
            writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()
            hook.got.put_nowait(Posted(headers, body))
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    hook.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks/very-secret-path"
    async with server:
        yield hook


@dataclass
class Mails:
    """A mail server's box."""

    port: int = 0
    signed_in: list[str] = field(default_factory=list)
    refuses: str = ""
    """Answered to the next message instead of taking it."""
    got: asyncio.Queue[EmailMessage] = field(default_factory=asyncio.Queue)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refuses:
            refused, self.refuses = self.refuses, ""
            return refused
        assert isinstance(envelope.content, bytes)
        made = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(made, EmailMessage)
        self.got.put_nowait(made)
        return "250 taken"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.signed_in.append(data.login.decode())
        return AuthResult(success=data.password == b"right", handled=False)

    async def next(self) -> EmailMessage:
        async with asyncio.timeout(WAIT):
            return await self.got.get()


@asynccontextmanager
async def mailbox(tls: ssl.SSLContext | None = None) -> AsyncIterator[Mails]:
    """A mail server. Args: tls: offers STARTTLS with it, and asks who signs in."""
    mails = Mails()

    def protocol() -> SMTP:
        return SMTP(
            mails, hostname="mail.test", loop=asyncio.get_running_loop(), tls_context=tls,
            require_starttls=tls is not None, authenticator=mails.authenticate if tls else None,
            auth_required=tls is not None,
        )  # fmt: skip

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    mails.port = server.sockets[0].getsockname()[1]
    try:
        yield mails
    finally:
        server.close()


class Receivers:
    """Both, on a loop of their own, and everything that they got."""

    def __init__(self) -> None:
        self.hook = Hook()
        self.mails = Mails()
        self.posted: list[Any] = []
        """Bodies of webhooks."""
        self.mailed: list[EmailMessage] = []
        self._loop = asyncio.new_event_loop()
        self._ready, self._over = threading.Event(), asyncio.Event()

    def take(self) -> None:
        """Note what has come by now."""
        while not self.hook.got.empty():
            self.posted.append(self.hook.got.get_nowait().json)
        while not self.mails.got.empty():
            self.mailed.append(self.mails.got.get_nowait())

    async def serve(self) -> None:
        async with webhook() as self.hook, mailbox() as self.mails:
            self._ready.set()
            await self._over.wait()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self.serve())
        finally:
            self._loop.close()

    def __enter__(self) -> Receivers:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(WAIT)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(WAIT)
