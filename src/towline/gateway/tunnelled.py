"""The connector through a tunnel: each connection to a target is one stream that an agent dials."""

from collections.abc import Callable
from dataclasses import dataclass

from towline.gateway.errors import UpstreamAway, as_upstream_error
from towline.gateway.interfaces import ConnectorProtocol
from towline.tunnel.errors import TargetRefused, TunnelClosed
from towline.tunnel.session import Session
from towline.wire.streams import Target
from towline.wire.yamux_model import TooManyStreams

FindSession = Callable[[], Session | None]
"""Returns the session of the target's cluster now; None while no agent of it is connected. Quick, no waiting."""


@dataclass(frozen=True, eq=False)
class TunnelConnector:
    """Connects to what an agent dials. The first bytes travel with the stream's header, before the agent answered."""

    find_session: FindSession
    target: Target

    @property
    def is_ready(self) -> bool:
        """True while an agent of the cluster is connected."""
        session = self.find_session()
        return session is not None and session.closed is None

    def connect(self, protocol: ConnectorProtocol, first_bytes: bytes) -> None:
        session = self.find_session()
        if session is None:
            protocol.connection_failed(_away("away", "no agent of this cluster is connected"))
            return
        try:
            session.create_stream(self.target, lambda: protocol, first_bytes)  # type: ignore[return-value, arg-type]
        except TunnelClosed as error:
            protocol.connection_failed(_away("away", str(error)))
        except TooManyStreams as error:
            protocol.connection_failed(_away("full", str(error)))
        except TargetRefused as error:  # before a byte: the protocol of its agent does not carry it
            protocol.connection_failed(as_upstream_error(error))


def _away(refusal: str, why: str) -> UpstreamAway:
    error = UpstreamAway(why)
    error.refusal = refusal
    return error
