"""The authority as the rest of this package sees it: the calls of `acme_client`, awaited, one account each.

Calls run in threads of our own, so that an authority that hangs takes none of those that others share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from cryptography import x509

from towline.control.certificates.acme_client import AcmeClient
from towline.control.certificates.acme_objects import (
    Authorization,
    Binding,
    Challenge,
    Directory,
    Order,
    RenewalWindow,
)

T = TypeVar("T")


class Authority(Protocol):
    """What issues certificates. Every call raises AuthorityRefused or AuthorityUnreachable."""

    @property
    def url(self) -> str: ...

    async def directory(self, *, fresh: bool = False) -> Directory: ...

    async def register(self, email: str, binding: Binding | None) -> str: ...

    async def new_order(self, names: tuple[str, ...], *, replaces: str = "") -> Order: ...

    async def order(self, url: str) -> Order: ...

    async def authorization(self, url: str) -> Authorization: ...

    def key_authorization(self, token: str) -> str: ...

    async def answer(self, challenge: Challenge) -> None: ...

    async def finalize(self, order: Order, request: x509.CertificateSigningRequest) -> Order: ...

    async def certificate(self, order: Order) -> str: ...

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None: ...

    async def renewal(self, certificate: x509.Certificate) -> RenewalWindow | None: ...


class ThreadedAuthority:
    """Implements `Authority`. Calls of one client follow each other: its connection and its nonces are no two's."""

    def __init__(self, client: AcmeClient) -> None:
        self._client = client
        self._thread = ThreadPoolExecutor(1, "towline-acme")

    def __repr__(self) -> str:
        return f"<ThreadedAuthority {self.url}>"

    @property
    def url(self) -> str:
        return self._client.url

    def close(self) -> None:
        """Take no further calls; one that runs ends by its own deadline."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def directory(self, *, fresh: bool = False) -> Directory:
        return await self._run(lambda: self._client.directory(fresh=fresh))

    async def register(self, email: str, binding: Binding | None) -> str:
        return await self._run(lambda: self._client.register(email, binding))

    async def new_order(self, names: tuple[str, ...], *, replaces: str = "") -> Order:
        return await self._run(lambda: self._client.new_order(names, replaces=replaces))

    async def order(self, url: str) -> Order:
        return await self._run(lambda: self._client.order(url))

    async def authorization(self, url: str) -> Authorization:
        return await self._run(lambda: self._client.authorization(url))

    def key_authorization(self, token: str) -> str:
        return self._client.key_authorization(token)

    async def answer(self, challenge: Challenge) -> None:
        await self._run(lambda: self._client.answer(challenge))

    async def finalize(self, order: Order, request: x509.CertificateSigningRequest) -> Order:
        return await self._run(lambda: self._client.finalize(order, request))

    async def certificate(self, order: Order) -> str:
        return await self._run(lambda: self._client.certificate(order))

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        await self._run(lambda: self._client.revoke(certificate, reason))

    async def renewal(self, certificate: x509.Certificate) -> RenewalWindow | None:
        return await self._run(lambda: self._client.renewal(certificate))

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
