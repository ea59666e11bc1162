"""Who and where an agent is to an older control plane: its address, its token, an identity that stays over restarts."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from towline.agent import identity
from towline.agent.errors import SettingsError
from towline.agent.identity import Identity, Store
from towline.agent.protocols import names
from towline.agent.protocols.names import Older
from towline.agent.settings import AgentSettings
from towline.tunnel import dial
from towline.tunnel.dial import Endpoint, Route
from towline.wire import link

MAX_TOKEN_BYTES = 16 * 1024
"""Of a token's file: JSON Web Tokens are some 2 KiB."""

_SECURE = {"https": "https", "wss": "https", "http": "http", "ws": "http"}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Place:
    """One agent at one older control plane."""

    settings: AgentSettings
    older: Older
    route: Route
    store: Store
    """Its identity here: names, and the keys that never leave this host."""

    @property
    def agent_id(self) -> str:
        return self.store.current.agent_id

    @property
    def cluster_name(self) -> str:
        return self.store.current.cluster_name

    def token(self) -> str:
        """Read the token. Raises: SettingsError: there is none, or its file cannot be read."""
        path = self.settings.protocol_token_file
        token = _read_token(path) if path is not None else self.older.token
        if not token or not token.isascii() or not token.isprintable():
            known = " or ".join(names.TOKEN_NAMES[self.settings.protocol])
            raise SettingsError(f"no usable token: set {known}, or TOWLINE_AGENT_PROTOCOL_TOKEN_FILE")
        return token

    def endpoint(self, path: str, *, default_path: bool = False) -> Endpoint:
        """Return where a path of the control plane is; a base path in its address is kept.

        Args: default_path: the path counts only when the address has none. Raises: SettingsError.
        """
        return endpoint(self.settings.server, path, default_path=default_path)

    async def context(self, server: Endpoint) -> ssl.SSLContext | None:
        """Make the TLS context for a server; None for plain connections. Raises: LinkDown. SettingsError."""
        if not server.is_secure:
            return None
        context = await dial.trusted_context(server, self.route)
        if self.older.cert_file or self.older.key_file:
            try:
                context.load_cert_chain(self.older.cert_file, self.older.key_file or None)
            except (OSError, ssl.SSLError) as error:
                raise SettingsError(f"the client certificate {self.older.cert_file} cannot be used: {error}") from error
        return context


def endpoint(url: str, path: str, *, default_path: bool = False) -> Endpoint:
    """Parse the address of a control plane, `http(s)` or `ws(s)`. Raises: SettingsError."""
    parts = urlsplit(url.strip())
    try:
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"the server's address has no usable port: {error}") from error
    if parts.scheme not in _SECURE or not parts.hostname or parts.username is not None:
        raise SettingsError("the server's address must be http(s)://HOST[:PORT] or ws(s)://HOST[:PORT], without a user")
    scheme, base = _SECURE[parts.scheme], parts.path.rstrip("/")
    whole = (base or path) if default_path else base + path
    if parts.query and "?" not in whole:
        whole += f"?{parts.query}"
    return Endpoint(scheme, parts.hostname, port or (443 if scheme == "https" else 80), whole)


def own_folder(settings: AgentSettings) -> Path:
    """Return where this protocol's identity and journal lie: jobs of one control plane are no other's."""
    return settings.state_folder if settings.protocol == "towline" else settings.state_folder / settings.protocol


def settle(settings: AgentSettings) -> Place:
    """Find out who this agent is there, and write it down once. Raises: SettingsError, StorageError, IdentityError."""
    older = names.read(settings.protocol, os.environ, settings.protocol_file)
    endpoint(settings.server, "/")
    store = Store(own_folder(settings))
    if not store.exists():
        store.save(_made(settings, older))
    named = {"agent_id": older.agent_id, "cluster_name": older.cluster_name or older.agent_name}
    store.change(**{name: value for name, value in named.items() if value})
    place = Place(settings, older, _route(settings), store)
    place.token()
    return place


def architecture() -> str:
    """Return `linux-amd64` and the like, in Go's words."""
    machine = platform.machine()
    return f"{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}"


def hostname() -> str:
    return socket.gethostname() or "unknown"


def _route(settings: AgentSettings) -> Route:
    from towline import __version__
    from towline.tunnel.trust import TrustAnchors

    pins = tuple(filter(None, (pin.strip() for pin in settings.fingerprints.split(","))))
    anchors = TrustAnchors(fingerprints=pins, ca_file=str(settings.ca_file or ""))
    return Route(
        anchors=anchors, proxy=settings.proxy, environment=dict(os.environ), user_agent=f"towline-agent/{__version__}"
    )


def _made(settings: AgentSettings, older: Older) -> Identity:
    sealing, _ = identity.new_sealing_key()
    instance = identity.new_instance_id()
    made = hashlib.sha256(f"{hostname()}|{instance}".encode()).hexdigest()[:16]
    return Identity(
        agent_id=older.agent_id or f"agent-{made}",
        cluster_id="",
        cluster_name=older.cluster_name or older.agent_name or hostname(),
        instance_id=instance,
        key=identity.new_key(),
        sealing_key=sealing,
        server_urls=(),
        link_path="",
        generation=0,
        trust=link.Trust(fingerprints=()),
    )


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOKEN_BYTES).decode("utf-8", "replace").strip()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from error
