"""What runs against what was deployed, from the agent's own records. The rules are `towline.compose.drift`."""

from __future__ import annotations

from collections.abc import Iterable

from towline.agent.docker.containers import Inspected
from towline.agent.projects.gate import convert
from towline.agent.projects.records import Record, Revision
from towline.compose.drift import Expected, compare
from towline.compose.model import Lifetime


def drift_of(record: Record, revision: Revision | None, own: Iterable[Inspected], now: float) -> tuple[str, ...]:
    """Return each difference in words; nothing when the revision was never good, so that nobody knows better."""
    if revision is None or not revision.is_good:
        return ()
    expected = [
        Expected(
            service=name,
            replicas=service.replicas,
            config_hash=service.config_hash,
            image=service.image_id,
            lifetime=Lifetime.ONE_SHOT if service.is_one_shot else Lifetime.UNKNOWN,
        )
        for name, service in revision.services.items()
        if name not in record.stopped
    ]
    containers = [convert(each, now=now) for each in own]
    seen = [each for each in containers if each.service not in record.stopped]
    return tuple(f"{each.service}: {each.reason}" for each in compare(expected, seen))
