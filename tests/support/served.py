"""A whole server for tests: the real edge with TLS on a loopback port, in this process."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.support.control_app import test_settings

from towline.control.server import Running, serving


@asynccontextmanager
async def served(database_url: str, folder: Path, **changes: Any) -> AsyncIterator[Running]:
    """A running server on a free port."""
    settings = test_settings(database_url, folder, public_url="", **{"drain_timeout": 2.0, **changes})
    async with serving(settings) as running:
        yield running


def trusting(running: Running) -> ssl.SSLContext:
    """A client's TLS that trusts the server's own authority and nothing else."""
    return ssl.create_default_context(cadata=running.control.tls.material.authority_pem)


def https(running: Running, **more: Any) -> httpx.AsyncClient:
    """A client that speaks to the server as an outsider does."""
    return httpx.AsyncClient(base_url=f"https://localhost:{running.port}", verify=trusting(running), **more)
