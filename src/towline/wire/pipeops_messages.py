"""What each message of the PipeOps WebSocket says: one struct per type, by the names in `pipeops.TYPES`.

Fields without a default are always written. Which end sends what is said by the two halves of this module; data that
goes both ways is in the last. Source: PipeOps agent v0.0.238 and recordings of it (docs/design/pipeops.md). No I/O.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

Headers = dict[str, tuple[str, ...]]
"""As Go's http.Header: canonical names, each with all its values."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An object inside a message."""

    SECRET: ClassVar[frozenset[str]] = frozenset()
    """Fields whose values no repr shows."""

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={'<hidden>' if name in self.SECRET and getattr(self, name) else repr(getattr(self, name))}"
            for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({shown})"


class Message(Part, frozen=True):
    """Payload of one message."""


class Unknown(Message, frozen=True):
    """A type that this release does not know; the real agent answers it with `protocol_fallback`, once per type."""

    name: str = ""


# -- agent to control plane ----------------------------------------------------------------


class ServerSpecs(Part, frozen=True):
    """Zero values are left out."""

    cpu_cores: int = 0
    memory_gb: int = 0
    disk_gb: int = 0
    os: str = ""


class TunnelPorts(Part, frozen=True):
    """Constants."""

    kubernetes_api: int
    kubelet: int
    agent_http: int


class Register(Message, frozen=True):
    """Asks to be known, with a request id; answered by `RegisterSuccess` with the same one within 30 s."""

    SECRET: ClassVar[frozenset[str]] = frozenset({"k8s_service_token"})

    agent_id: str
    name: str
    """Of the cluster, from the agent's configuration."""
    k8s_version: str
    """`v1.28.0+k3s1` when the API server could not be asked."""
    hostname: str
    agent_version: str
    """`1.0.0-dev` in every published build."""
    server_ip: str
    region: str
    cloud_provider: str
    tunnel_port_config: TunnelPorts
    labels: dict[str, str]
    server_specs: ServerSpecs
    features: dict[str, bool]
    metadata: dict[str, str]
    cluster_id: str = ""
    """The cluster that it asks to resume."""
    k8s_service_token: str = ""
    """The agent's own ServiceAccount token, in clear."""


class HeartbeatMetadata(Part, frozen=True):
    agent_version: str
    cpu_usage: str
    """Always `0%`, as is `memory_usage`: nothing is measured."""
    gateway_routes: int
    is_private: bool
    k8s_nodes: int
    k8s_pods: int
    k8s_version: str
    memory_usage: str


class WorkerJoin(Part, frozen=True):
    """How a further k3s node joins; holds the node token."""

    SECRET: ClassVar[frozenset[str]] = frozenset({"env", "commands"})

    provider: str
    server_url: str = ""
    env: dict[str, str] = {}
    commands: tuple[str, ...] = ()
    generated_at: str = ""
    join_command: str = ""
    token: str = ""
    server_ip: str = ""


class Heartbeat(Message, frozen=True):
    """Every 30 s; no answer is awaited. The monitoring groups are there when their URL is known."""

    SECRET: ClassVar[frozenset[str]] = frozenset(
        {"prometheus_password", "loki_password", "grafana_password", "opencost_password"}
    )

    agent_id: str
    cluster_id: str
    metadata: HeartbeatMetadata
    status: str
    """healthy, reconnecting, disconnected."""
    tunnel_status: str
    """connected, disconnected."""
    prometheus_url: str = ""
    prometheus_username: str = ""
    prometheus_password: str = ""
    prometheus_ssl: bool | None = None
    loki_url: str = ""
    loki_username: str = ""
    loki_password: str = ""
    loki_ssl: bool | None = None
    grafana_url: str = ""
    grafana_username: str = ""
    grafana_password: str = ""
    grafana_ssl: bool | None = None
    opencost_base_url: str = ""
    opencost_username: str = ""
    opencost_password: str = ""
    worker_join: WorkerJoin | None = None


class ProxyResponse(Message, frozen=True):
    """The whole answer in one message; its body by `pipeops_frames.whole_body`."""

    headers: Headers | None
    """None: there are none."""
    status: int
    body: str = ""
    encoding: str = ""
    """`base64`, or `gzip`: gzipped by the transport, then base64."""


class ProxyError(Message, frozen=True):
    """The request, or the start of a WebSocket to the API server, failed."""

    error: str
    request_id: str = ""


class ProxyResponseHeader(Message, frozen=True):
    """Head of a streamed answer. With status 101 a `ProxyResponseEnd` follows at once and ends nothing."""

    headers: Headers | None
    status: int


class ProxyResponseChunk(Message, frozen=True):
    """Bytes of a streamed answer: at most 32 KiB, never compressed."""

    data: bytes
    encoding: str
    """Always `base64`."""
    size: int


class ProxyResponseEnd(Message, frozen=True):
    """The streamed answer is complete."""


class ProxyResponseAbort(Message, frozen=True):
    """The streamed answer ends before its time; it may be the first message of one."""

    error: str


class Backpressure(Message, frozen=True):
    """A frame for an application's WebSocket was dropped."""

    reason: str
    request_id: str = ""


class GatewayHelloAck(Message, frozen=True):
    """From the next byte on all binary messages, both ways, are yamux."""

    use_yamux: bool


class ProtocolFallback(Message, frozen=True):
    """The agent does not know a type; told once per type."""

    agent_version: str
    fallback_mode: str
    protocol_version: str
    supported_types: tuple[str, ...]
    timestamp: str
    unknown_type: str
    original_request_id: str = ""


class IngressRoute(Part, frozen=True):
    host: str
    path: str = ""
    service: str = ""
    namespace: str = ""
    port: int = 0
    tls: bool = False


class IngressRoutes(Message, frozen=True):
    """Routes as older agents tell them; newer ones use REST (`pipeops_routes.py`)."""

    action: str
    """add, update, delete; anything else is a full list."""
    cluster_uuid: str
    routes: tuple[IngressRoute, ...]


# -- control plane to agent ----------------------------------------------------------------


class RegisterSuccess(Message, frozen=True):
    """Answers `Register`, with its request id."""

    SECRET: ClassVar[frozenset[str]] = frozenset({"token"})

    cluster_id: str
    """Not empty, or the agent's process ends."""
    cluster_uuid: str = ""
    name: str = ""
    status: str = ""
    tunnel_url: str = ""
    api_server: str = ""
    workspace_id: float = 0
    token: str = ""
    """For the API server, never for the WebSocket."""
    gateway_ws_url: str = ""
    """Makes the agent go on there, for good: gateway mode."""


class RegisterInProgress(Message, frozen=True):
    """Logged by the agent; does not extend its patience."""


class HeartbeatAck(Message, frozen=True):
    """Logged by the agent."""


class Ping(Message, frozen=True):
    """Answered by `Pong` with the same request id."""


class Error(Message, frozen=True):
    """Logged by the agent. With `not registered` or `cluster not found` in it, it registers again; never say that to
    one in gateway mode, which is lost then."""

    error: str


class YamuxConfig(Part, frozen=True):
    max_stream_window_size: int = 0
    """Bytes; below 262144 the agent's session fails after it was acknowledged."""
    keep_alive_interval_seconds: int = 0
    connection_timeout_seconds: int = 0
    """Also the agent's dial timeout."""


class GatewayHello(Message, frozen=True):
    """Offers yamux; answered by `GatewayHelloAck`, or by nothing when `use_yamux` is false."""

    use_yamux: bool
    yamux_config: YamuxConfig | None = None


class ProxyRequest(Message, frozen=True):
    """An HTTP request, to the API server or to a service."""

    SECRET: ClassVar[frozenset[str]] = frozenset({"headers", "body", "head_data"})

    method: str = ""
    """Empty: GET."""
    path: str = ""
    """Decoded; the agent escapes it again."""
    query: str = ""
    headers: dict[str, str | tuple[str, ...]] = {}
    body: Any = None
    """Text, by `body_encoding`, or an object that is written as JSON."""
    body_encoding: str = ""
    """`base64`, or anything else for plain text."""
    body_binary: bool = False
    """The body is in the next, binary message (`pipeops_frames.RequestFrame`); not once yamux is spoken."""
    body_size: int = 0
    use_streaming: bool = False
    """The body follows in `ProxyRequestChunk`s."""
    streaming: bool = False
    """As `use_streaming`."""
    supports_response_streaming: bool = False
    supports_streaming: bool = False
    service_name: str = ""
    namespace: str = ""
    service_port: int = 0
    scheme: str = ""
    is_websocket: bool = False
    protocol: str = ""
    timeout: float | str | None = None
    """Milliseconds, or a duration as Go writes it."""
    deadline: str = ""
    cluster_id: str = ""
    cluster_uuid: str = ""
    agent_id: str = ""
    use_zero_copy: bool = False
    head_data: str = ""
    rate_limit_bps: float = 0


class ProxyRequestChunk(Message, frozen=True):
    """Bytes of a request's body, in either field."""

    data: bytes = b""
    chunk: bytes = b""


class ProxyRequestStreamEnd(Message, frozen=True):
    """The request's body is complete."""


class ProxyCancel(Message, frozen=True):
    """Ends the pipe of a streamed body, and nothing else: the answer still comes."""


class ProxyStreamData(Message, frozen=True):
    """Never to be sent: for a request that was upgraded it ends the agent's process."""

    data: bytes = b""


class ProxyWebsocketStart(Message, frozen=True):
    """Opens a WebSocket to the API server; `stream_id` is the envelope's request id as well."""

    SECRET: ClassVar[frozenset[str]] = frozenset({"headers"})

    stream_id: str
    path: str = ""
    query: str = ""
    method: str = ""
    protocol: str = ""
    headers: dict[str, str | tuple[str, ...]] = {}


class TcpTunnelStart(Message, frozen=True):
    """Legacy. Only for agents that are known to run with `tunnels.enabled`: it ends the process of others."""

    tunnel_id: str = ""
    gateway_name: str = ""
    gateway_namespace: str = ""
    gateway_port: int = 0
    service_name: str = ""
    service_namespace: str = ""
    service_port: int = 0
    client_addr: str = ""


# -- both ways -------------------------------------------------------------------------------


class Pong(Message, frozen=True):
    """Answers `Ping`."""

    timestamp: str = ""


class WebsocketData(Message, frozen=True):
    """One frame of a proxied WebSocket; its type byte and payload by `pipeops_frames.split_websocket`."""

    data: bytes = b""
    message_type: int = 0
    """1 text, 2 binary; absent from the API server's streams."""
    request_id: str = ""
    stream_id: str = ""


class WebsocketClose(Message, frozen=True):
    """The proxied WebSocket is over."""

    stream_id: str = ""
    request_id: str = ""


class TcpTunnelData(Message, frozen=True):
    """Legacy; the agent keeps no order."""

    data: bytes = b""
    direction: str = ""


class TcpTunnelClose(Message, frozen=True):
    """Legacy."""

    reason: str = ""
    error: str = ""
    bytes_sent: int = 0
    bytes_received: int = 0
    duration_ms: int = 0


class UdpTunnelData(Message, frozen=True):
    """Legacy; the agent sends each answer to all clients of the tunnel."""

    tunnel_id: str = ""
    data: bytes = b""
    client_addr: str = ""
    client_port: int = 0
    direction: str = ""
    gateway_name: str = ""
    gateway_namespace: str = ""
    gateway_port: int = 0
    service_name: str = ""
    service_namespace: str = ""
    service_port: int = 0
