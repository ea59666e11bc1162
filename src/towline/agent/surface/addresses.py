"""Where the surface listens, out of a setting: `8080`, `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `0.0.0.0:8080`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from towline.agent.errors import SettingsError
from towline.agent.settings import AgentSettings

LOOPBACK = "127.0.0.1"
DEFAULT_LISTEN = f"{LOOPBACK}:8080"
"""Where a standalone agent listens: the port that users of the PipeOps agent know, on loopback alone."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int
    """0 takes any free one."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return ipaddress.ip_address(self.host).is_loopback


def wanted(settings: AgentSettings) -> Address | None:
    """Return where the settings want the agent to listen; None for nowhere. Raises: SettingsError."""
    text = settings.listen or (DEFAULT_LISTEN if settings.standalone else "")
    return parse(text) if text else None


def parse(text: str) -> Address:
    """Read the setting. Raises: SettingsError. A port alone listens on loopback."""
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or LOOPBACK
    if host.lower() == "localhost":
        host = LOOPBACK
    try:
        ipaddress.ip_address(host)
        if not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError
    except ValueError as error:
        raise SettingsError(f"listen must be PORT or ADDRESS:PORT, like 127.0.0.1:8080, not {text!r}") from error
    return Address(host, int(port))
