"""Where the API server is and how the agent proves itself there: a pod's ServiceAccount, or a kubeconfig file.

What was read is kept for less than a minute, because bound tokens rotate and k3s renews its certificates. Nothing here
connects; that is `upstream.py`. Tokens and keys appear in no text that leaves this module.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from towline.agent.errors import KubernetesAbsent, KubernetesError
from towline.agent.kubernetes import kubeconfig
from towline.agent.kubernetes.material import Material, read_secret
from towline.agent.settings import AgentSettings
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.sockets import Line

REREAD_INTERVAL = 45.0
"""Seconds that a token is used before its file is read again: a minute is the most there may be."""

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
K3S_KUBECONFIG = Path("/etc/rancher/k3s/k3s.yaml")

ALPN = "http/1.1"
"""A connection of HTTP/2 cannot be upgraded, so it is never offered."""


Way = Callable[[], Awaitable[Line]]
"""Makes a line to the API server. Raises: KubernetesError: there is no way now."""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """The one fixed upstream, with what is needed to speak to it."""

    host: str
    port: int
    server_name: str
    tls: ssl.SSLContext | None = field(repr=False)
    """None on loopback only."""
    authorization: bytes | None = field(repr=False)
    """Value of the Authorization field; None when a client certificate speaks for the agent."""
    way: Way | None = field(default=None, repr=False, compare=False)
    """Where the API server is not dialled from this host."""

    @property
    def authority(self) -> bytes:
        """Value of the Host field."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}".encode()

    @property
    def origins(self) -> tuple[bytes, ...]:
        """How a location may name it: with its port, and without the one that its scheme means."""
        scheme, usual = (b"http", 80) if self.tls is None else (b"https", 443)
        whole = b"%s://%s" % (scheme, self.authority)
        return (whole, whole.removesuffix(b":%d" % usual)) if self.port == usual else (whole,)

    def is_same_place(self, other: ApiServer) -> bool:
        """Tell whether a connection to one may be used with the other's credentials."""
        return (self.host, self.port, self.server_name, self.tls) == (
            other.host,
            other.port,
            other.server_name,
            other.tls,
        )


class Credentials:
    """Reads the source that the settings name; `current` is what to use now."""

    def __init__(self, source: Callable[[], Material], *, way: Way | None = None, clock: Clock = REAL_CLOCK) -> None:
        self._source = source
        self._way = way
        self.clock = clock
        self._server: ApiServer | None = None
        self._read_at = 0.0
        self._tls: ssl.SSLContext | None = None
        self._tls_of: tuple[str, str, str] | None = None
        self.authorities = ""
        """PEM of those that sign for the cluster, as they were read last."""

    def __repr__(self) -> str:
        return f"<Credentials {self._server or 'unread'}>"

    def current(self) -> ApiServer:
        """Return the API server with credentials that are at most REREAD_INTERVAL old.

        Raises: KubernetesAbsent: the agent has no Kubernetes to serve. KubernetesError: what is there is of no use.
        """
        now = self.clock.monotonic()
        if self._server is None or now - self._read_at >= REREAD_INTERVAL:
            self._server = None  # nothing old is used when the source cannot be read any more
            self._server = self._make(self._source())
            self._read_at = now
        return self._server

    def forget(self) -> None:
        """Read anew at the next use: the API server did not take them."""
        self._server = None

    def _make(self, material: Material) -> ApiServer:
        self.authorities = material.authorities
        scheme, host, port = split_server(material.server)
        tls = self._context(material) if scheme == "https" else None
        authorization = b"Bearer " + material.token.encode("ascii") if material.token else None
        return ApiServer(host, port, material.server_name or host, tls, authorization, self._way)

    def _context(self, material: Material) -> ssl.SSLContext:
        """Return the same context as long as nothing that it was made of changes."""
        made_of = (material.authorities, material.certificate, material.key)
        if self._tls is None or made_of != self._tls_of:
            self._tls, self._tls_of = make_context(material), made_of
        return self._tls


def find_source(
    settings: AgentSettings,
    environment: Mapping[str, str] | None = None,
    *,
    service_account: Path = SERVICE_ACCOUNT,
    k3s: Path = K3S_KUBECONFIG,
) -> Callable[[], Material]:
    """Return what reads the credentials: the kubeconfig that is set, else the pod's ServiceAccount.

    A kubeconfig that merely lies on the machine is never used unasked: it may be an administrator's.
    """
    environment = os.environ if environment is None else environment
    path = settings.kubeconfig
    if settings.kubernetes == "off":
        return _absent("Kubernetes is switched off by the agent's setting `kubernetes`")
    if path is not None:
        return lambda: kubeconfig.read(path, settings.kubeconfig_context)
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    if host:
        port = environment.get("KUBERNETES_SERVICE_PORT_HTTPS") or environment.get("KUBERNETES_SERVICE_PORT") or "443"
        return lambda: read_service_account(host, port, service_account)
    return lambda: _nothing_found(k3s)


def read_service_account(host: str, port: str, folder: Path) -> Material:
    """Read what Kubernetes mounts into a pod. Raises: KubernetesError: naming the file and the fix."""
    hint = "the pod needs its ServiceAccount token: automountServiceAccountToken must not be false"
    return Material(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        authorities=read_secret(folder / "ca.crt", hint),
        token=kubeconfig.checked_token(read_secret(folder / "token", hint), str(folder / "token")),
    )


def own_namespace(folder: Path) -> str:
    """Return the namespace of the agent's own pod, out of what Kubernetes mounts into it; empty outside of one."""
    try:
        return (folder / "namespace").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def split_server(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port. Raises: KubernetesError: an address that the agent does not speak to."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise KubernetesError("the address of the API server cannot be read") from error
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise KubernetesError("the address of the API server must be https://HOST:PORT")
    if parts.path.strip("/"):
        raise KubernetesError(f"the address of the API server has a path ({parts.path}); name the API server itself")
    if parts.scheme == "http" and not _is_loopback(host):
        raise KubernetesError(f"the API server at {host} must be spoken to by https; plain http is for loopback alone")
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80)


def make_context(material: Material) -> ssl.SSLContext:
    """Make the TLS context: always verifying, HTTP/1.1 only. Raises: KubernetesError: unusable certificates."""
    try:
        context = ssl.create_default_context(cadata=material.authorities or None)
    except (ssl.SSLError, ValueError) as error:
        raise KubernetesError("the certificate authority of the API server is not PEM") from error
    # Newer Pythons ask for key identifiers that many cluster authorities, k3s' among them, were made without.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols([ALPN])
    if material.certificate:
        _load_pair(context, material)
    return context


def _load_pair(context: ssl.SSLContext, material: Material) -> None:
    """Give the context its client certificate; OpenSSL reads files alone, so the key passes through memory as one."""
    descriptor = os.memfd_create("towline-client", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, f"{material.certificate}\n{material.key}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except (ssl.SSLError, OSError) as error:
        raise KubernetesError("the client certificate and key of the kubeconfig do not fit together") from error
    finally:
        os.close(descriptor)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _absent(reason: str) -> Callable[[], Material]:
    def read() -> Material:
        raise KubernetesAbsent(reason)

    return read


def _nothing_found(k3s: Path) -> Material:
    if k3s.exists():
        raise KubernetesAbsent(f"k3s runs here: set `kubeconfig` to {k3s}, or to one with fewer rights, to serve it")
    raise KubernetesAbsent("no kubeconfig: this is no pod of a cluster, and the agent's setting `kubeconfig` is empty")
