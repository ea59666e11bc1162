"""The parts of Kubernetes objects that say how traffic comes in: ingresses, HTTPRoutes, Gateways, services, endpoints.

Partial structs as in `objects`; here labels and annotations matter and are kept. What they mean to the gateway is
decided by the agent. Sources: networking.k8s.io/v1, discovery.k8s.io/v1, gateway.networking.k8s.io/v1.
"""

from __future__ import annotations

import msgspec

from towline.kube.objects import Part

GATEWAY_API = "gateway.networking.k8s.io"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""A copy of the whole object: never kept."""


class Metadata(Part, frozen=True, gc=False):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class NameLabel(Part, frozen=True, gc=False):
    """The label by which charts name what they made."""

    app_name: str = msgspec.field(name="app.kubernetes.io/name", default="")


class NamedMetadata(Part, frozen=True, gc=False):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    labels: NameLabel | None = None


class ServicePort(Part, frozen=True, gc=False):
    name: str = ""
    port: int = 0
    target_port: int | str = 0
    """A number, or the name of a container's port; 0: the same as `port`."""
    protocol: str = "TCP"
    app_protocol: str = ""


class ServiceSpec(Part, frozen=True, gc=False):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    """`None` for a headless service; empty for one of type ExternalName."""
    external_name: str = ""
    external_ips: tuple[str, ...] | None = msgspec.field(name="externalIPs", default=None)
    ports: tuple[ServicePort, ...] | None = None


class LoadBalancerAddress(Part, frozen=True, gc=False):
    ip: str = ""
    hostname: str = ""


class LoadBalancer(Part, frozen=True, gc=False):
    ingress: tuple[LoadBalancerAddress, ...] | None = None


class ServiceStatus(Part, frozen=True, gc=False):
    load_balancer: LoadBalancer = LoadBalancer()


class Service(Part, frozen=True, gc=False):
    metadata: NamedMetadata = NamedMetadata()
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


# -- endpoints and pods --------------------------------------------------------------------------


class EndpointConditions(Part, frozen=True, gc=False):
    ready: bool | None = None
    """Absent means ready."""


class Endpoint(Part, frozen=True, gc=False):
    addresses: tuple[str, ...] | None = None
    conditions: EndpointConditions = EndpointConditions()


class EndpointPort(Part, frozen=True, gc=False):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class EndpointSlice(Part, frozen=True, gc=False):
    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None


class ContainerPort(Part, frozen=True, gc=False):
    name: str = ""
    container_port: int = 0
    protocol: str = "TCP"


class Container(Part, frozen=True, gc=False):
    ports: tuple[ContainerPort, ...] | None = None


class PodSpec(Part, frozen=True, gc=False):
    containers: tuple[Container, ...] | None = None
    init_containers: tuple[Container, ...] | None = None


class PodStatus(Part, frozen=True, gc=False):
    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")


class Pod(Part, frozen=True, gc=False):
    metadata: NamedMetadata = NamedMetadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


# -- ingresses -----------------------------------------------------------------------------------


class PortReference(Part, frozen=True, gc=False):
    name: str = ""
    number: int = 0

    @property
    def word(self) -> str:
        """The port as a stream names it; empty when the object names none."""
        return self.name or (str(self.number) if self.number else "")


class ServiceReference(Part, frozen=True, gc=False):
    name: str = ""
    port: PortReference = PortReference()


class ResourceReference(Part, frozen=True, gc=False):
    kind: str = ""
    name: str = ""


class IngressBackend(Part, frozen=True, gc=False):
    service: ServiceReference | None = None
    resource: ResourceReference | None = None


class IngressPath(Part, frozen=True, gc=False):
    path: str = ""
    path_type: str = "ImplementationSpecific"
    backend: IngressBackend = IngressBackend()


class HttpPaths(Part, frozen=True, gc=False):
    paths: tuple[IngressPath, ...] | None = None


class IngressRule(Part, frozen=True, gc=False):
    host: str = ""
    http: HttpPaths | None = None


class IngressTls(Part, frozen=True, gc=False):
    hosts: tuple[str, ...] | None = None


class IngressSpec(Part, frozen=True, gc=False):
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    rules: tuple[IngressRule, ...] | None = None
    tls: tuple[IngressTls, ...] | None = None


class Ingress(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: IngressSpec = IngressSpec()

    def without_copy(self) -> Ingress:
        """Return it without the copy of itself that `kubectl apply` leaves in its annotations."""
        known = self.metadata.annotations
        if not known or LAST_APPLIED not in known:
            return self
        kept = {key: value for key, value in known.items() if key != LAST_APPLIED}
        return msgspec.structs.replace(self, metadata=msgspec.structs.replace(self.metadata, annotations=kept))


class IngressClassSpec(Part, frozen=True, gc=False):
    controller: str = ""


class IngressClass(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: IngressClassSpec = IngressClassSpec()


# -- HTTPRoutes ----------------------------------------------------------------------------------


class Header(Part, frozen=True, gc=False):
    name: str = ""
    value: str = ""


class HeaderChange(Part, frozen=True, gc=False):
    set: tuple[Header, ...] | None = None
    add: tuple[Header, ...] | None = None
    remove: tuple[str, ...] | None = None


class PathModifier(Part, frozen=True, gc=False):
    type: str = ""


class Redirect(Part, frozen=True, gc=False):
    scheme: str | None = None
    hostname: str | None = None
    path: PathModifier | None = None
    port: int | None = None
    status_code: int | None = None


class Rewrite(Part, frozen=True, gc=False):
    hostname: str | None = None
    path: PathModifier | None = None


class Filter(Part, frozen=True, gc=False):
    type: str = ""
    request_header_modifier: HeaderChange | None = None
    response_header_modifier: HeaderChange | None = None
    request_redirect: Redirect | None = None
    url_rewrite: Rewrite | None = msgspec.field(name="urlRewrite", default=None)


class BackendReference(Part, frozen=True, gc=False):
    group: str = ""
    kind: str = "Service"
    name: str = ""
    namespace: str = ""
    port: int | None = None
    weight: int | None = None
    """Absent means 1; 0 takes no requests."""
    filters: tuple[Filter, ...] | None = None


class PathMatch(Part, frozen=True, gc=False):
    type: str = "PathPrefix"
    value: str = "/"


class RouteMatch(Part, frozen=True, gc=False):
    path: PathMatch = PathMatch()
    headers: tuple[Header, ...] | None = None
    query_params: tuple[Header, ...] | None = None
    method: str | None = None


class Timeouts(Part, frozen=True, gc=False):
    request: str | None = None
    backend_request: str | None = None


class RouteRule(Part, frozen=True, gc=False):
    matches: tuple[RouteMatch, ...] | None = None
    filters: tuple[Filter, ...] | None = None
    backend_refs: tuple[BackendReference, ...] | None = None
    timeouts: Timeouts | None = None


class ParentReference(Part, frozen=True, gc=False):
    """What a route attaches to. An empty namespace is the route's own, an empty section every listener."""

    group: str = GATEWAY_API
    kind: str = "Gateway"
    namespace: str = ""
    name: str = ""
    section_name: str = ""
    port: int | None = None


class HttpRouteSpec(Part, frozen=True, gc=False):
    parent_refs: tuple[ParentReference, ...] | None = None
    hostnames: tuple[str, ...] | None = None
    rules: tuple[RouteRule, ...] | None = None


class HttpRoute(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: HttpRouteSpec = HttpRouteSpec()


# -- Gateways ------------------------------------------------------------------------------------


class RouteNamespaces(Part, frozen=True, gc=False):
    origin: str = msgspec.field(name="from", default="Same")


class RouteKind(Part, frozen=True, gc=False):
    group: str = GATEWAY_API
    kind: str = ""


class AllowedRoutes(Part, frozen=True, gc=False):
    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: tuple[RouteKind, ...] | None = None
    """Absent means those of the listener's protocol."""


class GatewayListener(Part, frozen=True, gc=False):
    name: str = ""
    hostname: str = ""
    port: int = 0
    protocol: str = ""
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewaySpec(Part, frozen=True, gc=False):
    listeners: tuple[GatewayListener, ...] | None = None


class Gateway(Part, frozen=True, gc=False):
    metadata: NamedMetadata = NamedMetadata()
    spec: GatewaySpec = GatewaySpec()
