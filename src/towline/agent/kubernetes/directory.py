"""What the agent knows of services, endpoints and pods when a stream asks for one: watched, remembered, or read once.

Services are watched by whoever follows the cluster (`watched`); endpoints and pods are read when they are needed and
remembered for some seconds. Nothing here dials.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes.api import Api, ApiRefused, TooLarge
from towline.agent.streams.refusal import Refused
from towline.aio.clock import REAL_CLOCK, Clock
from towline.kube import traffic
from towline.kube.objects import List

REMEMBER_SECONDS = 5.0
"""A pod that was replaced is found again after as long; a failed dial forgets it at once."""
MOST_REMEMBERED = 2000
"""Answers kept; when there are more, all are forgotten, which costs one read each."""
LARGEST_ANSWER = 4 * 1024 * 1024
"""A service with a thousand endpoints has some 500 KiB of slices."""
SERVICE_LABEL = "kubernetes.io/service-name"

T = TypeVar("T")
_service = msgspec.json.Decoder(traffic.Service)
_pod = msgspec.json.Decoder(traffic.Pod)
_slices = msgspec.json.Decoder(List[traffic.EndpointSlice])


class Directory:
    """Looks objects up by name."""

    def __init__(self, api: Api, *, clock: Clock = REAL_CLOCK) -> None:
        self._api = api
        self._clock = clock
        self._remembered: dict[str, tuple[float, Any]] = {}
        self.watched: MutableMapping[str, traffic.Service] = {}
        """Services that a watch keeps fresh, by `NAMESPACE/NAME`."""

    def __repr__(self) -> str:
        return f"<Directory {len(self.watched)} services watched, {len(self._remembered)} answers>"

    async def service(self, namespace: str, name: str) -> traffic.Service:
        """Return a service. One that the watch does not have yet is asked for. Raises: Refused, KubernetesError."""
        known = self.watched.get(f"{namespace}/{name}")
        if known is not None:
            return known
        return await self._get(
            f"{_folder(namespace, 'services')}/{_quoted(name)}", _service, f"service {namespace}/{name}"
        )

    async def pod(self, namespace: str, name: str) -> traffic.Pod:
        """Return a pod. Raises: Refused, KubernetesError."""
        return await self._get(f"{_folder(namespace, 'pods')}/{_quoted(name)}", _pod, f"pod {namespace}/{name}")

    async def slices(self, namespace: str, name: str) -> list[traffic.EndpointSlice]:
        """Return the endpoint slices of a service. Raises: Refused, KubernetesError."""
        selector = quote(f"{SERVICE_LABEL}={name}", safe="")
        path = f"/apis/discovery.k8s.io/v1/namespaces/{_quoted(namespace)}/endpointslices?labelSelector={selector}"
        found = await self._get(path, _slices, f"endpoints of service {namespace}/{name}")
        return found.items or []

    def forget(self) -> None:
        """Read anew what is asked for next: something that was remembered is not there any more."""
        self._remembered.clear()

    async def _get(self, path: str, decoder: msgspec.json.Decoder[T], words: str) -> T:
        now = self._clock.monotonic()
        known = self._remembered.get(path)
        if known is not None and now - known[0] < REMEMBER_SECONDS:
            return known[1]  # type: ignore[no-any-return]
        found = await _in_words(lambda: self._read(path, decoder), words)
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[path] = (now, found)
        return found

    async def _read(self, path: str, decoder: msgspec.json.Decoder[T]) -> T:
        async with self._api.connection() as connection:
            return await connection.get(path, decoder, LARGEST_ANSWER)


async def _in_words(read: Callable[[], Awaitable[T]], words: str) -> T:
    try:
        return await read()
    except ApiRefused as error:
        if error.status == 404:
            raise Refused("not_found", f"there is no {words}") from error
        if error.status == 403:
            raise Refused("forbidden", f"the agent may not read the {words}: {error.message}") from error
        raise
    except TooLarge as error:
        raise KubernetesError(f"the {words} are too many to be read") from error


def _folder(namespace: str, kind: str) -> str:
    return f"/api/v1/namespaces/{_quoted(namespace)}/{kind}"


def _quoted(text: str) -> str:
    """Quote one segment of a path. Raises: Refused: it would be another path."""
    if not text or text in (".", ".."):
        raise Refused("bad_request", f"{text!r} is no name")
    return quote(text, safe="")
