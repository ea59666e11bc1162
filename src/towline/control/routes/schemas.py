"""What the routes API takes and gives. Passwords go in and never come out, not even as hashes."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from towline.control.routes.targets import LONGEST

MAX_CLUSTERS = 20
"""Targets of one route: each is a pool of connections."""
MAX_PASSWORDS = 100
MAX_PATH = 1024

RouteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""One label of a host name: it becomes part of the name that is given out."""
Host = Annotated[str, StringConstraints(max_length=255)]
RoutePath = Annotated[str, StringConstraints(pattern=r"^/[\x21-\x7e]*$", max_length=MAX_PATH)]
ClusterRef = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Target = Annotated[str, StringConstraints(min_length=5, max_length=LONGEST)]
UserName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f:]+$")]
Password = Annotated[SecretStr, Field(min_length=8, max_length=256)]
Mode = Literal["automatic", "proposals", "off"]
LightState = Literal["ok", "failed", "unknown"]
Options = Annotated[dict[str, Any], Field(max_length=40)]
"""As `gateway.route_options` reads them; docs/how-to/publish-a-service.md lists them. `null` takes one back."""


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class RouteRequest(_Input):
    """A service to publish."""

    name: RouteName
    to: Target
    """`service/NAMESPACE/NAME:PORT`, `pod/NAMESPACE/NAME:PORT`, `compose/PROJECT/SERVICE:PORT` or `tcp/HOST:PORT`."""
    clusters: list[ClusterRef] = Field(default_factory=list, max_length=MAX_CLUSTERS)
    """Where it runs; with several, requests are shared among them. Empty: the only cluster that there is."""
    host: Host = ""
    """Exact or `*.NAME`. Empty: `NAME-CLUSTER.GATEWAY_DOMAIN`."""
    path: RoutePath = "/"
    path_type: Literal["exact", "prefix"] = "prefix"
    options: Options = Field(default_factory=dict)
    passwords: dict[UserName, Password] | None = Field(None, max_length=MAX_PASSWORDS)
    """Who may come in by basic authentication."""
    enabled: bool = True


class RoutePatch(_Input):
    """Changes; what is absent stays. Of a route that a source claims only `enabled` can change here."""

    to: Target | None = None
    clusters: list[ClusterRef] | None = Field(None, min_length=1, max_length=MAX_CLUSTERS)
    host: Host | None = None
    path: RoutePath | None = None
    path_type: Literal["exact", "prefix"] | None = None
    options: Options | None = None
    passwords: dict[UserName, Password] | None = Field(None, max_length=MAX_PASSWORDS)
    """Replaces all of them; an empty object takes the password away."""
    enabled: bool | None = None


class AcceptRequest(_Input):
    """Every proposal of one cluster."""

    cluster: ClusterRef


class ClusterShown(BaseModel):
    id: str
    name: str


class TargetOut(BaseModel):
    cluster: ClusterShown
    to: str
    connected: bool
    """An agent of the cluster is connected."""


class RouteOut(BaseModel):
    id: str
    name: str
    host: str
    path: str
    path_type: str
    url: str
    source: str
    """`declared`, `ingress`, `httproute` or `compose`."""
    ref: str
    cluster: ClusterShown | None
    """Of the source; none for a declared route."""
    targets: list[TargetOut]
    options: dict[str, Any]
    users: list[str]
    """Names of those with a password."""
    notes: list[str]
    tls: bool
    state: str
    reason: str
    enabled: bool
    existed: bool
    decision: str
    decided_by: str
    leaving_at: datetime | None
    created_at: datetime
    created_by: str
    changed_at: datetime


class Light(BaseModel):
    """One thing on the way to a route's target."""

    name: str
    """`name`, `certificate`, `agent` or `target`; with several targets the last two carry a cluster."""
    cluster: str = ""
    state: LightState
    reason: str
    seconds: float = 0.0


class RouteCheck(BaseModel):
    """A route looked at from end to end, just now."""

    route: str
    host: str
    ok: bool
    lights: list[Light]


class Accepted(BaseModel):
    accepted: int


class ClusterGatewayOut(BaseModel):
    """What a cluster's own sources may publish."""

    existing: Mode
    """For claims that were there when the cluster joined."""
    appearing: Mode
    """For claims that appear later."""
    watch_ingresses: Literal["auto", "on", "off"]
    is_private: bool | None
    """As the agent found it; none: not known yet, or there is no Kubernetes."""
    told_at: datetime | None
    sources: list[str]
    routes: int
    left_out: int


class ClusterGatewayPatch(_Input):
    existing: Mode | None = None
    appearing: Mode | None = None
    watch_ingresses: Literal["auto", "on", "off"] | None = None


class GatewayOut(BaseModel):
    """The gateway as a whole."""

    domain: str
    record: str
    """The wildcard record that the domain needs."""
    routes: int
    wildcard: Light | None
    """Whether names below the domain lead here; none without a domain."""
