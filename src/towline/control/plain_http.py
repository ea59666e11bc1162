"""The plain port beside the one for everything: challenges and redirects, behind the same limits as the edge.

A second edge without TLS; nothing behind it but its router. It is closed before the first one.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import urlsplit

from towline.control.app import ControlPlane
from towline.control.certificates.routing import HTTPS_PORT, PlainRoute, RedirectToHttps
from towline.control.edge_metrics import log_request
from towline.control.errors import StartupError
from towline.gateway.edge import Edge
from towline.gateway.errors import UpstreamUnreachable
from towline.gateway.interfaces import ConnectorProtocol, Peer, Route, ToTarget
from towline.gateway.options import EdgeOptions
from towline.wire.http1 import RequestHead


class Nowhere:
    """What the plain port has instead of an API and of agents' links: both need TLS."""

    def connect(self, protocol: ConnectorProtocol, first_bytes: bytes) -> None:
        protocol.connection_failed(UpstreamUnreachable("nothing is served without TLS"))

    def accept(self, transport: asyncio.Transport, head_bytes: bytes, peer: Peer) -> None:
        transport.abort()


def plain_edge(control: ControlPlane, options: EdgeOptions) -> Edge | None:
    """Return the edge of the plain port, listening; None when the settings want none. Raises: StartupError."""
    place = control.settings.listen_http
    if place is None:
        return None
    nowhere = Nowhere()
    router = RedirectToHttps(control.certificates.answers, lambda: https_port(control), plain_routes(control))
    edge = Edge(
        replace(options, plain_for_everybody=True), router=router, api=nowhere, links=nowhere, access_log=log_request
    )
    try:
        edge.listen(*place)
    except OSError as error:
        raise StartupError(f"cannot listen on {control.settings.gateway_listen_http}: {error.strerror}") from error
    return edge


def plain_routes(control: ControlPlane) -> PlainRoute:
    """Return what finds the routes whose options say that plain HTTP is served too."""

    def find(head: RequestHead, peer: Peer) -> Route | None:
        found = control.gateway.registry.find(head.host, head.path)
        wanted = isinstance(found, ToTarget) and found.options is not None and not found.options.https_redirect
        return found if wanted else None

    return find


def https_port(control: ControlPlane) -> int:
    """Return the port at which browsers reach HTTPS: of the public address, else the one that we listen on."""
    url = urlsplit(control.settings.public_url)
    if url.scheme == "https":
        return url.port or HTTPS_PORT
    return control.port
