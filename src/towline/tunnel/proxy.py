"""The HTTP proxy between an agent and its server: which one the environment names, and how to pass it.

Only CONNECT over plain HTTP to the proxy, with basic credentials from its URL: that is what company networks have.
Credentials never appear in an error or a repr.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from towline.tunnel.errors import ProxyFailed

MAX_REPLY_BYTES = 16 * 1024
"""Head of the proxy's answer to CONNECT; login pages come as its body, which is not read."""

_VARIABLES = {"https": ("https_proxy", "all_proxy"), "http": ("http_proxy", "all_proxy")}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    credentials: str = field(default="", repr=False)
    """`user:password`, decoded."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def connect_request(self, host: str, port: int) -> bytes:
        """Return the request that asks for a tunnel to a server."""
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.credentials:
            encoded = base64.b64encode(self.credentials.encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {encoded}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def parse_proxy(url: str) -> Proxy:
    """Parse the URL of a proxy; a bare `host:port` is one too.

    Raises: ProxyFailed: it is none, or of a kind that is not supported.
    """
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ProxyFailed("the proxy's URL cannot be read", hint="write http://HOST:PORT") from None
    if parts.scheme not in ("", "http") or not host:
        raise ProxyFailed(
            f"a proxy of kind {parts.scheme or 'unknown'!r} is not supported", hint="write http://HOST:PORT"
        )
    credentials = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port or 3128, credentials)


def proxy_for(scheme: str, host: str, port: int, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that the environment names for a server, None for the direct way.

    Names are read in lower case first, as other tools do. Raises: ProxyFailed: as `parse_proxy`.
    """
    if _is_exempt(host, port, _variable(environment, "no_proxy")):
        return None
    for name in _VARIABLES[scheme]:
        if url := _variable(environment, name):
            return parse_proxy(url)
    return None


def check_reply(reply: bytes, proxy: Proxy) -> bytes | None:
    """Read the proxy's answer to CONNECT; None when more bytes are needed, else what came behind it.

    Raises: ProxyFailed: it refused, or does not speak HTTP.
    """
    end = reply.find(b"\r\n\r\n")
    if end < 0:
        if len(reply) > MAX_REPLY_BYTES:
            raise ProxyFailed(f"the proxy {proxy} does not end its answer")
        return None
    status_line = reply[: reply.index(b"\r\n")].decode("latin-1")
    words = status_line.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise ProxyFailed(f"what listens on {proxy} is no HTTP proxy")
    status = int(words[1])
    if status == 407:
        raise ProxyFailed(
            f"the proxy {proxy} wants a user and a password (407)",
            status=status,
            hint="put them into the proxy's URL: http://USER:PASSWORD@HOST:PORT",
        )
    if not 200 <= status < 300:
        detail = "".join(c for c in status_line[:200] if c.isprintable())
        raise ProxyFailed(f"the proxy {proxy} refused the connection: {detail}", status=status)
    return reply[end + 4 :]


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _is_exempt(host: str, port: int, exempt: str) -> bool:
    return any(_matches(host.lower(), port, item.strip().lower()) for item in exempt.split(",") if item.strip())


def _matches(host: str, port: int, item: str) -> bool:
    if item == "*":
        return True
    name, colon, number = item.rpartition(":")
    if colon and number.isdigit() and ":" not in name:
        if int(number) != port:
            return False
        item = name
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(item.strip("[]"), strict=False)
    except ValueError:
        suffix = item.removeprefix("*").removeprefix(".")
        return host == suffix or host.endswith(f".{suffix}")
