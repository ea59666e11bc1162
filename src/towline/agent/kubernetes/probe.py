"""A look at the API server for the capability: does it answer, does it take the agent's credentials, which version."""

from __future__ import annotations

import asyncio

import msgspec

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes import upstream
from towline.agent.kubernetes.credentials import ApiServer, Credentials
from towline.aio.streams import StreamError
from towline.aio.transports import TransportStream
from towline.wire.http1 import HeadError, ResponseBuffer, parse_response_head
from towline.wire.http1_body import body_reader
from towline.wire.http1_build import build_request_head

PROBE_TIMEOUT = 10.0
"""Seconds for everything; an API server that needs longer is of no use to anybody."""

MAX_BODY_BYTES = 64 * 1024
"""A version has some hundred bytes."""


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    git_version: str = ""


async def find_version(credentials: Credentials) -> str:
    """Return the API server's version, empty when it keeps that to itself.

    Raises: KubernetesError: it cannot be used; the text names the fix where there is one.
    """
    server = credentials.current()
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            status, body = await _get(server, b"/version")
    except TimeoutError as error:
        raise KubernetesError(f"{_name(server)} did not answer within {PROBE_TIMEOUT:g} s") from error
    except (StreamError, HeadError) as error:
        raise KubernetesError(f"{_name(server)} does not answer as one does: {error}") from error
    if status == 401:
        credentials.forget()
        fix = "renew the token of the kubeconfig, or the agent's ServiceAccount"
        raise KubernetesError(f"{_name(server)} refuses the agent's credentials (401): {fix}")
    if status != 200 and status != 403:
        raise KubernetesError(f"{_name(server)} answers {status}")
    return _version_in(body) if status == 200 else ""


async def _get(server: ApiServer, path: bytes) -> tuple[int, bytes]:
    _, stream = await upstream.dial(server, TransportStream)
    try:
        lines = [(b"Host", server.authority), (b"Connection", b"close"), (b"Accept", b"application/json")]
        if server.authorization is not None:
            lines.append((b"Authorization", server.authorization))
        await stream.write(build_request_head(b"GET", path, lines))
        return await _read_answer(stream)
    finally:
        stream.abort()


async def _read_answer(stream: TransportStream) -> tuple[int, bytes]:
    """Read one answer. Raises: HeadError, StreamError."""
    buffer = ResponseBuffer()
    while (raw := buffer.feed_and_cut(await _read(stream))) is None:
        continue
    head = parse_response_head(raw)
    reader = body_reader(head.framing_for(b"GET"), head.content_length or 0)
    body = b"".join(reader.feed(buffer.take()))
    while not reader.is_done and len(body) < MAX_BODY_BYTES:
        body += b"".join(reader.feed(await _read(stream)))
    return head.status, body


async def _read(stream: TransportStream) -> bytes:
    data = await stream.read()
    if not data:
        raise HeadError(502, "cut", "the answer is cut off")
    return data


def _version_in(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Version).git_version
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _name(server: ApiServer) -> str:
    return f"the API server at {server.authority.decode()}"
