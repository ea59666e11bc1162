"""What the API gives of the history of usage. Every field is always there; what nobody measured is null."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from towline.control.kubernetes.inventory_schemas import ClusterName


class RangeOut(BaseModel):
    """Least, mean and most of the samples of some time."""

    min: float
    avg: float
    max: float


class PointOut(BaseModel):
    at: datetime
    """When its step begins."""
    cpu: RangeOut
    """Cores."""
    memory_bytes: RangeOut


class SeriesOut(BaseModel):
    """What one node, namespace or pod used."""

    namespace: str
    """Empty but for pods."""
    name: str
    """Empty for the cluster, which is the sum of its measured nodes."""
    cpu: RangeOut
    """Of the whole time, in cores."""
    memory_bytes: RangeOut
    points: list[PointOut | None]
    """One for each step from `from` on; null where nobody measured: never a zero that was not measured."""


class UsageStateOut(BaseModel):
    state: Literal["measured", "partial", "away", "unknown"]
    """measured; partial: `reason` says what is missing; away: not at present; unknown: nobody measures it."""
    reason: str
    source: Literal["metrics", "kubelet", "none"]
    """Who measures: the metrics API, or the kubelets themselves."""
    left_out: int
    """Pods that are in the sums of their namespaces alone."""
    sampled_at: datetime | None


class UsageOut(UsageStateOut):
    """The history of one kind."""

    cluster: ClusterName
    kind: Literal["cluster", "node", "namespace", "pod"]
    begins_at: datetime
    ends_at: datetime
    step: int
    """Seconds."""
    total: int
    """Series that there are; `series` holds the first `limit` of them."""
    series: list[SeriesOut]
