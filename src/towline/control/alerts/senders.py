"""Sends one message to one target: a signed POST, or a mail. Says in words what went wrong, and never a secret."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Collection
from email.message import EmailMessage
from functools import cached_property
from urllib.parse import urlsplit

import aiosmtplib
import httpx

from towline.aio.clock import Clock
from towline.control.alerts import messages
from towline.control.alerts.outgoing import Outgoing, OutgoingRefused
from towline.control.alerts.targets import EmailTarget, Target, WebhookTarget

WEBHOOK_TIMEOUT = 10.0
"""Seconds for the whole request: a receiver takes the message and works on it later."""
MAIL_TIMEOUT = 30.0
"""Seconds for the whole conversation: servers make strangers wait for some of them."""
HTTPS, HTTP = 443, 80


class SendFailed(Exception):
    """It did not arrive; the message says why, for people."""


class Sender:
    """Knows how to reach each kind of target. Args: trust: for tests, what TLS believes instead of the system's."""

    def __init__(self, outgoing: Outgoing, clock: Clock, *, trust: ssl.SSLContext | None = None) -> None:
        self._outgoing = outgoing
        self._clock = clock
        self._given = trust

    def __repr__(self) -> str:
        return f"<Sender {self._outgoing!r}>"

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return self._given or ssl.create_default_context()

    async def send(self, target: Target, message_id: str, body: str) -> None:
        """Send a message. Raises: SendFailed."""
        try:
            if isinstance(target, WebhookTarget):
                async with asyncio.timeout(WEBHOOK_TIMEOUT):
                    await self._post(target, message_id, body.encode())
            else:
                async with asyncio.timeout(MAIL_TIMEOUT):
                    await self._mail(target, body)
        except OutgoingRefused as error:
            raise SendFailed(str(error)) from error
        except TimeoutError as error:
            raise SendFailed("it did not answer in time") from error
        except ssl.SSLCertVerificationError as error:
            raise SendFailed(f"its certificate is not trusted: {error.verify_message}") from error

    async def _post(self, target: WebhookTarget, message_id: str, content: bytes) -> None:
        parts = urlsplit(target.url)
        host, is_tls = parts.hostname or "", parts.scheme == "https"
        where = await self._outgoing.allowed(host, parts.port or (HTTPS if is_tls else HTTP))
        if not is_tls and not where.is_listed:
            raise SendFailed("a public webhook needs https")
        headers = messages.headers(target.secret, message_id, self._clock.now(), content)
        url = httpx.URL(target.url).copy_with(host=where.address, username=None, password=None)
        headers["Host"] = parts.netloc.rpartition("@")[2]
        auth = (parts.username or "", parts.password or "") if parts.username else None
        try:
            async with (
                httpx.AsyncClient(verify=self._trust, timeout=WEBHOOK_TIMEOUT, trust_env=False, auth=auth) as client,
                client.stream(
                    "POST", url, content=content, headers=headers, extensions={"sni_hostname": host}
                ) as answer,
            ):
                status = answer.status_code
        except httpx.HTTPError as error:
            raise SendFailed(f"it cannot be reached: {_cause(error)}") from error
        if not 200 <= status < 300:
            raise SendFailed(
                f"it answered {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")
            )

    async def _mail(self, target: EmailTarget, body: str) -> None:
        where = await self._outgoing.allowed(target.host, target.port)
        if target.security == "none" and not where.is_listed:
            raise SendFailed("a public mail server needs TLS")
        made = messages.mail(body, sender=target.sender, recipients=target.recipients, moment=self._clock.now())
        try:
            client = aiosmtplib.SMTP(
                hostname=target.host, sock=await _connected(where.address, target.port),
                username=target.username or None, password=target.password or None,
                use_tls=target.security == "tls", start_tls=target.security == "starttls", tls_context=self._trust,
                timeout=MAIL_TIMEOUT, local_hostname=socket.gethostname(),
            )  # fmt: skip
            refused = await _hand_over(client, made)
        except aiosmtplib.SMTPException as error:
            raise SendFailed(_smtp_words(error)) from error
        except OSError as error:
            raise SendFailed(f"it cannot be reached: {error.strerror or type(error).__name__}") from error
        if refused:
            raise SendFailed(f"the mail server took it, and not for {', '.join(sorted(refused))}")


async def _hand_over(client: aiosmtplib.SMTP, mail: EmailMessage) -> Collection[str]:
    """Send a mail, and say goodbye unless time is up or the server stops: one that hangs would not answer that either.

    Returns: who was refused.
    """
    async with client:
        try:
            refused, _ = await client.send_message(mail)
        except asyncio.CancelledError:
            client.close()
            raise
    return refused


async def _connected(address: str, port: int) -> socket.socket:
    """Return a connection to an address that was checked. Raises: OSError."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, (address, port))
    except BaseException:
        made.close()
        raise
    return made


def _cause(error: BaseException | None) -> str:
    """Return the innermost reason that says something; never the address, which may be secret."""
    words = ""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {error.verify_message}"
        if isinstance(error, OSError) and error.strerror:
            words = error.strerror
        error = error.__cause__ or error.__context__
    return words or "the connection broke"


def _smtp_words(error: aiosmtplib.SMTPException) -> str:
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return "the mail server refused user name or password"
    code = getattr(error, "code", None)
    if code:
        return f"the mail server answered {code}: {' '.join(str(getattr(error, 'message', '')).split())[:200]}"
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return "the mail server refused every recipient"
    return f"the mail server cannot be used: {_cause(error)}"
