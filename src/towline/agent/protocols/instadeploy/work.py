"""What InstaDeploy's commands mean here: jobs of our own kinds, so that a bad file never replaces a good one.

`DEPLOY_COMPOSE` is a deploy with everything that belongs to one: validation, the host's policy, pull, health, and the
last good revision again when it fails. `STOP_COMPOSE` takes containers and networks away and leaves the files.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from towline.agent.errors import JobFailed
from towline.agent.jobs import kinds
from towline.agent.jobs.cancelling import until_cancelled
from towline.agent.jobs.context import Host, JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.projects.commands import Step
from towline.agent.projects.records import Record
from towline.agent.projects.workbench import Workbench
from towline.agent.protocols import ids
from towline.compose import names
from towline.compose.errors import NameRefused
from towline.compose.policy import Level
from towline.wire import instadeploy, link, orders
from towline.wire.instadeploy import Command, Kind

PREFIX = "instadeploy"
COMPOSE_FILE = "docker-compose.yml"
"""What the original agent writes; a project that it made is gone on with in its own file."""

STATUS_KIND = "instadeploy.status"
"""Waits for no other job of its project."""

DEPLOY_SECONDS = 1800.0
"""Time limit of a deploy: large images over a slow line."""
STOP_SECONDS = 600.0
STATUS_SECONDS = 60.0

DOWN = Step("down", "removing", "command_failed", "docker compose down failed")
_STRAY = re.compile(r"[^a-z0-9_-]", re.ASCII)


class StatusOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of STATUS_KIND."""

    project: str
    asked: str
    """The name as it was asked for."""


def job(command: Command, host: Host) -> link.Job:
    """Turn a command into a job. Raises: BadMessage: its fields are wrong. ids.BadId."""
    project = compose_name(command.project)
    match command.kind:
        case Kind.DEPLOY:
            return _job(command, "compose.deploy", _deploy(command, project, host), DEPLOY_SECONDS)
        case Kind.STOP:
            return _job(command, "compose.stop", orders.Services(project=project), STOP_SECONDS)
        case Kind.STATUS:
            return _job(command, STATUS_KIND, StatusOrder(project=project, asked=command.project), STATUS_SECONDS)
    raise instadeploy.BadMessage(f"Unknown command type: {command.type}")


def _job(command: Command, kind: str, order: msgspec.Struct, seconds: float) -> link.Job:
    payload = msgspec.Raw(msgspec.json.encode(order))
    name = ids.job_id(PREFIX, command.id)
    return link.Job(job_id=name, kind=kind, fence=0, attempt=1, timeout=seconds, payload=payload)


def _deploy(command: Command, project: str, host: Host) -> orders.Deploy:
    try:
        text = command.compose.decode()
    except UnicodeDecodeError as error:
        raise instadeploy.BadMessage(f"failed to decode compose file: it is not UTF-8: {error.reason}") from error
    record = host.records.project(project)
    return orders.Deploy(
        project=project,
        org_id=PREFIX,
        deployment_id=f"{PREFIX}-{project}",
        revision=(record.running_number if record else 0) + 1,
        revision_id="rev_" + hashlib.sha256(command.id.encode("utf-8", "surrogatepass")).hexdigest()[:32],
        compose=text,
        # The widest: the host's own policy is the judge, as there is no other one.
        policy_level=Level.PRIVILEGED,
    )


def compose_name(text: str) -> str:
    """Return the project's name as Compose makes it of a folder's: lower case, beginning with a letter or digit.

    Raises: BadMessage: nothing usable is left of it.
    """
    try:
        return names.project_name(_STRAY.sub("", text.lower()).lstrip("_-"))
    except NameRefused as error:
        raise instadeploy.BadMessage(f"Invalid project name: {error}") from error


async def execute(context: JobContext) -> Ended:
    """Do a job of this protocol. Raises: JobFailed."""
    match context.entry.kind:
        case "compose.stop":
            return await _stop(context)
        case "instadeploy.status":
            return await _status(context)
        case "compose.deploy":
            _begin_record(context.host, context.entry.project)
    return await kinds.execute(context)


def _begin_record(host: Host, project: str) -> None:
    """Keep the name of the file that the original agent uses. Raises: StorageError."""
    if host.records.project(project) is None:
        host.records.save(_record(host, project))


def _record(host: Host, project: str) -> Record:
    return msgspec.structs.replace(host.records.new(project), compose_file=COMPOSE_FILE)


async def _existing(context: JobContext, project: str) -> Workbench | None:
    """Take up a project that is on this host, by whichever agent it was made; None when there is none."""
    host = context.host
    host.policy().require_project(project)
    record = host.records.project(project) or _record(host, project)
    bench = Workbench(context, await host.compose(), record)
    return bench if all((bench.folder / name).is_file() for name in bench.files_in_folder()) else None


async def _stop(context: JobContext) -> Ended:
    bench = await _existing(context, context.entry.project)
    if bench is None:
        raise JobFailed("not_found", "project does not exist")
    return await until_cancelled(context, bench.commands, _down(bench))


async def _down(bench: Workbench) -> Ended:
    await bench.context.wait_for_docker(DOWN.stage)
    await bench.run(DOWN, bench.placed().down(), bench.folder, limit=bench.context.time_left())
    if bench.host.records.project(bench.name) is not None:
        bench.save(stopped=tuple(await bench.services_in_folder()))
    return Ended("succeeded")


async def _status(context: JobContext) -> Ended:
    order = msgspec.json.decode(context.entry.payload, type=StatusOrder)
    named = msgspec.structs.replace(context.entry, project=order.project)
    bench = await _existing(JobContext(context.host, named, context.reporter), order.project)
    text = instadeploy.NO_PROJECT if bench is None else await _table(bench)
    context.reporter.output("status", f"Status for project '{order.asked}':\n\n{text}")
    return Ended("succeeded")


async def _table(bench: Workbench) -> str:
    """Return what `docker compose ps` shows. Raises: JobFailed."""
    await bench.context.wait_for_docker("status")
    try:
        called = await bench.tool.call(bench.placed().ps_table(), Path(bench.folder))
    except (OSError, TimeoutError) as error:
        raise JobFailed("command_failed", f"docker compose ps failed: {error or 'no answer in time'}") from error
    if called.code:
        raise JobFailed("command_failed", f"docker compose ps failed: {called.error.strip()[:2000]}")
    return called.output.decode("utf-8", "replace")
