"""REST route of the tokens that kubectl's plugin asks for."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.kubernetes import minting

router = APIRouter(prefix="/api/v1/kubernetes", tags=["kubernetes"])


class KubernetesTokenOut(BaseModel):
    token: str
    """Shown once; opens `/k8s/clusters/…` and nothing else."""
    expires_at: datetime
    expires_in: int
    """Seconds from now: right on machines whose clock is wrong, too."""


@router.post("/token", status_code=201)
async def create_kubernetes_token(
    request: Request, access: Annotated[Access, needs(Permission.SELF)]
) -> KubernetesTokenOut:
    """Make a token for Kubernetes alone. It ends with the session or token that asks, and after an hour at most."""
    made = await minting.mint(request.app.state.control, access)
    seconds = int((made.expires_at - made.made_at).total_seconds())
    return KubernetesTokenOut(token=made.secret, expires_at=made.expires_at, expires_in=seconds)
