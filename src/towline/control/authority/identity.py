"""The addresses and pins that this server tells agents and people: one place, so that all are told the same."""

from __future__ import annotations

from dataclasses import dataclass

from towline.control.authority.names import reachable_name
from towline.control.settings import Settings


@dataclass(frozen=True, slots=True)
class ServerAddresses:
    """How the server is reached. `origin` is what agents sign."""

    origin: str
    urls: tuple[str, ...]


def addresses(settings: Settings, port: int) -> ServerAddresses:
    """Return them. Args: port: that the edge listens on; the settings may have asked for any."""
    name = reachable_name(settings.hostnames, settings.listen_host)
    shown = f"[{name}]" if ":" in name else name
    origin = settings.public_url or f"https://{shown}:{port}"
    urls = tuple(url.rstrip("/") for url in settings.agent_urls) or (origin,)
    return ServerAddresses(origin, urls)
