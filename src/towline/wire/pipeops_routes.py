"""REST bodies that PipeOps WebSocket agents send beside their socket: routes of ingresses, tunnels of gateways.

Routes name the ingress controller's service, not the application's. Answers have no body that the agent reads, save
those of tunnels. Source: PipeOps agent v0.0.238, `internal/ingress/client.go`,
`internal/tunnel/control_plane_client.go`. No I/O here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from towline.wire import lenient
from towline.wire.pipeops_messages import Part

SYNC_PATH: Final = "/api/v1/gateway/routes/sync"
REGISTER_PATH: Final = "/api/v1/gateway/routes/register"
UNREGISTER_PATH: Final = "/api/v1/gateway/routes/unregister"
TUNNELS_PATH: Final = "/api/v1/clusters/agent/{cluster}/tunnels"
IP_INTEL_PATH: Final = "/api/v1/public/ip-intel/{ip}"


class RegisterRoute(Part, frozen=True):
    """One path of an ingress that was added or changed: it replaces what the same ingress had for that host name."""

    hostname: str
    cluster_uuid: str
    namespace: str
    service_name: str
    service_port: int
    ingress_name: str
    path: str
    path_type: str
    """Prefix, Exact, ImplementationSpecific; empty: Prefix."""
    tls: bool
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    public_endpoint: str = ""
    routing_mode: str = ""
    """direct or tunnel."""
    deployment_id: str = ""
    deployment_name: str = ""


class UnregisterRoute(Part, frozen=True):
    """An ingress is gone: all routes of this agent with that host name go."""

    hostname: str
    cluster_uuid: str = ""


class IngressController(Part, frozen=True):
    name: str
    namespace: str
    port: int
    type: str
    """traefik, nginx, unknown."""


class RulePath(Part, frozen=True):
    path: str
    path_type: str
    service_name: str
    service_port: int


class Rule(Part, frozen=True):
    host: str
    tls: bool
    paths: tuple[RulePath, ...]


class SyncedIngress(Part, frozen=True):
    namespace: str
    ingress_name: str
    rules: tuple[Rule, ...]
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class SyncIngresses(Part, frozen=True):
    """Every managed ingress: replaces all that was known. Not sent when there is none."""

    cluster_uuid: str
    ingresses: tuple[SyncedIngress, ...]
    public_endpoint: str = ""
    routing_mode: str = ""
    ingress_controller: IngressController | None = None


class Tunnel(Part, frozen=True):
    """A TCP or UDP listener of a Gateway. Later syncs leave the service, labels and annotations empty: merge."""

    cluster_uuid: str
    protocol: str
    """tcp or udp."""
    tunnel_id: str
    gateway_name: str
    gateway_namespace: str
    gateway_port: int
    service_name: str
    service_namespace: str
    service_port: int
    routing_mode: str
    """direct, tunnel, dual."""
    public_endpoint: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    tunnel_port: int = 0
    """In answers."""
    tunnel_endpoint: str = ""
    """In answers."""


class SyncTunnels(Part, frozen=True):
    cluster_uuid: str
    tunnels: tuple[Tunnel, ...]


class RejectedTunnel(Part, frozen=True):
    tunnel_id: str
    reason: str


class SyncedTunnels(Part, frozen=True):
    """Answers `SyncTunnels`."""

    accepted: tuple[Tunnel, ...]
    rejected: tuple[RejectedTunnel, ...]


REGISTER_ROUTE: Final = lenient.Reader(RegisterRoute)
UNREGISTER_ROUTE: Final = lenient.Reader(UnregisterRoute)
SYNC_INGRESSES: Final = lenient.Reader(SyncIngresses)
TUNNEL: Final = lenient.Reader(Tunnel)
SYNC_TUNNELS: Final = lenient.Reader(SyncTunnels)
