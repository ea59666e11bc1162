"""REST routes of enrolment, join tokens and agents. Thin: permission, call, shape."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from towline.control.access.dependencies import Access, Permission, needs, public
from towline.control.agents.enrolment import Application
from towline.control.agents.join_tokens import Minted, Wanted, state_of
from towline.control.agents.models import Agent, JoinToken
from towline.control.agents.schemas import (
    AgentChanged,
    ChallengeOut,
    Enrolled,
    EnrolRequest,
    JoinTokenMinted,
    JoinTokenOut,
    JoinTokenRequest,
    UpdateRequest,
    UpdateSent,
)
from towline.control.fleet import LINK_PATH, Fleet
from towline.control.install.commands import join_command
from towline.control.listing import ListQuery, Page, list_query, page
from towline.wire import link

router = APIRouter(prefix="/api/v1", tags=["agents"])

CanJoin = Annotated[Access, needs(Permission.JOIN_TOKEN_MANAGE)]
CanManage = Annotated[Access, needs(Permission.CLUSTER_MANAGE)]
ENROLLING = "proved by a join token and a signature"


def _fleet(request: Request) -> Fleet:
    fleet: Fleet = request.app.state.control.fleet
    return fleet


# -- enrolment ---------------------------------------------------------------------------------


@router.post("/agents/enrol/challenge", dependencies=[public(ENROLLING)])
async def enrol_challenge(request: Request) -> ChallengeOut:
    """Get a nonce for one enrolment."""
    fleet = _fleet(request)
    now = fleet.clock.now().timestamp()
    return ChallengeOut(nonce=fleet.enrolment.challenge(), origin=fleet.identity().origin, server_time=now)


@router.post("/agents/enrol", dependencies=[public(ENROLLING)])
async def enrol(request: Request, body: EnrolRequest) -> Enrolled:
    """Turn a join token and two fresh public keys into an agent."""
    fleet = _fleet(request)
    application = Application(
        token=body.token,
        public_key=body.public_key,
        sealing_key=body.sealing_key,
        instance_id=body.instance_id,
        nonce=body.nonce,
        signature=body.signature,
        hostname=body.hostname,
        version=body.version,
    )
    made = await fleet.enrolment.enrol(application, request.state.peer)
    identity = fleet.identity()
    return Enrolled(
        agent_id=made.agent_id,
        key_id=made.key_id,
        cluster_id=made.cluster_id,
        cluster_name=made.cluster_name,
        generation=1,
        pending=made.pending,
        trust=msgspec.to_builtins(fleet.trust.current),
        server_urls=list(identity.urls),
        link_path=LINK_PATH,
    )


# -- join tokens -------------------------------------------------------------------------------


@router.get("/join-tokens")
async def list_join_tokens(
    request: Request, access: CanJoin, asked: Annotated[ListQuery, Depends(list_query)]
) -> Page[JoinTokenOut]:
    """List join tokens, never their text."""
    fleet = _fleet(request)
    listed, joined = await fleet.join_tokens.page(access, asked)
    now = fleet.clock.now()
    return page(listed, lambda row: JoinTokenOut(**_token(row, state_of(row, now), joined.get(row.id, []))))


@router.post("/join-tokens", status_code=201)
async def create_join_token(request: Request, access: CanJoin, body: JoinTokenRequest) -> JoinTokenMinted:
    """Make a join token; its text is in this answer alone."""
    fleet = _fleet(request)
    wanted = Wanted(
        cluster_name=body.cluster_name or "",
        rejoin=body.rejoin,
        labels=body.labels,
        ttl=body.ttl,
        max_uses=body.max_uses,
        networks=tuple(body.networks),
        approval_required=body.approval_required,
    )
    return _minted(fleet, await fleet.join_tokens.create(access, wanted))


@router.get("/join-tokens/{token_id}")
async def get_join_token(request: Request, access: CanJoin, token_id: str) -> JoinTokenOut:
    """Show a join token and who has joined with it: what the join dialog waits for."""
    fleet = _fleet(request)
    row, agents = await fleet.join_tokens.find(access, token_id)
    return JoinTokenOut(**_token(row, state_of(row, fleet.clock.now()), agents))


@router.delete("/join-tokens/{token_id}", status_code=204)
async def revoke_join_token(request: Request, access: CanJoin, token_id: str) -> Response:
    """Revoke a join token; who joined with it stays."""
    await _fleet(request).join_tokens.revoke(access, token_id)
    return Response(status_code=204)


# -- agents ------------------------------------------------------------------------------------


@router.post("/clusters/{cluster}/agents/{agent}/approve")
async def approve_agent(request: Request, access: CanManage, cluster: str, agent: str) -> AgentChanged:
    """Let an agent work that joined with a token that asks for approval."""
    return _changed(await _fleet(request).agents.approve(access, cluster, agent))


@router.post("/clusters/{cluster}/agents/{agent}/readmit")
async def readmit_agent(request: Request, access: CanManage, cluster: str, agent: str) -> AgentChanged:
    """End the quarantine of an agent; the next one that connects with its identity is taken for the right one."""
    return _changed(await _fleet(request).agents.readmit(access, cluster, agent))


@router.post("/clusters/{cluster}/agents/{agent}/revoke")
async def revoke_agent(request: Request, access: CanManage, cluster: str, agent: str) -> AgentChanged:
    """End an agent for good."""
    return _changed(await _fleet(request).agents.revoke(access, cluster, agent))


@router.post("/clusters/{cluster}/agents/{agent}/rotate-key", status_code=202)
async def rotate_agent_key(request: Request, access: CanManage, cluster: str, agent: str) -> AgentChanged:
    """Ask an agent to replace its identity key."""
    return _changed(await _fleet(request).agents.rotate_key(access, cluster, agent))


@router.post("/clusters/{cluster}/agents/{agent}/update", status_code=202)
async def update_agent(
    request: Request, access: CanManage, cluster: str, agent: str, body: UpdateRequest
) -> UpdateSent:
    """Pass a signed order to install another release on to a connected agent."""
    order = link.Update(manifest=body.manifest, signature=body.signature, key=body.key)
    await _fleet(request).updates.send(access, cluster, agent, order)
    return UpdateSent(agent_id=agent)


def _changed(row: Agent) -> AgentChanged:
    return AgentChanged(id=row.id, state=row.state, state_reason=row.state_reason)


def _minted(fleet: Fleet, made: Minted) -> JoinTokenMinted:
    identity = fleet.identity()
    return JoinTokenMinted(
        **_token(made.row, "usable", []),
        token=made.token,
        command=join_command(identity, made.token),
        fingerprint=identity.fingerprints[0] if identity.fingerprints else "",
    )


def _token(row: JoinToken, state: str, agents: list[dict[str, str]]) -> dict[str, object]:
    names = (
        "id", "cluster_name", "labels", "networks", "approval_required", "max_uses", "used", "expires_at",
        "created_at", "created_by",
    )  # fmt: skip
    shown = {name: getattr(row, name) for name in names}
    return shown | {"cluster_id": row.cluster_id or None, "state": state, "agents": agents}
