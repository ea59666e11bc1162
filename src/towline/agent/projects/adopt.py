"""Taking over a project that runs on this host already: its files are read, its containers stay as they are.

Its folder stays where it is. Until the first deploy nothing in it is written either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from towline.agent.docker import containers
from towline.agent.errors import JobFailed
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.projects import failures, gate, images
from towline.agent.projects.records import Record, Revision
from towline.agent.projects.service_records import service_records
from towline.agent.projects.workbench import Workbench
from towline.compose import health, layout
from towline.compose.model import Service
from towline.wire import orders

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class _Found:
    """What the containers' labels say about where the project came from."""

    folder: Path
    files: tuple[Path, ...]


async def adopt(context: JobContext, order: orders.Adopt) -> Ended:
    """Adopt a project. Raises: JobFailed: it is not there, or its files are not."""
    await context.wait_for_docker("validating")
    host = context.host
    known = host.records.project(order.project)
    if known is not None and known.running and not known.adopted:
        raise JobFailed("command_failed", f"the project {order.project!r} was deployed by Towline already")
    found = _found(order.project, await containers.inspect_project(host.engine, order.project))
    record = _record(order, found)
    bench = Workbench(context, await host.compose(), record)
    compose_text = await _compose_text(bench, found)
    services = await bench.services_in_folder()
    deploy = _as_deploy(order, compose_text, _text(found.folder / layout.ENV_FILE))
    await _keep(bench, deploy, services)
    context.reporter.say("done", f"adopted from {found.folder}; no container was touched")
    return Ended("succeeded", detail=await _detail(bench, found, deploy, services))


def _found(project: str, inspected: Sequence[containers.Inspected]) -> _Found:
    labelled = [each.labels for each in inspected if each.labels.get(containers.FOLDER_LABEL)]
    if not labelled:
        raise JobFailed("not_found", f"no containers of a Compose project {project!r} exist on this host")
    labels = labelled[-1]
    folder = Path(labels[containers.FOLDER_LABEL])
    files = tuple(Path(text) for text in labels.get(containers.FILES_LABEL, "").split(",") if text)
    absolute = tuple(path if path.is_absolute() else folder / path for path in files)
    missing = [str(path) for path in absolute if not path.is_file()]
    if missing or not absolute:
        raise JobFailed("not_found", f"the project's files are not on this host: {', '.join(missing) or 'none named'}")
    if any(path.suffix not in _SUFFIXES for path in absolute):
        raise JobFailed("invalid_project", "the project was not started from .yaml files")
    return _Found(folder, absolute)


def _record(order: orders.Adopt, found: _Found) -> Record:
    inside = [str(path.relative_to(found.folder)) for path in found.files if path.is_relative_to(found.folder)]
    if len(inside) != len(found.files):
        raise JobFailed("invalid_project", f"some of the project's files lie outside of its folder {found.folder}")
    return Record(
        project=order.project,
        folder=str(found.folder),
        compose_file=inside[0],
        config_files=tuple(inside),
        org_id=order.org_id,
        deployment_id=order.deployment_id,
        adopted=True,
    )


async def _compose_text(bench: Workbench, found: _Found) -> str:
    """Return the file as its author wrote it; several files are joined by Compose, variables left in place."""
    if len(found.files) == 1:
        text = _text(found.files[0])
    else:
        arguments = bench.placed().config_text()
        called = await bench.tool.call(arguments, found.folder)
        if called.code != 0:
            raise JobFailed("invalid_project", f"docker compose refuses the project: {called.error[:2000]}")
        text = called.output.decode("utf-8", "replace")
    if len(text.encode()) > orders.MAX_COMPOSE_BYTES:
        raise JobFailed("invalid_project", f"the Compose file is larger than {orders.MAX_COMPOSE_BYTES} bytes")
    return text


def _text(path: Path) -> str:
    try:
        return path.read_text() if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise JobFailed("invalid_project", f"{path} cannot be read: {error}") from error


def _as_deploy(order: orders.Adopt, compose_text: str, env: str) -> orders.Deploy:
    return orders.Deploy(
        project=order.project,
        org_id=order.org_id,
        deployment_id=order.deployment_id,
        revision=order.revision,
        revision_id=order.revision_id,
        compose=compose_text,
        env=env,
    )


async def _keep(bench: Workbench, order: orders.Deploy, services: dict[str, Service]) -> None:
    """Remember what runs as the first good revision."""
    ran = await images.ran(bench.host.engine, services.values(), bench.name)
    present = await gate.look(bench.host.engine, bench.name)
    counts = {name: sum(1 for each in present if each.service == name) for name in services}
    revision = Revision(
        order=order,
        is_good=True,
        deployed_at=bench.host.clock.now().timestamp(),
        images=ran,
        services=service_records(services.values(), present, counts),
    )
    record = msgspec.structs.replace(
        bench.record,
        running=order.revision_id,
        running_number=order.revision,
        last_good=order.revision_id,
        seen_images={image.image_id: image.reference for image in ran.values()},
    )
    bench.record = bench.host.records.keep(record, revision, order.keep_images)


async def _detail(
    bench: Workbench, found: _Found, order: orders.Deploy, services: dict[str, Service]
) -> orders.AdoptDetail:
    watched = await gate.judge(bench.host.engine, bench.name, health.expect(services.values()))
    revision = bench.host.records.revision(bench.name, order.revision_id)
    return orders.AdoptDetail(
        compose=order.compose,
        env=order.env,
        files=tuple(orders.AdoptedFile(path=str(path), size=path.stat().st_size) for path in found.files),
        folder=str(found.folder),
        images=revision.pins if revision is not None else {},
        services=failures.outcomes(watched, services.values(), {}),
    )
