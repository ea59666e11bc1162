"""Trying one thing that the agent connects to, five times: is it there, how fast, at which address, with which TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import statistics
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from towline.agent.errors import DockerError, KubernetesAbsent
from towline.agent.kubernetes import upstream
from towline.agent.kubernetes.api import ApiRefused
from towline.agent.surface.parts import Parts
from towline.aio.streams import StreamError
from towline.aio.transports import TransportStream
from towline.tunnel import dial
from towline.tunnel.errors import LinkDown

TRIES = 5
"""Round trips of which the least, the median and the most are told."""
CONNECT_TIMEOUT = 10.0
"""Seconds for one connection to the control plane."""
PING_TIMEOUT = 5.0
"""Seconds for one answer of the Docker engine on this host."""
VERSION_BYTES = 64 * 1024
MILLISECONDS = 1000.0


@dataclass(slots=True)
class Found:
    """What came of it."""

    configured: bool = True
    """Whether there is anything to try."""
    address: str = ""
    error: str = ""
    latencies: list[float] = field(default_factory=list)
    """Seconds of each round trip that succeeded."""
    dns: dict[str, Any] | None = None
    tls: dict[str, Any] | None = None
    proxy: str = ""

    @property
    def is_well(self) -> bool:
        """Whether it works, or is not there to be used."""
        return not self.configured or (bool(self.latencies) and not self.error)

    def shown(self) -> dict[str, Any]:
        """Return it as the endpoint answers it, in milliseconds."""
        return {
            "configured": self.configured,
            "reachable": bool(self.latencies),
            "status": self._status(),
            "address": self.address,
            "latency_ms": self._latency(),
            "dns": self.dns,
            "tls": self.tls,
            "proxy": self.proxy,
            "error": self.error,
        }

    def _status(self) -> str:
        if not self.configured:
            return "not configured"
        if not self.latencies:
            return "unreachable"
        return "degraded" if self.error else "healthy"

    def _latency(self) -> dict[str, Any] | None:
        if not self.latencies:
            return None
        times = [round(seconds * MILLISECONDS, 3) for seconds in self.latencies]
        return {"min": min(times), "median": statistics.median(times), "max": max(times), "tries": len(times)}


async def control_plane(url: str, route: dial.Route) -> Found:
    """Connect to the server, through a proxy when there is one: a connection's first round trip is what is timed."""
    found = Found(address=url)
    try:
        endpoint = dial.Endpoint.parse(url)
        proxy = route.proxy_to(endpoint)
        context = await dial.trusted_context(endpoint, route) if endpoint.is_secure else None
    except (ValueError, LinkDown) as error:
        found.error = str(error)
        return found
    found.proxy = str(proxy) if proxy is not None else ""
    host, port = (proxy.host, proxy.port) if proxy is not None else (endpoint.host, endpoint.port)
    try:
        address = await _resolved(found, host, port)
        for _ in range(TRIES):
            found.latencies.append(await _connect_time(address, port))
        if context is not None and proxy is None:
            found.tls = await _tls_of(address, endpoint, context)
    except (OSError, TimeoutError) as error:
        found.error = str(error) or "no answer"
    return found


async def kubernetes(parts: Parts) -> Found:
    """Ask the API server for its version, on one connection. Raises: KubernetesError."""
    if parts.kubernetes is None:
        return Found(configured=False, error="this agent serves no Kubernetes")
    try:
        server = parts.kubernetes.credentials.current()
    except KubernetesAbsent as error:
        return Found(configured=False, error=str(error))
    found = Found(address=server.authority.decode())
    with contextlib.suppress(OSError):
        await _resolved(found, server.host, server.port)
    transport, stream = await upstream.dial(server, TransportStream)
    tls = transport.get_extra_info("ssl_object")
    if tls is not None:
        found.tls = _described(tls)
    stream.abort()
    async with parts.kubernetes.api.connection() as connection:
        for _ in range(TRIES):
            began = time.perf_counter()
            try:
                await (await connection.ask("/version")).read(VERSION_BYTES)
            except ApiRefused as error:
                # An answer all the same; after it the connection may be used up.
                found.latencies.append(time.perf_counter() - began)
                found.error = str(error)
                break
            found.latencies.append(time.perf_counter() - began)
            if not connection.is_reusable:
                break
    return found


async def docker(parts: Parts) -> Found:
    """Ping the engine; each time on a connection of its own, as the agent does."""
    if parts.docker is None:
        return Found(configured=False, error="this agent serves no Docker")
    engine = parts.docker.engine
    found = Found(address=engine.host)
    try:
        for _ in range(TRIES):
            began = time.perf_counter()
            await engine.call("GET", "/_ping", timeout=PING_TIMEOUT)
            found.latencies.append(time.perf_counter() - began)
    except (DockerError, StreamError) as error:
        found.error = str(error)
    return found


async def _resolved(found: Found, host: str, port: int) -> str:
    """Look a name up, note what came of it, and return the first address. Raises: OSError."""
    began = time.perf_counter()
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
    except OSError as error:
        found.dns = {"name": host, "addresses": [], "ms": None, "error": error.strerror or str(error)}
        raise
    took = round((time.perf_counter() - began) * MILLISECONDS, 3)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    found.dns = {"name": host, "addresses": addresses, "ms": took, "error": ""}
    return addresses[0]


async def _connect_time(address: str, port: int) -> float:
    began = time.perf_counter()
    async with asyncio.timeout(CONNECT_TIMEOUT):
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, address, port)
    took = time.perf_counter() - began
    transport.abort()
    return took


async def _tls_of(address: str, endpoint: dial.Endpoint, context: ssl.SSLContext) -> dict[str, Any]:
    """Raises: OSError, with the reason when the certificate is not accepted."""
    async with asyncio.timeout(CONNECT_TIMEOUT):
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, address, endpoint.port, ssl=context, server_hostname=endpoint.host
        )
    try:
        return _described(transport.get_extra_info("ssl_object"))
    finally:
        transport.abort()


def _described(connection: ssl.SSLObject) -> dict[str, Any]:
    """Return protocol, and whose certificate it is and for how long."""
    shown: dict[str, Any] = {"version": connection.version(), "issuer": "", "not_after": None, "days_left": None}
    der = connection.getpeercert(binary_form=True)
    if der:
        certificate = x509.load_der_x509_certificate(der)
        until = certificate.not_valid_after_utc
        shown["issuer"] = certificate.issuer.rfc4514_string()
        shown["not_after"] = until.isoformat(timespec="seconds")
        shown["days_left"] = round((until - datetime.now(UTC)).total_seconds() / 86400, 1)
    return shown
