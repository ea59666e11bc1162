"""Requests that the agent makes as somebody: the head with its impersonation, and the head of the answer.

Who that is and what may pass is decided by the callers. Connections are theirs, too.
"""

from __future__ import annotations

import towline
from towline.agent.kubernetes.api import Answer, ApiAway, answering
from towline.agent.kubernetes.credentials import ApiServer
from towline.aio.streams import ByteStream
from towline.kube import heads
from towline.kube.identity import Identity
from towline.wire.http1 import ResponseBuffer, parse_response_head
from towline.wire.http1_body import body_reader
from towline.wire.http1_build import build_request_head


def request_head(
    server: ApiServer,
    identity: Identity,
    method: str,
    target: str,
    *,
    agent: str,
    accept: str,
    body: bytes = b"",
    content_type: str = "",
) -> bytes:
    """Return the head of a request. `agent`: what stands behind our version in User-Agent. Raises: BadIdentity."""
    fields = [
        (b"user-agent", b"User-Agent", f"towline-agent/{towline.__version__} ({agent})".encode()),
        (b"accept", b"Accept", accept.encode("ascii")),
    ]
    own: list[tuple[bytes, bytes]] = []
    if body:
        fields.append((b"content-type", b"Content-Type", content_type.encode("ascii")))
    if body or method not in ("GET", "HEAD"):
        own.append((b"Content-Length", b"%d" % len(body)))
    proof = server.authorization or b""
    lines = heads.towards_api(
        fields, authorization=proof, host=server.authority, identity=identity, request_id="", own=own
    )
    if not proof:  # the client certificate speaks for the agent
        lines = [line for line in lines if line[0] != b"Authorization"]
    return build_request_head(method.encode(), target.encode("ascii"), lines)


async def exchange(stream: ByteStream, data: bytes, method: str) -> Answer:
    """Send a whole request and return its answer, whose head has arrived. Raises: ApiAway."""
    async with answering():
        await stream.write(data)
        return await _read_head(stream, method.encode())


async def _read_head(stream: ByteStream, method: bytes) -> Answer:
    """Read the head of the answer, interim ones left out.

    Raises: ApiAway: the connection was closed, or switched. StreamError, HeadError.
    """
    buffer = ResponseBuffer()
    while True:
        while (raw := buffer.cut()) is None:
            data = await stream.read()
            if not data:
                raise ApiAway("the API server closed the connection instead of answering")
            buffer.feed(data)
        head = parse_response_head(raw)
        if head.status >= 200:
            body = body_reader(head.framing_for(method), head.content_length or 0)
            return Answer(head, body, stream, body.feed(buffer.take()) if len(buffer) else [])
        if head.status == 101:
            raise ApiAway("the API server switched protocols without being asked")
