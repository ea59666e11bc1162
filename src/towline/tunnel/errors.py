"""What can go wrong with a tunnel, named after who or what is to blame.

StreamError (aio)
 ├ EndedThere ── TargetRefused     the agent may not, or cannot, dial the target
 └ Broken ────── TunnelClosed      the tunnel went away, with everything in it
LinkRefused                        this server refuses an agent during the handshake
LinkDown                           this agent has no link; `hop` says how far it came
 ├ DnsFailed, TcpFailed, ProxyFailed, TlsFailed, UpgradeRefused
 ├ RefusedThere                    the server answered the handshake with an error or a goodbye
 └ ProtocolFailed                  what answered does not speak the link
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from towline.aio.streams import Broken, EndedThere
from towline.wire import link

NORMAL_CLOSE = 1000
GOING_AWAY = 1001
WEBSOCKET_PROTOCOL_ERROR = 1002
NO_CODE = 1005
ABNORMAL_CLOSE = 1006
POLICY_VIOLATION = 1008
TOO_BIG = 1009
INTERNAL_ERROR = 1011


@dataclass(frozen=True, slots=True)
class Closed:
    """How a tunnel ended. `code` is a WebSocket close code; 1006 when no close frame was seen."""

    code: int
    reason: str
    by_peer: bool = False

    @property
    def is_final(self) -> bool:
        """Whether the agent must not come back (design.md, "Final words")."""
        return self.code == link.CLOSE_FINAL

    def __str__(self) -> str:
        return f"{self.reason or 'no reason given'} ({self.code})"


class TunnelClosed(Broken):
    """The tunnel went away, or was gone before."""


class TargetRefused(EndedThere):
    """The agent refused a target. `code` is one of those in `towline.wire.streams.Answer`."""

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}" if self.reason else self.code


class LinkRefused(Exception):
    """Raised by an `Authenticator` to refuse an agent.

    Args: code: stable word for programs. message: for people; the agent logs it. close_code: 4401, 4403 (never come
    back) or 4400. pause: seconds that the agent is asked to stay away.
    """

    def __init__(
        self, code: str, message: str, *, close_code: int = link.CLOSE_UNAUTHENTICATED, pause: float = 0.0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.close_code = close_code
        self.pause = pause

    @property
    def final(self) -> bool:
        return self.close_code == link.CLOSE_FINAL


class LinkDown(Exception):
    """The agent could not bring the link up. `hop` names the step, `hint` what an operator can do."""

    hop: ClassVar[str] = "link"
    final = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.hop}: {self.message}"


class DnsFailed(LinkDown):
    hop = "dns"


class TcpFailed(LinkDown):
    hop = "tcp"


class ProxyFailed(LinkDown):
    """`status` is what the proxy answered to CONNECT; 0 when it did not."""

    hop = "proxy"

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class TlsFailed(LinkDown):
    """`chain` describes the certificates that were offered, the server's own first."""

    hop = "tls"

    def __init__(self, message: str, *, chain: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.chain = chain


class UpgradeRefused(LinkDown):
    """Something answered HTTP, but not 101. `body` is the beginning of its answer."""

    hop = "upgrade"

    def __init__(self, message: str, *, status: int = 0, body: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.body = body


class ProtocolFailed(LinkDown):
    hop = "protocol"


class RefusedThere(LinkDown):
    """The server refused this agent; `final` says that it must not come back, `pause` how long to stay away."""

    hop = "handshake"

    def __init__(self, code: str, message: str, *, final: bool = False, pause: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.final = final
        self.pause = pause
