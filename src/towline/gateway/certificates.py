"""Which certificate a TLS handshake gets: by the name that the client asks for, exact before wildcard.

Holds the material of every name in memory and makes TLS contexts from it when they are first asked for. Where
certificates come from, and when they change, is the control plane's business. No database, no waiting: the callback of
a handshake runs on the event loop.
"""

import os
import ssl
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from towline.gateway.interfaces import TlsProvider
from towline.gateway.tls import harden, remember_server_name
from towline.wire.client_hello import ClientHello

MAX_CONTEXTS = 5_000
"""Contexts kept ready, each about 21 KiB: 100 MiB at the most. Further names make theirs anew, in a millisecond."""
ALPN_CHALLENGE = "acme-tls/1"
"""What the client of a TLS-ALPN-01 challenge asks for. Source: RFC 8737 section 3."""


@dataclass(frozen=True, slots=True)
class Material:
    """A certificate chain and its key, both PEM. `id` names the pair for good: another one has another id."""

    id: str
    names: tuple[str, ...]
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


def context_of(material: Material, *, protocols: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """Return a server context. Raises: ssl.SSLError: chain and key are none, or do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    harden(context)
    context.set_alpn_protocols(list(protocols))
    with _as_file(material.key) as key, _as_file(material.chain) as chain:
        context.load_cert_chain(chain, key)
    return context


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """OpenSSL reads certificates and keys from files alone. On Linux this one never is on a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("towline-tls")
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile(prefix="towline-tls-") as file:  # mode 0600
            file.write(content)
            file.flush()
            yield file.name


class Certificates:
    """Picks the certificate of each handshake.

    `own` gives the context of the server's own certificate, for its own names, for clients that name nobody, and for
    everybody while `is_strict` is False. Strict, a name without a certificate ends the handshake with
    `unrecognized_name`: whoever scans for names learns nothing, and no service shows another one's certificate.
    """

    def __init__(self, own: TlsProvider, *, max_contexts: int = MAX_CONTEXTS) -> None:
        self.is_strict = False
        self.own_names: Collection[str] = frozenset()
        self.kept_names: Collection[str] = frozenset()
        """Own names that are shown the own certificate whatever else there is: agents pinned it."""
        self.signer: Callable[[str], Material | None] | None = None
        """Makes what nobody else gave a name; asked on the event loop, so it answers within a millisecond or two."""
        self.refused: Counter[str] = Counter()
        """Handshakes that were ended, by reason."""
        self._own = own
        self._prepared: ssl.SSLContext | None = None
        self._max_contexts = max_contexts
        self._by_name: dict[str, Material] = {}
        self._served: set[str] = set()
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()
        self._challenges: dict[str, ssl.SSLContext] = {}

    def __repr__(self) -> str:
        return f"<Certificates {len(self._by_name)} names, {len(self._contexts)} contexts>"

    def __len__(self) -> int:
        return len(self._by_name)

    # what is there

    def replace(self, materials: Iterable[Material]) -> None:
        """Serve these and nothing else; of two for one name the later one is taken."""
        self._by_name = {name: material for material in materials for name in material.names}
        kept = {material.id for material in self._by_name.values()}
        for gone in self._served - kept:
            self._contexts.pop(gone, None)
        self._served = kept

    def find(self, name: str) -> Material | None:
        """Return what is served for a name; a wildcard covers one label, as in RFC 6125 section 6.4.3."""
        found = self._by_name.get(name)
        if found is None:
            _, dot, rest = name.partition(".")
            found = self._by_name.get(f"*.{rest}") if dot else None
        return found

    # challenges

    def challenge(self, name: str, material: Material) -> None:
        """Show this certificate to who asks for a TLS-ALPN-01 challenge of a name, and to nobody else."""
        self._challenges[name] = context_of(material, protocols=(ALPN_CHALLENGE,))

    def end_challenge(self, name: str) -> None:
        """Forget the challenge of a name."""
        self._challenges.pop(name, None)

    @property
    def wants_hello(self) -> bool:
        """True while a handshake may be for a challenge; see `interfaces.HelloReader`."""
        return bool(self._challenges)

    def choose(self, hello: ClientHello) -> ssl.SSLContext | None:
        """Return the context for who asks for a challenge and nothing else; None for everybody else."""
        if hello.server_name is None or hello.protocols != (ALPN_CHALLENGE,):
            return None
        return self._challenges.get(hello.server_name.lower())

    # handshakes

    def context(self) -> ssl.SSLContext:
        """Return the context for one more connection; implements `TlsProvider`."""
        own = self._own()
        if own is not self._prepared:
            own.sni_callback = self._pick
            self._prepared = own
        return own

    def _pick(self, connection: ssl.SSLObject, name: str | None, own: ssl.SSLContext) -> int | None:
        alert = remember_server_name(connection, name, own)
        if alert is not None or name is None:
            return alert
        asked = name.lower()
        if asked in self.kept_names:
            return None
        material = self.find(asked) or (self.signer(asked) if self.signer is not None else None)
        if material is not None:
            connection.context = self._context(material)
            return None
        if self.is_strict and not covers(self.own_names, asked):
            self.refused["unknown_name"] += 1
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    def _context(self, material: Material) -> ssl.SSLContext:
        found = self._contexts.get(material.id)
        if found is None:
            found = self._contexts[material.id] = context_of(material)
            if len(self._contexts) > self._max_contexts:
                self._contexts.popitem(last=False)
        else:
            self._contexts.move_to_end(material.id)
        return found


def covers(names: Container[str], name: str) -> bool:
    """Tell whether one of some certificate names, wildcards included, is good for a host name."""
    if name in names:
        return True
    _, dot, rest = name.partition(".")
    return bool(dot) and f"*.{rest}" in names
