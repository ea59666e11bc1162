"""What the API of agents and join tokens takes and gives."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from towline.control.agents.join_tokens import DEFAULT_TTL, LONGEST_TTL, MOST_NETWORKS, MOST_USES, SHORTEST_TTL
from towline.control.clusters.schemas import Labels, Name

Short = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
Encoded = Annotated[str, StringConstraints(max_length=200)]


class JoinTokenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cluster_name: Name | None = None
    """Name of the new cluster; without one it is called after its host."""
    rejoin: bool = False
    """The cluster exists; its host joins again with new keys, and the old agent ends."""
    labels: Labels = {}
    ttl: float = Field(DEFAULT_TTL, ge=SHORTEST_TTL, le=LONGEST_TTL, description="Seconds that the token lives.")
    max_uses: int = Field(1, ge=1, le=MOST_USES)
    networks: list[Short] = Field([], max_length=MOST_NETWORKS, description="Networks (CIDR) it may be used from.")
    approval_required: bool = False


class JoinTokenOut(BaseModel):
    id: str
    cluster_name: str
    cluster_id: str | None
    labels: dict[str, str]
    networks: list[str]
    approval_required: bool
    max_uses: int
    used: int
    state: str
    expires_at: datetime
    created_at: datetime
    created_by: str
    agents: list[dict[str, str]] = []
    """Who joined with it: agent and cluster ids."""


class JoinTokenMinted(JoinTokenOut):
    token: str
    """Shown now and never again."""
    command: str
    """The line to paste on the host."""
    fingerprint: str
    """SHA-256 of the authority's certificate, which the agent pins."""


class ChallengeOut(BaseModel):
    nonce: str
    origin: str
    server_time: float


class EnrolRequest(BaseModel):
    """Unknown fields are ignored: newer agents may send more."""

    token: Encoded
    public_key: Encoded
    sealing_key: Encoded
    instance_id: Short
    nonce: Encoded
    signature: Encoded
    hostname: Short = ""
    version: Short = ""
    kind: Short = ""

    def __repr__(self) -> str:
        return f"<EnrolRequest from {self.hostname}>"


class Enrolled(BaseModel):
    agent_id: str
    key_id: str
    cluster_id: str
    cluster_name: str
    generation: int
    pending: bool
    trust: dict[str, Any]
    server_urls: list[str]
    link_path: str


class AgentChanged(BaseModel):
    id: str
    state: str
    state_reason: str


class UpdateRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    manifest: Annotated[str, StringConstraints(max_length=64 * 1024)]
    """Canonical JSON of the release: version, and files with sha256 and size."""
    signature: Encoded
    """Ed25519, base64url, by a release key."""
    key: Encoded = ""


class UpdateSent(BaseModel):
    agent_id: str
