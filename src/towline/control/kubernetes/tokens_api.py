"""REST routes for kubeconfig files: where clusters are reached, and the tokens that kubectl's plugin asks for."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.kubernetes import minting
from towline.kube.paths import PREFIX

router = APIRouter(prefix="/api/v1/kubernetes", tags=["kubernetes"])


class KubernetesTokenOut(BaseModel):
    token: str
    """Shown once; opens `/k8s/clusters/…` and nothing else."""
    expires_at: datetime
    expires_in: int
    """Seconds from now: right on machines whose clock is wrong, too."""


class KubernetesOut(BaseModel):
    path: str
    """`/k8s/clusters/`: the name of a cluster follows."""
    host: str
    """`k8s.example.com` when clusters are reached as `NAME.k8s.example.com` too; else empty."""


@router.get("")
async def show_kubernetes(request: Request, access: Annotated[Access, needs(Permission.SELF)]) -> KubernetesOut:
    """Say at which addresses the APIs of Kubernetes clusters are reached."""
    host = request.app.state.control.settings.kubernetes_host
    return KubernetesOut(path=PREFIX.decode("ascii"), host=host)


@router.post("/token", status_code=201)
async def create_kubernetes_token(
    request: Request, access: Annotated[Access, needs(Permission.SELF)]
) -> KubernetesTokenOut:
    """Make a token for Kubernetes alone. It ends with the session or token that asks, and after an hour at most."""
    made = await minting.mint(request.app.state.control, access)
    seconds = int((made.expires_at - made.made_at).total_seconds())
    return KubernetesTokenOut(token=made.secret, expires_at=made.expires_at, expires_in=seconds)
