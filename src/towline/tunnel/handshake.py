"""The order in which both ends prove who they are, before a session is anybody's. Who may enter is decided elsewhere:
the control plane implements `Authenticator`, the agent `Signer`.

    server                         agent
    challenge ------------------->
              <------------------- hello        (HELLO_TIMEOUT, UNAUTHENTICATED_BYTES)
    welcome   ------------------->              or error and goodbye, then close
              <------------------- ready        (READY_TIMEOUT: it has stored its generation)

Source: docs/wire-protocol.md, "Handshake".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from towline.tunnel.errors import INTERNAL_ERROR, LinkRefused, ProtocolFailed, RefusedThere, TunnelClosed
from towline.tunnel.session import LinkSession
from towline.wire import link

HELLO_TIMEOUT = 5.0
"""Seconds from the upgrade to the hello: an agent needs one signature."""

READY_TIMEOUT = 10.0
"""Seconds from the welcome to ready: the agent writes and syncs one file, perhaps on a slow disk."""

SERVER_TIMEOUT = 20.0
"""Seconds the agent waits for each step of the server: its database may be busy with other agents."""

UNAUTHENTICATED_BYTES = 4096
"""What a peer may send before it is known: a hello is about 700 bytes."""

_log = structlog.get_logger("towline.tunnel")

M = TypeVar("M", bound=link.Message)


@dataclass(frozen=True, slots=True)
class Admission:
    """An agent that may enter. `context` is the authenticator's own."""

    welcome: link.Welcome
    context: Any = None


class Authenticator(Protocol):
    """The control plane's part of the handshake."""

    def challenge(self, remote_address: str) -> link.Challenge:
        """Make a challenge for one connection, with a fresh nonce."""

    async def authenticate(self, hello: link.Hello, challenge: link.Challenge, remote_address: str) -> Admission:
        """Check signature, state and generation, and claim the epoch.

        Raises: LinkRefused.
        """

    async def admitted(self, session: LinkSession, admission: Admission) -> None:
        """Take over a session that is ready: call `start`, and `on_close`, on it. Raises: LinkRefused."""


class Signer(Protocol):
    """The agent's part of the handshake."""

    async def hello(self, challenge: link.Challenge) -> link.Hello:
        """Sign the challenge."""

    async def welcomed(self, welcome: link.Welcome) -> None:
        """Store the generation and what else came, durably, before `ready` is sent."""


async def admit(session: LinkSession, authenticator: Authenticator) -> bool:
    """Run the server's side; returns whether the session was admitted. A session that was not is closed."""
    address = session.remote_address
    try:
        challenge = authenticator.challenge(address)
        await session.send(challenge)
        hello = await _hello(session)
        admission = await authenticator.authenticate(hello, challenge, address)
        await _welcome(session, admission.welcome)
        await authenticator.admitted(session, admission)
    except LinkRefused as refusal:
        _log.info("link refused", address=address, code=refusal.code, reason=refusal.message)
        refuse(session, refusal)
    except TunnelClosed as error:
        _log.info("link closed during the handshake", address=address, reason=error.reason)
    else:
        return True
    return False


def refuse(session: LinkSession, refusal: LinkRefused) -> None:
    """Tell the agent why it may not enter, and whether to come back, and close."""
    session.send_now(link.Error(code=refusal.code, message=refusal.message, fatal=True))
    session.send_now(link.Goodbye(reason=refusal.code, final=refusal.final, pause=refusal.pause, text=refusal.message))
    session.close(refusal.close_code, refusal.code)


async def _hello(session: LinkSession) -> link.Hello:
    try:
        message = await session.receive(HELLO_TIMEOUT)
    except TimeoutError:
        raise LinkRefused(
            "hello_timeout", f"no hello within {HELLO_TIMEOUT:g} seconds", close_code=link.CLOSE_HELLO_TIMEOUT
        ) from None
    if not isinstance(message, link.Hello):
        raise LinkRefused("bad_message", "the first message must be hello", close_code=link.CLOSE_BAD_MESSAGE)
    return message


async def _welcome(session: LinkSession, welcome: link.Welcome) -> None:
    session.identify(welcome.agent_id, welcome.cluster_id, welcome.epoch)
    session.allow_streams()
    session.lift_budget()
    await session.send(welcome)
    try:
        message = await session.receive(READY_TIMEOUT)
    except TimeoutError:
        raise LinkRefused(
            "ready_timeout", f"no ready within {READY_TIMEOUT:g} seconds", close_code=link.CLOSE_HELLO_TIMEOUT
        ) from None
    if not isinstance(message, link.Ready) or message.generation != welcome.generation:
        raise LinkRefused("bad_message", "ready does not match the welcome", close_code=link.CLOSE_BAD_MESSAGE)


async def enter(session: LinkSession, signer: Signer) -> link.Welcome:
    """Run the agent's side; returns the server's welcome. The session is closed when it raises.

    Raises: RefusedThere: the server said no. ProtocolFailed: it does not speak the link.
    """
    try:
        challenge = await _expect(session, link.Challenge)
        await session.send(await signer.hello(challenge))
        welcome = await _expect(session, link.Welcome)
        await signer.welcomed(welcome)
        session.identify(welcome.agent_id, welcome.cluster_id, welcome.epoch)
        session.allow_streams()
        await session.send(link.Ready(generation=welcome.generation))
    except TunnelClosed as error:
        raise _closed_during(session) from error
    except TimeoutError as error:
        session.close(INTERNAL_ERROR, "handshake timeout")
        raise ProtocolFailed(f"the server did not go on with the handshake for {SERVER_TIMEOUT:g} seconds") from error
    except BaseException:
        session.close(INTERNAL_ERROR, "handshake failed")
        raise
    return welcome


async def _expect(session: LinkSession, kind: type[M]) -> M:
    message = await session.receive(SERVER_TIMEOUT)
    if isinstance(message, kind):
        return message
    if isinstance(message, link.Error):
        raise await _refused(session, message)
    if isinstance(message, link.Goodbye):
        raise RefusedThere(message.reason, message.text or message.reason, final=message.final, pause=message.pause)
    raise ProtocolFailed(f"the server sent {type(message).__name__.lower()} when {kind.__name__.lower()} was due")


async def _refused(session: LinkSession, error: link.Error) -> RefusedThere:
    """An error may be followed by the goodbye that says whether to come back."""
    try:
        message = await session.receive(1.0)
    except (TimeoutError, TunnelClosed):
        final = session.closed is not None and session.closed.is_final
        return RefusedThere(error.code, error.message, final=final)
    if isinstance(message, link.Goodbye):
        return RefusedThere(error.code, error.message, final=message.final, pause=message.pause)
    return RefusedThere(error.code, error.message)


def _closed_during(session: LinkSession) -> RefusedThere | ProtocolFailed:
    closed = session.closed
    if closed is not None and closed.code >= 4000:
        return RefusedThere(
            closed.reason or str(closed.code), f"the server closed the link: {closed}", final=closed.is_final
        )
    return ProtocolFailed(f"the link was closed during the handshake: {closed}")
