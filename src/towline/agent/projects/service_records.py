"""What a revision's containers looked like when it was good: the measure of drift."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from towline.agent.projects.records import ServiceRecord
from towline.compose.containers import Container
from towline.compose.model import Service


def service_records(
    services: Iterable[Service], present: Sequence[Container], scales: Mapping[str, int]
) -> dict[str, ServiceRecord]:
    """Note each service's configuration, image and number."""
    return {each.name: _record(each, present, scales) for each in services}


def _record(service: Service, present: Sequence[Container], scales: Mapping[str, int]) -> ServiceRecord:
    own = [each for each in present if each.service == service.name]
    newest = own[-1] if own else None
    return ServiceRecord(
        config_hash=newest.config_hash if newest else "",
        image_id=newest.image if newest else "",
        replicas=scales.get(service.name, service.replicas),
        is_one_shot=bool(own) and all(each.has_ended for each in own),
    )
