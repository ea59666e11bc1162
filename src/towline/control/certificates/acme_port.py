"""The authority as the rest of this package sees it: the calls of `acme_client`, awaited, one account each.

Calls run in threads of our own, so that an authority that hangs takes none of those that others share.
"""

from __future__ import annotations

import asyncio
import threading
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


CALLS_AT_ONCE = 4
"""Connections to the authority, one thread each: as many as names are worked on at once."""


class ThreadedAuthority:
    """Implements `Authority`. Each call has a client to itself: connections and nonces are no two's.

    Args: make: makes a client of the account at a URL; empty before there is one.
    """

    def __init__(self, make: Callable[[str], AcmeClient], account_url: str = "") -> None:
        self._make = make
        self._first = make(account_url)
        self._account_url = account_url
        self._idle = [self._first]
        self._is_closed = False
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, "towline-acme")

    def __repr__(self) -> str:
        return f"<ThreadedAuthority {self.url}>"

    @property
    def url(self) -> str:
        return self._first.url

    def close(self) -> None:
        """Take no further calls; one that runs ends by its own deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._is_closed = True
            for client in self._idle:
                client.close()

    async def directory(self, *, fresh: bool = False) -> Directory:
        return await self._run(lambda client: client.directory(fresh=fresh))

    async def register(self, email: str, binding: Binding | None) -> str:
        self._account_url = await self._run(lambda client: client.register(email, binding))
        return self._account_url

    async def new_order(self, names: tuple[str, ...], *, replaces: str = "") -> Order:
        return await self._run(lambda client: client.new_order(names, replaces=replaces))

    async def order(self, url: str) -> Order:
        return await self._run(lambda client: client.order(url))

    async def authorization(self, url: str) -> Authorization:
        return await self._run(lambda client: client.authorization(url))

    def key_authorization(self, token: str) -> str:
        return self._first.key_authorization(token)

    async def answer(self, challenge: Challenge) -> None:
        await self._run(lambda client: client.answer(challenge))

    async def finalize(self, order: Order, request: x509.CertificateSigningRequest) -> Order:
        return await self._run(lambda client: client.finalize(order, request))

    async def certificate(self, order: Order) -> str:
        return await self._run(lambda client: client.certificate(order))

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        await self._run(lambda client: client.revoke(certificate, reason))

    async def renewal(self, certificate: x509.Certificate) -> RenewalWindow | None:
        return await self._run(lambda client: client.renewal(certificate))

    async def _run(self, call: Callable[[AcmeClient], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._with_client, call)

    def _with_client(self, call: Callable[[AcmeClient], T]) -> T:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        client = client or self._make(self._account_url)
        try:
            return call(client)
        finally:
            with self._lock:
                self._idle.append(client)
                if self._is_closed:
                    client.close()
