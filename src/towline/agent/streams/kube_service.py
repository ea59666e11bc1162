"""Streams to a service or pod of the agent's own Kubernetes cluster: policy, then where it is, then bytes untouched."""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable, Sequence

from towline.agent.kubernetes import ports
from towline.agent.kubernetes.credentials import ALPN
from towline.agent.kubernetes.directory import Directory
from towline.agent.policy import LocalPolicy, may_forward
from towline.agent.streams.dialling import Encryption, dial_first, resolve
from towline.agent.streams.refusal import Refused
from towline.tunnel.opening import IncomingStream
from towline.wire import streams

MOST_TRIED = 3
"""Endpoints of a headless service that are tried for one stream."""
UNPUBLISHED = ("default", "kubernetes")
"""The service of the API server: it is reached by `Kube` streams, which name who asks."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
Shuffle = Callable[[list[ports.Place]], None]


class KubeServiceServer:
    """Serves `KubeService` targets."""

    def __init__(
        self,
        directory: Directory,
        policy: Callable[[], LocalPolicy],
        *,
        resolve: Resolve = resolve,
        shuffle: Shuffle = random.shuffle,
    ) -> None:
        self._directory = directory
        self._policy = policy
        self._resolve = resolve
        self._shuffle = shuffle
        self._context: ssl.SSLContext | None = None

    async def serve(self, incoming: IncomingStream, target: streams.KubeService) -> None:
        """Join a stream to a port. Raises: Refused, PolicyRefused, KubernetesError."""
        places = await self.find(target)
        try:
            await dial_first(incoming, places, self._encryption(target))
        except Refused:
            self._directory.forget()
            raise

    async def find(self, target: streams.KubeService) -> Sequence[ports.Place]:
        """Return where to dial, best first. Raises: Refused, PolicyRefused, KubernetesError."""
        policy = self._policy()
        policy.require_gateway(target.namespace)
        if target.resource == "pod":
            return [ports.of_pod(await self._directory.pod(target.namespace, target.name), target.port)]
        if (target.namespace, target.name) == UNPUBLISHED:
            raise Refused("forbidden", "the API server is not published; use the cluster's Kubernetes access")
        service = await self._directory.service(target.namespace, target.name)
        match ports.of_service(service, target.port):
            case ports.External() as external:
                return await self._outside(policy, external)
            case ports.Headless(port):
                slices = await self._directory.slices(target.namespace, target.name)
                found = ports.of_slices(slices, port, f"service {target.namespace}/{target.name}")
                self._shuffle(found)
                return found[:MOST_TRIED]
            case place:
                return [place]

    async def _outside(self, policy: LocalPolicy, external: ports.External) -> Sequence[ports.Place]:
        """A name outside of the cluster needs an entry under `[forward]`, and is never one of this host's own services.

        Whoever may make services in some namespace is not whom the entry for loopback is meant for.
        """
        host, port = external.host, external.port
        addresses = await self._resolve(host, port)
        outside = filter(ports.is_dialable, addresses)
        allowed = [(each, port) for each in outside if may_forward(policy, host, each, port, (), ())]
        if not allowed:
            reason = (
                f"the service stands for {host[:100]}, and the policy of this host does not allow {host[:100]}:{port}"
            )
            raise Refused("forbidden", reason)
        return allowed

    def _encryption(self, target: streams.KubeService) -> Encryption | None:
        if not target.tls:
            return None
        if self._context is None:
            self._context = make_context()
        return self._context, target.server_name


def make_context() -> ssl.SSLContext:
    """Make the context for targets inside the cluster: controllers have certificates for names that are not theirs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    return context
