"""Images of a project on this host: which are here, what a service runs, and what a revision's pins must be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from towline.agent.docker import containers
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerNotFound
from towline.agent.projects.records import RanImage
from towline.compose import overrides, references
from towline.compose.errors import ReferenceRefused
from towline.compose.model import Service


async def missing(engine: Engine, services: Iterable[Service]) -> list[str]:
    """Return the services whose image is not on this host and is not built here. Raises: DockerError."""
    absent = []
    for service in services:
        if service.image and service.build is None and await _find(engine, service.image) is None:
            absent.append(service.name)
    return absent


async def unbuilt(engine: Engine, services: Iterable[Service], project: str) -> list[str]:
    """Return the services that are built here and whose image does not exist yet. Raises: DockerError."""
    return [
        service.name
        for service in services
        if service.build is not None and await _find(engine, image_name(service, project)) is None
    ]


async def ran(engine: Engine, services: Iterable[Service], project: str) -> dict[str, RanImage]:
    """Return what each service runs now, from its newest container. Raises: DockerError."""
    found = {}
    references_of = {service.name: image_name(service, project) for service in services}
    for container in await containers.inspect_project(engine, project):
        name = container.labels.get(containers.SERVICE_LABEL, "")
        if name in references_of:
            found[name] = await _ran(engine, references_of[name], container.image)
    return found


async def pins_needed(engine: Engine, pins: Mapping[str, str], services: Mapping[str, str]) -> dict[str, str]:
    """Leave out the pins of services whose plain image name means the same on this host.

    Args: services: service to the image's name in the file. Raises: DockerError.
    """
    present = {}
    for service, pin in pins.items():
        plain = await _find(engine, services.get(service, ""))
        wanted = await _find(engine, pin)
        if plain is not None and wanted is not None and plain.id == wanted.id:
            present[service] = pin
    return overrides.pins_needed(pins, present)


def image_name(service: Service, project: str) -> str:
    """Return the name of a service's image; Compose names those that it builds and the file does not."""
    return service.image or f"{project}-{service.name}"


async def _ran(engine: Engine, reference: str, image_id: str) -> RanImage:
    try:
        image = await containers.inspect_image(engine, image_id)
    except DockerNotFound:
        return RanImage(reference=reference, image_id=image_id, pin=image_id)
    return RanImage(reference=reference, image_id=image_id, pin=_pin(reference, image))


def _pin(reference: str, image: containers.Image) -> str:
    try:
        wanted = references.parse(reference).name
        known = [(references.parse(text), text) for text in image.repo_digests or ()]
    except ReferenceRefused:
        return image.id
    return next((text for parsed, text in known if parsed.name == wanted), image.id)


async def _find(engine: Engine, reference: str) -> containers.Image | None:
    if not reference:
        return None
    try:
        return await containers.inspect_image(engine, reference)
    except DockerNotFound:
        return None
