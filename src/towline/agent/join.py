"""Turning a join token into an identity: over HTTPS, with the pinned authority, keys made here.

The token comes from a file, the environment or standard input, never from an argument. Source:
docs/wire-protocol.md, "Enrolment".
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import httpx
import msgspec

import towline
from towline.agent import files, identity
from towline.agent.errors import IdentityError, JoinError
from towline.agent.identity import Identity, Key, Store
from towline.agent.settings import PREFIX, AgentSettings
from towline.tunnel import dial, trust
from towline.tunnel.errors import LinkDown
from towline.wire import link, tokens

ANSWER_TIMEOUT = 30.0
"""Seconds for each of the two calls: the server's database may be busy with a whole fleet."""

MAX_TOKEN_FILE_BYTES = 4096
PENDING_FILE = "joining.json"


@dataclass(frozen=True, slots=True)
class Server:
    """Whom to ask. Without fingerprints the system's authorities, or those of `ca_file`, decide."""

    url: str
    fingerprints: tuple[str, ...] = ()
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of it."""

    identity: Identity
    pending: bool = False
    time_offset: float = 0.0


@dataclass(slots=True)
class _Keys:
    """Made before the first attempt and kept until it succeeds: a lost answer must not burn the token."""

    key: Key
    sealing_private: str
    sealing_public: str
    instance_id: str = field(default_factory=identity.new_instance_id)


class _Challenge(msgspec.Struct, frozen=True):
    nonce: str
    origin: str
    server_time: float = 0.0


class _Enrolled(msgspec.Struct, frozen=True):
    agent_id: str
    key_id: str
    cluster_id: str
    cluster_name: str
    generation: int
    trust: link.Trust
    server_urls: tuple[str, ...] = ()
    link_path: str = dial.LINK_PATH
    pending: bool = False


def read_token(file: Path | None, environment: Mapping[str, str], stdin: TextIO | None) -> str:
    """Find the join token: the file, then TOWLINE_AGENT_TOKEN(_FILE), then standard input when it is not a terminal.

    Raises: JoinError: there is none, or it is mistyped.
    """
    named = file or (Path(text) if (text := environment.get(PREFIX + "TOKEN_FILE", "")) else None)
    if named is not None:
        token = _from_file(named)
    elif text := environment.get(PREFIX + "TOKEN", ""):
        token = text
    elif stdin is not None:
        if stdin.isatty():
            print("Paste the join token: ", end="", file=sys.stderr, flush=True)
        token = stdin.readline(tokens.MAX_TOKEN_LENGTH * 4)
    else:
        token = ""
    token = token.strip()
    if not token:
        raise JoinError("there is no join token", hint="give it on standard input or with --token-file")
    if not tokens.is_well_formed(token, tokens.JOIN):
        raise JoinError(
            "the join token is mistyped or cut off: its check characters do not fit",
            hint="copy the whole line again; a join token begins with twj_",
            code="mistyped",
        )
    return token


async def join(settings: AgentSettings, server: Server, token: str, *, replace: bool = False) -> Joined:
    """Join, and put the identity on disk.

    Args: replace: join again although this host has an identity.
    Raises: JoinError: with what to do. StorageError: the identity cannot be written.
    """
    store = Store(settings.state_folder)
    if store.exists() and not replace:
        raise JoinError(_already(store), hint="add --again to join anew, or run `towline agent leave` first")
    endpoint = _endpoint(server.url)
    route = route_for(settings, server)
    keys = _pending_keys(settings.state_folder)
    enrolled, challenge = await _enrol(endpoint, route, token, keys)
    made = _identity(enrolled, keys, server)
    store.save(made)
    (settings.state_folder / PENDING_FILE).unlink(missing_ok=True)
    return Joined(made, enrolled.pending, round(time.time() - challenge.server_time, 1))


def route_for(settings: AgentSettings, server: Server) -> dial.Route:
    """Return how to reach a server before there is an identity."""
    ca_file = server.ca_file or settings.ca_file
    anchors = trust.TrustAnchors(fingerprints=server.fingerprints, ca_file=str(ca_file or ""))
    return dial.Route(anchors=anchors, proxy=settings.proxy, environment=dict(os.environ))


async def _enrol(endpoint: dial.Endpoint, route: dial.Route, token: str, keys: _Keys) -> tuple[_Enrolled, _Challenge]:
    async with await http_client(endpoint, route, timeout=ANSWER_TIMEOUT) as client:
        challenge = _parsed(_Challenge, await _post(client, "/api/v1/agents/enrol/challenge", {}))
        body = _application(token, keys, challenge)
        return _parsed(_Enrolled, await _post(client, "/api/v1/agents/enrol", body)), challenge


async def http_client(endpoint: dial.Endpoint, route: dial.Route, *, timeout: float) -> httpx.AsyncClient:
    """Make a client of the server's HTTP API that believes whom the route believes. Raises: JoinError."""
    context = await _context(endpoint, route)
    return httpx.AsyncClient(
        base_url=str(endpoint), verify=context, proxy=proxy_to(route, endpoint), trust_env=False, timeout=timeout
    )


async def _context(endpoint: dial.Endpoint, route: dial.Route) -> ssl.SSLContext | bool:
    if not endpoint.is_secure:
        return True
    try:
        return await dial.trusted_context(endpoint, route)
    except LinkDown as error:
        raise JoinError(str(error), hint=error.hint, code=error.hop) from error


def proxy_to(route: dial.Route, endpoint: dial.Endpoint) -> httpx.Proxy | None:
    try:
        proxy = route.proxy_to(endpoint)
    except LinkDown as error:
        raise JoinError(str(error), hint=error.hint, code=error.hop) from error
    if proxy is None:
        return None
    user, colon, password = proxy.credentials.partition(":")
    return httpx.Proxy(f"http://{proxy}", auth=(user, password) if colon else None)


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> httpx.Response:
    try:
        answer = await client.post(path, json=body)
    except httpx.ConnectError as error:
        raise JoinError(_connect_words(client, error), hint=_connect_hint(error), code="unreachable") from error
    except httpx.HTTPError as error:
        raise JoinError(
            f"{client.base_url} did not answer: {type(error).__name__} {error}", code="unreachable"
        ) from error
    if answer.is_success:
        return answer
    raise _refusal(client, answer)


def _refusal(client: httpx.AsyncClient, answer: httpx.Response) -> JoinError:
    try:
        error = answer.json()["error"]
        return JoinError(
            str(error["message"]),
            hint=str(error.get("hint", "")),
            code=str(error.get("code", "")),
            reason=str((error.get("detail") or {}).get("reason", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return JoinError(
            f"{client.base_url} answered {answer.status_code}, and not as a Towline server does",
            hint="is the address right, and does a proxy in between let it through?",
            code="not_towline",
        )


def _connect_words(client: httpx.AsyncClient, error: httpx.ConnectError) -> str:
    return f"{client.base_url} cannot be reached: {error or 'connection refused'}"


def _connect_hint(error: httpx.ConnectError) -> str:
    text = str(error).lower()
    if "not yet valid" in text or "expired" in text:
        return "check the clock of this machine first, then the server's certificate"
    if "certificate" in text:
        return "give the fingerprint of the join line with --fingerprint, or the authority with --ca-file"
    return "is the server running, and does a firewall let this machine out?"


def _application(token: str, keys: _Keys, challenge: _Challenge) -> dict[str, Any]:
    both = identity.decoded(keys.key.public) + identity.decoded(keys.sealing_public)
    text = link.enrol_text(
        origin=challenge.origin,
        token_id=tokens.public_id(token),
        keys_sha256=hashlib.sha256(both).hexdigest(),
        nonce=challenge.nonce,
    )
    return {
        "token": token,
        "public_key": keys.key.public,
        "sealing_key": keys.sealing_public,
        "instance_id": keys.instance_id,
        "hostname": socket.gethostname(),
        "version": towline.__version__,
        "kind": "kubernetes" if os.environ.get("KUBERNETES_SERVICE_HOST") else "docker",
        "nonce": challenge.nonce,
        "signature": keys.key.sign(text),
    }


def _identity(enrolled: _Enrolled, keys: _Keys, server: Server) -> Identity:
    urls = tuple(dict.fromkeys((server.url.rstrip("/"), *enrolled.server_urls)))
    return Identity(
        agent_id=enrolled.agent_id,
        cluster_id=enrolled.cluster_id,
        cluster_name=enrolled.cluster_name,
        instance_id=keys.instance_id,
        key=Key(key_id=enrolled.key_id, private=keys.key.private),
        sealing_key=keys.sealing_private,
        server_urls=urls,
        link_path=enrolled.link_path,
        generation=enrolled.generation,
        trust=_trust(enrolled.trust, server),
        joined_at=time.time(),
    )


def _trust(given: link.Trust, server: Server) -> link.Trust:
    """Pin what the server says only when its certificate was pinned: else an authority vouches for it.

    One that was named in a file is kept, so that the agent runs without the file.
    """
    if server.fingerprints:
        fingerprints = tuple(dict.fromkeys((*server.fingerprints, *given.fingerprints)))
        return msgspec.structs.replace(given, fingerprints=fingerprints)
    ca_pem = server.ca_file.read_text() if server.ca_file else ""
    return msgspec.structs.replace(given, fingerprints=(), ca_pem=ca_pem)


def _pending_keys(state_folder: Path) -> _Keys:
    """Return the keys of an attempt whose answer was lost, or new ones, on disk before they are sent."""
    path = state_folder / PENDING_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Keys)
    except (OSError, msgspec.DecodeError):
        return _new_keys(path)


def _new_keys(path: Path) -> _Keys:
    files.private_folder(path.parent)
    files.write_durably(path, fresh_keys())
    return msgspec.json.decode(path.read_bytes(), type=_Keys)


def fresh_keys() -> bytes:
    """Make keys to join with, as `PENDING_FILE` holds them."""
    private, public = identity.new_sealing_key()
    return msgspec.json.encode(_Keys(identity.new_key(), private, public))


def _parsed(kind: type[Any], answer: httpx.Response) -> Any:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError as error:
        raise JoinError(f"the server's answer cannot be read: {error}", code="not_towline") from error


def _endpoint(url: str) -> dial.Endpoint:
    try:
        return dial.Endpoint.parse(url)
    except ValueError as error:
        raise JoinError(str(error), hint="an address looks like https://towline.example:8443") from error


def _from_file(path: Path) -> str:
    try:
        with path.open() as file:
            return file.read(MAX_TOKEN_FILE_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise JoinError(f"the token file {path} cannot be read: {error}") from error


def _already(store: Store) -> str:
    try:
        return f"this host has joined as {store.current.cluster_name!r}"
    except IdentityError as error:
        return f"this host has an identity: {error}"
