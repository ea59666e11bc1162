"""What the API of Kubernetes access gives."""

from __future__ import annotations

from pydantic import BaseModel

from towline.control.kubernetes.explain import Cell


class CellOut(BaseModel):
    resource: str
    """As kubectl writes it, `deployments.apps/scale`; or a path."""
    verb: str
    allowed: bool
    rule: str
    """Which rule says so, in words."""
    role: str
    """The highest role that reaches this; empty without one."""
    where: str
    """What that role was granted on."""
    risk: str
    """Why it deserves a second look; usually empty."""

    @classmethod
    def of(cls, cell: Cell) -> CellOut:
        verdict = cell.verdict
        return cls(
            resource=cell.resource, verb=cell.verb, allowed=verdict.allowed, rule=verdict.rule,
            role=verdict.roles[-1] if verdict.roles else "", where=verdict.where, risk=cell.risk,
        )  # fmt: skip


class AccessOut(BaseModel):
    cluster: str
    namespace: str
    user: str
    """Who the caller, or who was asked about, is inside the cluster; its own RBAC is asked as well. Empty: nobody,
    because no role reaches, or a role that was asked about."""
    groups: list[str]
    answers: list[CellOut]


class KubeconfigClusterOut(BaseModel):
    name: str
    server: str
    host_server: str
    """The same cluster under a host name of its own; empty when that is not set up."""


class KubeconfigOut(BaseModel):
    origin: str
    authority: str
    """PEM of the authority to trust; empty when the system's trust decides."""
    clusters: list[KubeconfigClusterOut]
    unreachable: list[str]
    """Clusters whose names are no DNS label; they have to be renamed first."""
