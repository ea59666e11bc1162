"""The one Secret that the agent reads and writes, with its own rights: its key, for every pod that it runs in.

Rare and small, so a thread with the standard library's client does; streams of users are `forward.py`'s. What the
Secret holds is decided in `shared.py`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes.credentials import ApiServer, Credentials

TIMEOUT = 10.0
"""Seconds for connecting, and for each read."""
LARGEST_ANSWER = 1024 * 1024 + 64 * 1024
"""A Secret holds 1 MiB at most."""
LABELS = {"app.kubernetes.io/part-of": "towline", "app.kubernetes.io/managed-by": "towline-agent"}


class Conflict(KubernetesError):
    """Somebody else made or changed the Secret meanwhile."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a Secret held at one version."""

    data: Mapping[str, bytes] = field(repr=False)
    version: str


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Secret(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    data: dict[str, str] = {}


class _Status(msgspec.Struct):
    message: str = ""


class KeySecret:
    """One Secret, by namespace and name."""

    def __init__(self, credentials: Credentials, namespace: str, name: str) -> None:
        self._credentials = credentials
        self._namespace = namespace
        self._name = name

    def __repr__(self) -> str:
        return f"<KeySecret {self._namespace}/{self._name}>"

    async def read(self) -> Content | None:
        """Return what it holds; None when there is none. Raises: KubernetesError."""
        status, body = await self._call("GET", self._name)
        return None if status == 404 else self._content(status, body)

    async def create(self, data: Mapping[str, bytes]) -> Content:
        """Make it. Raises: Conflict: there is one already. KubernetesError."""
        return self._content(*await self._call("POST", "", self._object(data)))

    async def replace(self, data: Mapping[str, bytes], version: str) -> Content:
        """Write it, if it is still at a version. Raises: Conflict, KubernetesError."""
        return self._content(*await self._call("PUT", self._name, self._object(data, version)))

    def _object(self, data: Mapping[str, bytes], version: str = "") -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": self._name, "namespace": self._namespace, "labels": LABELS}
        if version:
            metadata["resourceVersion"] = version
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": encoded}

    def _content(self, status: int, body: bytes) -> Content:
        if status == 409:
            raise Conflict(f"the Secret {self._name} was changed meanwhile")
        if status not in (200, 201):
            raise KubernetesError(f"the Secret {self._name}: the API server answers {status}: {_message(body)}")
        try:
            found = msgspec.json.decode(body, type=_Secret)
            data = {key: base64.b64decode(text, validate=True) for key, text in found.data.items()}
        except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error) as error:
            raise KubernetesError(f"the Secret {self._name} cannot be read") from error
        return Content(data, found.metadata.resource_version)

    async def _call(self, method: str, name: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        server = self._credentials.current()
        path = f"/api/v1/namespaces/{self._namespace}/secrets{f'/{name}' if name else ''}"
        status, answer = await asyncio.to_thread(_call, server, method, path, body)
        if status == 401:
            self._credentials.forget()
        return status, answer


def _call(server: ApiServer, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if server.authorization is not None:
        headers["Authorization"] = server.authorization.decode("ascii")
    connection = (
        http.client.HTTPSConnection(server.host, server.port, timeout=TIMEOUT, context=server.tls)
        if server.tls is not None
        else http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT)
    )
    try:
        connection.request(method, path, msgspec.json.encode(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(LARGEST_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise KubernetesError(f"the API server cannot be asked for the agent's key: {error}") from error
    finally:
        connection.close()


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Status).message[:300] or "no reason given"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "no reason given"
