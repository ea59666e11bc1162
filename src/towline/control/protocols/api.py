"""REST routes of tokens for agents of older systems. Thin: permission, call, shape."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.agents.join_tokens import MOST_NETWORKS
from towline.control.clusters.schemas import Labels, Name
from towline.control.listing import ListQuery, Page, list_query, page
from towline.control.protocols.admission import LONGEST_SECRET
from towline.control.protocols.feature import Protocols
from towline.control.protocols.models import CompatToken
from towline.control.protocols.names import Protocol
from towline.control.protocols.tokens import LONGEST_OPEN, LONGEST_TTL, SHORTEST_SECRET, Wanted

router = APIRouter(prefix="/api/v1/compat", tags=["older agents"])

CanJoin = Annotated[Access, needs(Permission.JOIN_TOKEN_MANAGE)]
Network = Annotated[str, StringConstraints(max_length=64)]


class CompatTokenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    protocol: Protocol
    cluster: Name | None = None
    """Name of the cluster that its agent becomes, or of one that it speaks for; without one it is called as it says."""
    shared: bool = False
    """Several agents present it, told apart by what they call themselves."""
    secret: SecretStr | None = Field(None, min_length=SHORTEST_SECRET, max_length=LONGEST_SECRET)
    """One that agents present already, taken over from the older system; without one a new one is made."""
    labels: Labels = {}
    networks: list[Network] = Field([], max_length=MOST_NETWORKS, description="Networks (CIDR) it may be used from.")
    open_for: float = Field(0, ge=0, le=LONGEST_OPEN, description="Seconds in which nobody needs approval.")
    ttl: float = Field(0, ge=0, le=LONGEST_TTL, description="Seconds that it lives; 0: until it is revoked.")


class CompatTokenOut(BaseModel):
    id: str
    protocol: Protocol
    shared: bool
    cluster_name: str
    cluster_id: str | None
    labels: dict[str, str]
    networks: list[str]
    open_until: datetime | None
    revoked: bool
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    agents: int
    """How many came with it."""


class CompatTokenMinted(CompatTokenOut):
    token: str
    """Shown now and never again."""


class OpenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(ge=0, le=LONGEST_OPEN)
    """0 ends the window."""


def _protocols(request: Request) -> Protocols:
    protocols: Protocols = request.app.state.control.protocols
    return protocols


@router.get("/tokens")
async def list_compat_tokens(
    request: Request, access: CanJoin, asked: Annotated[ListQuery, Depends(list_query)]
) -> Page[CompatTokenOut]:
    """List the tokens of agents of older systems, never their text."""
    listed, counts = await _protocols(request).tokens.page(access, asked)
    return page(listed, lambda row: CompatTokenOut(**_shown(row, counts.get(row.id, 0))))


@router.post("/tokens", status_code=201)
async def create_compat_token(request: Request, access: CanJoin, body: CompatTokenRequest) -> CompatTokenMinted:
    """Make a token for agents of an older system, or take theirs over; its text is in this answer alone."""
    wanted = Wanted(
        protocol=body.protocol,
        cluster=body.cluster or "",
        shared=body.shared,
        secret=body.secret.get_secret_value() if body.secret else "",
        labels=body.labels,
        networks=tuple(body.networks),
        open_for=body.open_for,
        ttl=body.ttl,
    )
    made = await _protocols(request).tokens.create(access, wanted)
    return CompatTokenMinted(**_shown(made.row, 0), token=made.secret)


@router.post("/tokens/{token_id}/open")
async def open_compat_token(request: Request, access: CanJoin, token_id: str, body: OpenRequest) -> CompatTokenOut:
    """Let agents that come with a shared token in without approval for a while."""
    row = await _protocols(request).tokens.open(access, token_id, body.seconds)
    return CompatTokenOut(**_shown(row, 0))


@router.delete("/tokens/{token_id}", status_code=204)
async def revoke_compat_token(request: Request, access: CanJoin, token_id: str) -> Response:
    """Revoke a token: who presents it is refused from the next connect on."""
    await _protocols(request).tokens.revoke(access, token_id)
    return Response(status_code=204)


def _shown(row: CompatToken, agents: int) -> dict[str, object]:
    names = (
        "id", "protocol", "shared", "cluster_name", "labels", "networks", "open_until", "revoked", "expires_at",
        "created_at", "created_by", "last_used_at",
    )  # fmt: skip
    shown = {name: getattr(row, name) for name in names}
    return shown | {"cluster_id": row.cluster_id or None, "agents": agents}
