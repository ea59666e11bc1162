"""Deleting images of a project's old revisions; those of the last good ones, and any in use, stay."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from towline.agent.docker import containers
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerError, DockerNotFound, JobFailed
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.projects.records import Record, Records
from towline.compose import references
from towline.compose.errors import ReferenceRefused
from towline.wire import orders


async def prune(context: JobContext, order: orders.Prune) -> Ended:
    """Delete what is not needed any more. Raises: JobFailed. DockerError."""
    await context.wait_for_docker("cleaning")
    records = context.host.records
    record = records.project(order.project)
    if record is None:
        raise JobFailed("not_found", f"the project {order.project!r} was not deployed on this host")
    spared = _spared(records, record, order)
    removed, kept, freed = await _delete(context.host.engine, record, spared, order.keep_images)
    left = {image_id: name for image_id, name in record.seen_images.items() if image_id not in removed}
    records.save(msgspec.structs.replace(record, seen_images=left))
    context.reporter.say("cleaning", f"{len(removed)} images deleted")
    return Ended(
        "succeeded",
        detail=orders.PruneDetail(images_removed=tuple(removed), images_kept=tuple(kept), freed_bytes=freed),
    )


def _spared(records: Records, record: Record, order: orders.Prune) -> set[str]:
    """Return the ids of the images that the good revisions to be kept ran."""
    good = records.good(record, max(1, order.keep_revisions))
    return {image.image_id for revision in good for image in revision.images.values()}


async def _delete(
    engine: Engine, record: Record, spared: Collection[str], keep: Collection[str]
) -> tuple[list[str], list[str], int]:
    removed, kept, freed = [], [], 0
    for image_id, name in record.seen_images.items():
        if image_id in spared or image_id in keep:
            continue
        try:
            image = await containers.inspect_image(engine, image_id)
        except DockerNotFound:
            removed.append(image_id)
            continue
        if {*(image.repo_digests or ()), *(image.repo_tags or ())} & set(keep):
            continue
        if await _delete_image(engine, image, name):
            removed.append(image_id)
            freed += image.size
        else:
            kept.append(image_id)
    return removed, kept, freed


async def _delete_image(engine: Engine, image: containers.Image, name: str) -> bool:
    """Take this project's names off an image; the engine deletes it with the last one, unless it is in use."""
    own = [text for text in (*(image.repo_tags or ()), *(image.repo_digests or ())) if _same(text, name)]
    try:
        for text in own or [image.id]:
            await engine.call("DELETE", f"/images/{containers.quoted(text, safe='/:@')}")
    except DockerNotFound:
        return True
    except DockerError:
        return False
    try:
        await containers.inspect_image(engine, image.id)
    except DockerNotFound:
        return True
    return False


def _same(text: str, name: str) -> bool:
    try:
        return references.parse(text).name == references.parse(name).name
    except ReferenceRefused:
        return False
