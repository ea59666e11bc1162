"""The REST route of manifests. Thin: permission, call, shape. The answer holds a join token, so nothing keeps it."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.agents.join_tokens import DEFAULT_TTL, LONGEST_TTL, SHORTEST_TTL
from towline.control.clusters.schemas import Labels
from towline.control.fleet import Fleet
from towline.control.kubernetes import options as choices
from towline.control.kubernetes.manifests import Asked, Made, Manifests, default_image
from towline.control.kubernetes.options import Options, Toleration
from towline.control.kubernetes.profiles import Profile

router = APIRouter(prefix="/api/v1/clusters/{cluster}/kubernetes", tags=["kubernetes"])

CanJoin = Annotated[Access, needs(Permission.JOIN_TOKEN_MANAGE)]
Word = Annotated[str, StringConstraints(max_length=253, pattern=r"^[^\x00-\x1f\x7f]*$")]
Line = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00-\x1f\x7f]*$")]


class TolerationIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: Word = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: Word = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class ManifestRequest(BaseModel):
    """How the agent shall run. What is absent has a value that suits most clusters."""

    model_config = ConfigDict(extra="forbid")

    profile: Profile = Profile.DEFAULT
    image: Line = ""
    """Empty: `towline-agent:VERSION`, the name that the Dockerfile's build gives it."""
    namespace: Word = "towline"
    name: Word = "towline-agent"
    replicas: int = Field(1, ge=1, le=choices.MOST_REPLICAS)
    namespaces: list[Word] = Field([], max_length=choices.MOST_NAMESPACES)
    """For the profile `namespaced`."""
    users: list[Word] = Field([], max_length=choices.MOST_USERS)
    """Users that the agent may become in the cluster; empty: all."""
    inventory: bool = True
    """Whether the agent may read nodes, workloads and events for the overview."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    pull_secret: Word = ""
    priority_class: Word = ""
    node_selector: dict[Word, Word] = Field({}, max_length=20)
    tolerations: list[TolerationIn] = Field([], max_length=choices.MOST_TOLERATIONS)
    proxy: Line = ""
    no_proxy: Line = ""
    ca_pem: Annotated[str, StringConstraints(max_length=choices.LONGEST_CA)] = ""
    cpu_request: Word = "50m"
    cpu_limit: Word = "1"
    memory_request: Word = "96Mi"
    memory_limit: Word = "256Mi"
    termination_grace: int = Field(30, ge=1, le=600, description="Seconds for open streams when a pod goes.")
    server: Line = ""
    """Address that the pods dial, when it is not the first one of this server."""
    labels: Labels = {}
    ttl: float = Field(DEFAULT_TTL, ge=SHORTEST_TTL, le=LONGEST_TTL, description="Seconds that its token lives.")
    approval_required: bool = False

    def __repr__(self) -> str:
        return f"<ManifestRequest {self.profile} {self.replicas} replicas>"

    def options(self) -> Options:
        """Return what is chosen about the agent."""
        outside = {"server", "labels", "ttl", "approval_required", "tolerations", "namespaces", "users", "image"}
        return Options(
            image=self.image or default_image(),
            namespaces=tuple(self.namespaces),
            users=tuple(self.users),
            tolerations=tuple(Toleration(**one.model_dump()) for one in self.tolerations),
            **self.model_dump(exclude=outside),
        )


class ManifestOut(BaseModel):
    cluster: str
    manifest: str
    """YAML for `kubectl apply -f -`. It holds the join token; shown now and never again."""
    join_token: str
    """Id of the token, to see who joined with it."""
    expires_at: datetime
    replaces: bool
    """The cluster has an agent already: it ends when the new one joins."""


@router.post("/manifest", status_code=201)
async def make_manifest(
    request: Request, response: Response, access: CanJoin, cluster: str, body: ManifestRequest
) -> ManifestOut:
    """Make the manifest of an agent in a Kubernetes cluster, with a join token for a new or a known cluster."""
    made = await make(request, access, cluster, body)
    response.headers["cache-control"] = "no-store"
    return ManifestOut(
        cluster=made.token.row.cluster_name,
        manifest=made.text,
        join_token=made.token.row.id,
        expires_at=made.token.row.expires_at,
        replaces=made.replaces,
    )


async def make(request: Request, access: Access, cluster: str, body: ManifestRequest) -> Made:
    """Make a manifest; for the page as well."""
    fleet: Fleet = request.app.state.control.fleet
    manifests = Manifests(fleet.db, fleet.audit, fleet.join_tokens, fleet.identity)
    asked = Asked(cluster, body.options(), body.server, body.labels, body.ttl, body.approval_required)
    return await manifests.make(access, asked)
