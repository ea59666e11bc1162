"""A PipeOps agent on its WebSocket, as everything above sees it: a session of our own link.

What it says becomes heartbeats, facts and claims of routes; streams to services go over yamux, those to the API server
by `kube.py`, which does commands too. Other jobs it has none: whoever orders one gets a refusal with the reason.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from towline.aio.clock import Clock
from towline.aio.tasks import TaskOwner
from towline.control.agents.connect import Admitted
from towline.control.protocols.pipeops import claims
from towline.control.protocols.pipeops import streams as services
from towline.control.protocols.pipeops.connection import Connection
from towline.control.protocols.pipeops.kube import NO_YAMUX, KubeHalf
from towline.control.protocols.session import AdaptedSession
from towline.tunnel.errors import Closed, TargetRefused, TunnelClosed
from towline.wire import link, pipeops, streams
from towline.wire import pipeops_messages as messages

GIGABYTE: Final = 1024**3
NO_JOBS: Final = "a PipeOps agent carries no Compose projects; install Towline's own agent beside it"
INVENTORY_BYTES: Final = 32 * 1024
"""What a message of the cluster's inventory counts as in the queue."""
REGISTER_AGAIN: Final = "cluster not registered"
"""What makes an agent in controller mode register again; one in gateway mode must never read it."""


class PipeOpsSession(AdaptedSession):
    """See the module. Args: connection: known to be this agent's."""

    what = "a PipeOps agent"

    def __init__(
        self,
        admitted: Admitted,
        connection: Connection,
        book: claims.Book,
        *,
        owner: TaskOwner,
        clock: Clock,
    ) -> None:
        super().__init__(admitted, owner=owner, remote_address=connection.address, clock=clock)
        self.admitted = admitted
        self.connection = connection
        self.book = book
        self.kube: KubeHalf
        """Set by whoever makes the session, before it is attached."""
        self.ignored: Counter[str] = Counter()
        """Messages that mean nothing here, by type."""
        self._clock = clock
        self._owner = owner
        self._sequence = 0
        self._last_beat = messages.HeartbeatMetadata(
            agent_version="", cpu_usage="", gateway_routes=0, is_private=True, k8s_nodes=0, k8s_pods=0,
            k8s_version="", memory_usage="",
        )  # fmt: skip

    @property
    def silence(self) -> float:
        protocol = self.connection.channel.protocol
        return self._clock.monotonic() - protocol.heard_at if protocol is not None else 0.0

    @property
    def stream_count(self) -> int:
        mux = self.connection.mux
        return (mux.yamux.stream_count if mux is not None else 0) + self.kube.stream_count

    # -- upward --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Say after each connect what is known of routes; which jobs are held the Kubernetes half says."""
        if self.book.is_whole or len(self.book):
            self.tell_routes(self.book.listing())

    def registered(self, register: messages.Register) -> None:
        """Pass on what the agent says of its machine."""
        self._last_beat = msgspec.structs.replace(self._last_beat, k8s_version=register.k8s_version)
        self.tell(facts_of(register))

    def took(self, envelope: pipeops.Envelope) -> None:
        match envelope.message:
            case messages.Heartbeat():
                self._beat(envelope.message, envelope.timestamp)
            case messages.IngressRoutes():
                self.tell_routes(self.book.told(envelope.message))
            case _:
                self.ignored[pipeops.type_name(envelope.message)] += 1
                self.connection.tally["message_ignored"] += 1

    def yamux_changed(self) -> None:
        self.kube_changed()

    def kube_changed(self, *, again: bool = False) -> None:
        """Look anew at what may be used of the cluster's API. again: tell everything of it anew."""
        if self.closed is None and not self._owner.closed:
            self._owner.spawn(f"API server of {self.agent_id}", self.kube.reconsider(again=again))

    def tell_of_kube(self, message: link.Message) -> None:
        """Pass on what is seen through the cluster's API."""
        self.tell(message, size=INVENTORY_BYTES)

    def report(self) -> None:
        """Say how the agent is and what it carries, out of turn."""
        self._report(self._clock.now().timestamp())

    def ended(self, closed: Closed) -> None:
        super().ended(closed)
        if not self._owner.closed:
            self._owner.spawn(f"end of the API server of {self.agent_id}", self.kube.close())

    def tell_routes(self, changed: claims.Changed | None) -> None:
        """Pass on what the agent's ingresses claim."""
        for message in claims.messages_of(changed, self._sequence) if changed is not None else ():
            self._sequence = message.sequence
            self.tell(message, size=claims.MESSAGE_BYTES)

    def capabilities(self) -> tuple[link.Capability, ...]:
        """Return what this agent carries now."""
        reason = self.kube.reason
        return (
            link.Capability(name="kubernetes", ready=not reason, version=self._last_beat.k8s_version, reason=reason),
        )

    def _beat(self, beat: messages.Heartbeat, timestamp: str) -> None:
        if beat.agent_id and self.connection.known.shared and beat.agent_id != self.connection.external_id:
            self.connection.strike("a heartbeat in another agent's name")
            return
        if beat.cluster_id != self.cluster_id and not self.connection.is_gateway:
            self.connection.tally["told_to_register"] += 1
            self.connection.say(messages.Error(error=REGISTER_AGAIN))
        self._last_beat = beat.metadata
        self.rtt = self.connection.channel.round_trip
        self._report(moment_of(timestamp) or self._clock.now().timestamp())

    def _report(self, sent_at: float) -> None:
        beat = self._last_beat
        self.tell(
            link.Heartbeat(
                sent_at=sent_at,
                round_trip=self.rtt,
                streams_open=self.stream_count,
                capabilities=self.capabilities(),
                is_private=beat.is_private,
                gateway_routes=max(0, beat.gateway_routes),
            )
        )

    # -- downward ------------------------------------------------------------------------------

    async def deliver(self, message: link.Message) -> None:
        match message:
            case link.HeartbeatAck():
                self.connection.say(messages.HeartbeatAck())
            case link.Job() | link.JobCancel() | link.JobStored():
                if not await self.kube.order(message) and isinstance(message, link.Job):
                    self._refuse(message)
            case link.Lead():
                self.tell_again()

    def _refuse(self, job: link.Job) -> None:
        reason = NO_JOBS if job.kind.startswith("compose.") else self.kube.reason
        self.tell(
            link.JobResult(job_id=job.job_id, fence=job.fence, outcome="refused", error=reason, code="unsupported")
        )

    def send_now(self, message: link.Message) -> None:
        if isinstance(message, link.Lead):
            self.tell_again()

    def tell_again(self) -> None:
        """Tell everything that is known: nobody has listened until now."""
        self.report()
        self.tell_routes(self.book.listing())
        self.kube_changed(again=True)

    def hang_up(self, code: int, reason: str) -> None:
        self.connection.close(code, reason)

    # -- streams -------------------------------------------------------------------------------

    def create_stream(
        self,
        target: streams.Target,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        first_bytes: bytes = b"",
        *,
        on_answer: Callable[[streams.Answer], None] | None = None,
    ) -> asyncio.Transport:
        if self.closed is not None:
            raise TunnelClosed(f"tunnel closed: {self.closed}")
        try:
            return self._open(target, protocol_factory, first_bytes, on_answer)
        except TargetRefused as refusal:
            return services.refuse(protocol_factory, refusal)

    def _open(
        self,
        target: streams.Target,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        first_bytes: bytes,
        on_answer: Callable[[streams.Answer], None] | None,
    ) -> asyncio.Transport:
        mux = self.connection.mux
        match target:
            case streams.Kube():
                return self.kube.create_stream(target, protocol_factory, first_bytes, on_answer)
            case streams.KubeService():
                header = services.header_of(target)
                if mux is None:
                    raise TargetRefused("unsupported", NO_YAMUX)
                return services.open_stream(mux, header, target, protocol_factory, first_bytes, on_answer)
        raise self.no_stream(target)


def facts_of(register: messages.Register) -> link.Facts:
    """Return what a registration says of the agent's machine."""
    specs = register.server_specs
    versions = {"agent": register.agent_version, "kubernetes": register.k8s_version}
    return link.Facts(
        hostname=register.hostname,
        system=specs.os,
        cpus=max(0, specs.cpu_cores),
        memory_bytes=max(0, specs.memory_gb) * GIGABYTE,
        disks=(link.Disk(mount="/", total_bytes=specs.disk_gb * GIGABYTE, free_bytes=0),) if specs.disk_gb > 0 else (),
        addresses=(register.server_ip,) if register.server_ip else (),
        cloud=register.cloud_provider,
        region=register.region,
        versions={name: version for name, version in versions.items() if version},
    )


def moment_of(timestamp: str) -> float:
    """Return the seconds of an RFC 3339 text; 0 when it is none."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return 0.0
    return moment.timestamp() if moment.tzinfo is not None else 0.0
