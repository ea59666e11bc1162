"""What an agent tells of CPU and memory in its Kubernetes cluster: the parts of `kube_usage` of `towline.wire.link`.

Data only. CPU is in ten-thousandths of a core, memory in KiB: what `kubectl top` shows has a tenth of that precision,
and both stay short in JSON. How they are measured is the agent's matter, how they are kept the control plane's.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["cluster", "node", "namespace", "pod"]
Source = Literal["metrics", "kubelet", "none"]

CPU_UNITS = 10_000
"""In a core."""
MEMORY_UNIT = 1024
"""Bytes."""
MOST_SERIES: dict[Kind, int] = {"cluster": 1, "node": 5_000, "namespace": 5_000, "pod": 10_000}
"""Told and kept of one cluster. 10,000 pods are twice what one agent is measured with; a day of them is some 80 MB in
the database. How many there are beyond is told in `left_out`; the sums of their namespaces hold them all the same."""
MOST_IN_PART = 1_500
"""Series of one message: with the longest names that Kubernetes takes they stay below what the link takes."""
LARGEST = 2**53
"""Beyond it JSON readers lose digits, and nothing uses as much."""


class Series(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The number by which a node, a namespace or a pod is meant until the next full sample."""

    number: int
    kind: Kind
    namespace: str
    """Empty but for pods."""
    name: str
    """Empty for the cluster, which is the sum of its nodes."""
