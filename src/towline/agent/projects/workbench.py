"""What every step of a job on one project works with: its files, its commands, its containers.

Here: doing single things to a project. Not here: which of them, and in what order (`deploy_steps.py`, `actions.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from towline.agent.docker.compose import ComposeTool
from towline.agent.errors import DockerNotFound, JobFailed
from towline.agent.jobs.context import JobContext
from towline.agent.projects import content, gate, judging, staging
from towline.agent.projects.commands import Commands, Step
from towline.agent.projects.content import Opened
from towline.agent.projects.gate import Watched
from towline.agent.projects.records import Record
from towline.compose import containers as compose_containers
from towline.compose import health, layout, progress, project, resume
from towline.compose.argv import Compose
from towline.compose.containers import Container
from towline.compose.health import Expectation, Gate
from towline.compose.model import Lifetime, Service
from towline.wire import orders

SHORTEST_STEP = 5.0
"""Seconds that a command gets at least, so that a job whose time is up fails with Compose's words."""

# Docker up to 20.10 that is killed while it starts a container does not know afterwards that it did, and can neither
# start it nor end what runs; a later Docker tidies up by itself.
LOST_TASK = re.compile(r"task ([0-9a-f]{64}):? already exists")
LOST = "Docker was killed while it started this container and has lost track of it"
NOT_KNOWN = f"{LOST}; whether it has had its run is not known, so it is not run again"


@dataclass(slots=True)
class Prepared:
    """A revision's files, and its services as Compose sees them once it was asked."""

    order: orders.Deploy
    content: staging.Content
    parsed: project.Parsed
    model: dict[str, Any] = field(default_factory=dict, repr=False)
    services: dict[str, Service] = field(default_factory=dict, repr=False)


class Workbench:
    """One job's hands on one project. Make it with `open_bench`."""

    def __init__(self, context: JobContext, tool: ComposeTool, record: Record) -> None:
        self.context = context
        self.host = context.host
        self.record = record
        self.tool = tool
        self.commands = Commands(context, tool)
        self.stage = self.host.stages / context.job_id

    def __repr__(self) -> str:
        return f"<Workbench {self.record.project} {self.context!r}>"

    @property
    def folder(self) -> Path:
        return Path(self.record.folder)

    @property
    def name(self) -> str:
        return self.record.project

    # -- files ---------------------------------------------------------------------------------------

    def prepare(self, order: orders.Deploy, opened: Opened, pins: Mapping[str, str]) -> Prepared:
        """Make a revision's files, in memory. Raises: JobFailed."""
        key = self.host.identity.current.unseal_key().private_bytes_raw()
        made, parsed = content.build(
            order,
            secrets=opened.secrets,
            bundles=self.host.bundles,
            folder=str(self.folder),
            compose_file=self.record.compose_file,
            pins=pins,
            version_key=hashlib.sha256(b"towline-secret-version" + key).digest(),
        )
        return Prepared(order, made, parsed)

    def write_stage(self, prepared: Prepared) -> None:
        """Write a revision beside the running one. Raises: StorageError."""
        staging.write_stage(self.stage, self.folder, self.name, prepared.content, self.record.bundle_files)

    def apply(self, prepared: Prepared) -> None:
        """Write a revision into the project's folder and remember that it is there. Raises: StorageError."""
        order = prepared.order
        # Remembered first: what is in the folder after a crash belongs to this revision, or to none.
        brought = tuple(sorted({*self.record.bundle_files, *prepared.content.bundle_files}))
        self.save(bundle_files=brought)
        staging.apply(self.folder, self.name, prepared.content, self.record.bundle_files)
        self.save(
            org_id=order.org_id,
            deployment_id=order.deployment_id,
            running=order.revision_id,
            running_number=order.revision,
            bundle_files=prepared.content.bundle_files,
            config_files=(),
            scales=order.scales,
            stopped=(),
        )
        staging.discard(self.stage)

    def save(self, **changes: Any) -> None:
        """Change the project's record, on disk. Raises: StorageError."""
        self.record = msgspec.structs.replace(self.record, **changes)
        self.host.records.save(self.record)

    def rescale(self, scales: Mapping[str, int]) -> None:
        """Remember how many containers are wanted now. Raises: StorageError."""
        self.save(scales={**self.record.scales, **scales})
        revision = self.host.records.revision(self.name, self.record.running)
        if revision is not None:
            services = {
                name: msgspec.structs.replace(each, replicas=scales.get(name, each.replicas))
                for name, each in revision.services.items()
            }
            self.host.records.save_revision(msgspec.structs.replace(revision, services=services))

    # -- Compose -------------------------------------------------------------------------------------

    def staged(self, prepared: Prepared) -> Compose:
        """Return the argument lists for the staged files."""
        return self.commands.compose(self.stage, prepared.content.files, (layout.ENV_FILE,))

    def placed(self, prepared: Prepared | None = None) -> Compose:
        """Return the argument lists for the files in the project's folder."""
        files = prepared.content.files if prepared is not None else self.files_in_folder()
        env_files = (layout.ENV_FILE,) if (self.folder / layout.ENV_FILE).exists() else ()
        return self.commands.compose(self.folder, files, env_files)

    def files_in_folder(self) -> tuple[str, ...]:
        """Return the Compose files that are in force in the project's folder."""
        own = self.record.config_files or (self.record.compose_file,)
        return (*own, layout.OVERRIDE_FILE) if (self.folder / layout.OVERRIDE_FILE).exists() else own

    async def read_model(self, prepared: Prepared, compose: Compose, where: Path) -> None:
        """Let Compose read the files and note what it sees. Raises: judging.Invalid, JobFailed."""
        prepared.model = await judging.normal_form(self.tool, compose, where, str(self.folder), prepared.parsed)
        prepared.services = dict(project.build(prepared.model, name=self.name, folder=str(self.folder)).services)

    async def services_in_folder(self) -> dict[str, Service]:
        """Return the services of whatever is in the project's folder. Raises: JobFailed."""
        text = "services: {}"
        if self.tool.dialect.is_v1:  # which does not print its normal form
            text = (self.folder / self.record.compose_file).read_text()
        parsed = project.parse(text, name=self.name, folder=str(self.folder))
        model = await judging.normal_form(self.tool, self.placed(), self.folder, str(self.folder), parsed)
        return dict(project.build(model, name=self.name, folder=str(self.folder)).services)

    async def up(
        self,
        step: Step,
        prepared: Prepared,
        *,
        began_at: float,
        limit: float,
    ) -> None:
        """Bring the services of the placed files up, none of its one-shot services twice.

        Args: began_at: wall clock of the first attempt.
        Raises: JobFailed. DockerError.
        """
        compose = self.placed(prepared)
        if self.host.steps.last(self.context.job_id, step.name) is not None:
            await self.context.wait_for_docker(step.stage)

        async def again() -> Sequence[str] | None:
            return await self._rest_of_up(step, compose, prepared, began_at)

        arguments = compose.up(scales=prepared.order.scales)

        await self._run_past_lost_tasks(step, prepared, arguments, limit=limit, again=again)

    async def up_again(self, step: Step, prepared: Prepared, spared: Mapping[str, str], *, limit: float) -> None:
        """Bring the services of a revision that was good before up again, but those that are spared.

        What another revision has left of a spared service is removed: it may still run.
        Args: spared: services with the configuration's hash of the run they have had.
        Raises: JobFailed. DockerError.
        """
        await self.context.wait_for_docker(step.stage)
        await self._remove_others(spared)
        kept = [name for name in prepared.services if name not in spared]
        scales = {name: count for name, count in prepared.order.scales.items() if name in kept}
        arguments = self.placed(prepared).up(kept if spared else (), no_deps=bool(spared), scales=scales)
        if kept:
            await self._run_past_lost_tasks(step, prepared, arguments, limit=limit)

    async def _run_past_lost_tasks(self, step: Step, prepared: Prepared, arguments: Sequence[str], **more: Any) -> None:
        """Run `up`, and make containers anew that an engine which was killed has lost track of."""
        for _ in range(len(prepared.services)):
            try:
                await self.run(step, arguments, self.folder, **more)
                return
            except JobFailed as error:
                lost = LOST_TASK.search(str(error))
                if lost is None:
                    raise
                await self._remove_lost(lost[1], prepared, error)
        await self.run(step, arguments, self.folder, **more)

    async def _remove_lost(self, container_id: str, prepared: Prepared, error: JobFailed) -> None:
        for each in await gate.look(self.host.engine, self.name, clock=self.host.clock):
            if not container_id.startswith(each.id):
                continue
            service = prepared.services.get(each.service)
            if service is not None and service.lifetime is not Lifetime.LONG:
                raise JobFailed(error.code, f"{each.service}: {NOT_KNOWN}") from error
            self.context.reporter.say("starting", f"{LOST}; making it anew", service=each.service, level="warning")
            await self.host.engine.call("DELETE", f"/containers/{each.id}", force="true")
            return
        raise error

    async def ended(self) -> dict[str, str]:
        """Return the services all of whose containers have ended, with their configuration's hash."""
        present = await gate.look(self.host.engine, self.name, clock=self.host.clock)
        alive = {each.service for each in present if not each.has_ended}
        return {each.service: each.config_hash for each in present if each.service not in alive}

    async def _remove_others(self, own: Mapping[str, str]) -> None:
        for each in await gate.look(self.host.engine, self.name, clock=self.host.clock):
            if each.service in own and each.config_hash != own[each.service]:
                with contextlib.suppress(DockerNotFound):
                    await self.host.engine.call("DELETE", f"/containers/{each.id}", force="true")

    async def run(self, step: Step, arguments: Sequence[str], folder: Path, *, limit: float, **more: Any) -> None:
        """Run a command of the job. Args: limit: seconds. Raises: JobFailed."""
        await self.commands.run(step, arguments, folder, timeout=max(SHORTEST_STEP, limit), **more)

    async def _rest_of_up(
        self, step: Step, compose: Compose, prepared: Prepared, began_at: float
    ) -> Sequence[str] | None:
        called = await self.tool.call(compose.config_hashes(), self.folder)
        hashes = compose_containers.config_hashes(called.output.decode("utf-8", "replace"))
        present = await gate.look(self.host.engine, self.name, run_began_at=began_at, clock=self.host.clock)
        self._refuse_doubtful(step, prepared, present)
        rest = resume.resume(prepared.services.values(), present, hashes)
        if not rest.is_needed:
            return None
        scales = {name: count for name, count in prepared.order.scales.items() if name not in rest.finished}
        return compose.up(rest.services, no_deps=rest.no_deps, scales=scales)

    def _refuse_doubtful(self, step: Step, prepared: Prepared, present: Iterable[Container]) -> None:
        """Refuse to go on when a service that may run once was about to start as Docker died, and may have run.

        Docker does not know: it writes down that a container was started only when it has.
        """
        run = self.host.steps.last(self.context.job_id, step.name)
        doubtful = progress.left_starting(run.all_output()) if run is not None else frozenset()
        for each in present:
            service = prepared.services.get(each.service)
            is_lasting = service is None or service.lifetime is Lifetime.LONG
            if each.name in doubtful and each.state == "created" and not is_lasting:
                raise JobFailed(step.code, f"{each.service}: {NOT_KNOWN}")

    # -- containers ----------------------------------------------------------------------------------

    async def watch(self, expectations: Iterable[Expectation], *, settle: float, limit: float, stage: str) -> Watched:
        """Watch until the project is healthy. Raises: JobFailed: it is not; DockerError."""
        clock = self.host.clock
        wall = Gate(tuple(expectations), deadline=clock.monotonic() + max(SHORTEST_STEP, limit), settle_seconds=settle)
        told: dict[str, str] = {}

        def on_report(report: health.Report) -> None:
            for each in report.services:
                if told.get(each.service) != each.reason and not each.reason.startswith("running for"):
                    told[each.service] = each.reason
                    self.context.reporter.say(stage, each.reason, service=each.service)

        while True:
            try:
                return await gate.watch(self.host.engine, self.name, wall, on_report=on_report, clock=clock)
            except gate.LostEngine as lost:
                wall = lost.gate
                await self.context.wait_for_docker(stage)


async def open_bench(context: JobContext, *, must_exist: bool = False) -> Workbench:
    """Take up the work on a job's project. Raises: JobFailed: no Compose here, or no such project."""
    records, name = context.host.records, context.entry.project
    record = records.project(name)
    if record is None and must_exist:
        raise JobFailed("not_found", f"the project {name!r} was not deployed or adopted on this host")
    return Workbench(context, await context.host.compose(), record or records.new(name))
