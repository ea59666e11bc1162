"""Removing a project: containers and networks, its files, and only those volumes that were named."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from towline.agent.docker import containers
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerError, DockerNotFound, JobFailed
from towline.agent.jobs.cancelling import until_cancelled
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.projects import staging
from towline.agent.projects.commands import Step
from towline.agent.projects.workbench import Workbench, open_bench
from towline.compose import layout
from towline.wire import orders

VOLUME_LABEL = "com.docker.compose.volume"
DOWN = Step("down", "removing", "command_failed", "removing the containers failed")


class _Volume(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    labels: dict[str, str] | None = None


class _Volumes(msgspec.Struct, frozen=True, rename="pascal"):
    volumes: list[_Volume] | None = None


async def remove(context: JobContext, order: orders.Remove) -> Ended:
    """Remove a project. Raises: JobFailed."""
    bench = await open_bench(context, must_exist=True)
    return await until_cancelled(context, bench.commands, _remove(bench, order))


async def _remove(bench: Workbench, order: orders.Remove) -> Ended:
    await bench.context.wait_for_docker(DOWN.stage)
    engine = bench.host.engine
    volumes = await _volumes(engine, bench.name)
    chosen = _chosen(volumes, order.volumes)
    count = len(await containers.list_ids(engine, project=bench.name))
    if _has_files(bench):
        await bench.run(DOWN, bench.placed().down(), bench.folder, limit=bench.context.time_left())
    removed = [each.name for each in chosen if await _delete_volume(engine, each.name)]
    _remove_files(bench)
    bench.host.records.forget(bench.name)
    kept = tuple(each.name for each in volumes if each.name not in removed)
    bench.context.reporter.say("removing", f"removed; volumes kept: {', '.join(kept) or 'none'}")
    return Ended(
        "succeeded",
        detail=orders.RemoveDetail(containers=count, volumes_removed=tuple(removed), volumes_kept=kept),
    )


def _has_files(bench: Workbench) -> bool:
    return all((bench.folder / name).exists() for name in bench.files_in_folder())


async def _volumes(engine: Engine, project: str) -> list[_Volume]:
    found = await engine.get(_Volumes, "/volumes", filters=containers.project_filter(project))
    return found.volumes or []


def _chosen(volumes: Sequence[_Volume], wanted: bool | Iterable[str]) -> list[_Volume]:
    """Return the volumes to delete, by their key in the file or their whole name. Raises: JobFailed: unknown one."""
    if wanted is True:
        return list(volumes)
    names = set(wanted or ())
    chosen = [each for each in volumes if {each.name, (each.labels or {}).get(VOLUME_LABEL, "")} & names]
    known = {text for each in chosen for text in (each.name, (each.labels or {}).get(VOLUME_LABEL, ""))}
    if unknown := sorted(names - known):
        raise JobFailed("not_found", f"the project has no volume {', '.join(unknown)}; nothing was removed")
    return chosen


async def _delete_volume(engine: Engine, name: str) -> bool:
    try:
        await engine.call("DELETE", f"/volumes/{containers.quoted(name)}")
    except DockerNotFound:
        return True
    except DockerError:
        return False
    return True


def _remove_files(bench: Workbench) -> None:
    """Remove what deploys wrote; what containers wrote beside it stays. An adopted project keeps its own files."""
    folder = bench.folder
    if bench.record.adopted:
        shutil.rmtree(folder / layout.OWN_FOLDER, ignore_errors=True)
        return
    staging.remove_brought(folder, bench.record.bundle_files)
    for name in (layout.ENV_FILE, bench.record.compose_file):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / layout.OWN_FOLDER, ignore_errors=True)
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
