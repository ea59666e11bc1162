"""What each step of a deploy does on this host. In which order is `deploy.py`'s and the plan's business.

Every step may be done again after an interruption. A step that fails raises `JobFailed`; what it found out goes into
`state`, which the driver journals.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from towline.agent.errors import DockerAway, DockerError, JobFailed, StorageError
from towline.agent.jobs.context import JobContext
from towline.agent.projects import content, failures, gate, images, judging, registries, staging
from towline.agent.projects.commands import Step as Command
from towline.agent.projects.deploy_state import DeployState
from towline.agent.projects.records import Revision
from towline.agent.projects.service_records import service_records
from towline.agent.projects.workbench import Prepared, Workbench
from towline.compose import health, plan
from towline.compose.argv import Pull
from towline.compose.model import Lifetime, Service
from towline.compose.plan import Effect, Step
from towline.wire import orders

ROLLBACK_SECONDS = 300.0
"""Time limit of putting the old revision back, in seconds; the job's own may be used up by then."""

MAX_INTERRUPTIONS = 5
"""Times that Docker may go away during one step: it may be killed now and then, but not at every attempt."""

SHOWN_LOG_LINES = 10
"""Lines of a failing container in the progress; the result has more."""

NO_SERVICES = "the project has no service to run; are all of them behind profiles?"

PULL = Command("pull", "pulling", "pull_failed", "pulling the images failed; nothing was changed")
BUILD = Command("build", "building", "build_failed", "building the images failed; nothing was changed")
UP = Command("up", "starting", "up_failed", "starting the project failed")
UP_AGAIN = Command("up_again", "rolling_back", "up_failed", "starting the last good revision failed")
PUTTING_BACK = frozenset({Step.PUT_BACK, Step.UP_AGAIN, Step.WATCH_AGAIN})


class DeploySteps:
    """The steps of one deploy. `state` is the journal's; steps replace it."""

    def __init__(self, context: JobContext, order: orders.Deploy, bench: Workbench) -> None:
        self._context = context
        self._order = order
        self._bench = bench
        self._host = context.host
        self._opened = content.open_order(order, self._host.identity.current)
        self._prepared: Prepared | None = None
        self.state = DeployState(plan=plan.start(builds=False, has_fallback=False)[0])
        context.reporter.hide(self._opened.secrets)
        context.reporter.hide({f"password of {each.host}": each.password for each in self._opened.registries})

    # -- begin and end -------------------------------------------------------------------------------

    def begin(self) -> tuple[DeployState, Effect]:
        """Return the first state and step."""
        fallback = self._fallback() if self._order.auto_rollback else ""
        planned, effect = plan.start(builds=False, has_fallback=bool(fallback))
        return DeployState(plan=planned, fallback=fallback), effect

    def stop(self) -> bool:
        """Tell the present command to end; returns False when there is none."""
        run = self._bench.commands.current
        if run is not None:
            run.stop()
        return run is not None

    def what_runs(self) -> tuple[str, int | None]:
        """Return the id of the revision in the folder, and the number of the one that was put back."""
        record = self._host.records.project(self._order.project)
        running = record.running if record is not None else ""
        if not self.state.up_again_began_at or running != self.state.fallback:
            return running, None
        return running, self._fallback_revision().order.revision

    def _fallback(self) -> str:
        for revision_id in (self._order.fallback_revision_id, self._bench.record.last_good):
            found = self._host.records.revision(self._order.project, revision_id)
            if found is not None and found.is_good:
                return revision_id
        return ""

    def _fallback_revision(self) -> Revision:
        revision = self._host.records.revision(self._order.project, self.state.fallback)
        if revision is None:
            raise JobFailed("internal", "the last good revision is not on this host's disk any more")
        return revision

    # -- steps ---------------------------------------------------------------------------------------

    async def perform(self, effect: Effect, stage: str) -> None:
        """Do one step, and again when Docker went away under it and is back. Raises: JobFailed."""
        for _ in range(MAX_INTERRUPTIONS):
            try:
                return await self._perform(effect)
            except DockerAway:
                await self._context.wait_for_docker(stage)
        return await self._perform(effect)

    async def _perform(self, effect: Effect) -> None:
        try:
            await self._actions()[effect.step]()
        except DockerAway:
            raise
        except DockerError as error:
            raise JobFailed("command_failed", str(error)) from error
        except StorageError as error:
            raise JobFailed("disk_full", f"the files of the project cannot be written: {error}") from error

    def _actions(self) -> dict[Step, Callable[[], Awaitable[None]]]:
        return {
            Step.STAGE: self._write_stage,
            Step.VALIDATE: self._validate,
            Step.POLICY: self._check_policy,
            Step.PULL: self._pull,
            Step.BUILD: self._build,
            Step.APPLY: self._apply,
            Step.UP: self._up,
            Step.WATCH: self._watch,
            Step.KEEP: self._keep,
            Step.CLEAN: self._clean,
            Step.LOGS: self._collect_logs,
            Step.PUT_BACK: self._put_back,
            Step.UP_AGAIN: self._up_again,
            Step.WATCH_AGAIN: self._watch_again,
        }

    async def _write_stage(self) -> None:
        self._bench.write_stage(self._ready())

    async def _validate(self) -> None:
        prepared = self._ready()
        try:
            await self._bench.read_model(prepared, self._bench.staged(prepared), self._bench.stage)
        except judging.Invalid as error:
            self.state = self.state.changed(errors=(error.problem,))
            raise
        if not prepared.services:
            self.state = self.state.changed(errors=(orders.Problem(message=NO_SERVICES),))
            raise JobFailed("invalid_project", NO_SERVICES)
        # A rollback's pins depend on what the plain names mean here, which the model tells.
        if self._order.image_pins:
            await self._repin(prepared)
        builds = any(self._must_build(service) for service in self._ready().services.values())
        self.state = self.state.changed(plan=_with_builds(self.state.plan, builds))

    async def _check_policy(self) -> None:
        prepared = self._ready()
        found = await judging.violations(
            prepared.model,
            self._host.policy(),
            self._order.policy_level,
            self._host.engine,
            name=self._order.project,
            folder=str(self._bench.folder),
            protected=self._host.protected,
            document=prepared.parsed.document,
        )
        if found:
            self.state = self.state.changed(violations=found)
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise JobFailed("policy_violation", f"not allowed here: {found[0].path}: {found[0].message}{more}")

    async def _pull(self) -> None:
        prepared = self._ready()
        pullable = [each for each in prepared.services.values() if each.image and not self._must_build(each)]
        policy = Pull(self._order.pull)
        await self._context.wait_for_docker(PULL.stage)
        wanted = [each.name for each in pullable]
        if policy is Pull.MISSING:
            wanted = await images.missing(self._host.engine, pullable)
        if not wanted:
            self._context.reporter.say("pulling", "every image is on this host already")
            return
        self._context.reporter.say("pulling", f"pulling the images of {', '.join(wanted)}")
        with self._logins() as config:
            arguments = self._bench.staged(prepared).pull(policy, wanted)
            await self._bench.run(PULL, arguments, self._bench.stage, limit=self._limit(), docker_config=config)

    async def _build(self) -> None:
        prepared = self._ready()
        wanted = [service.name for service in prepared.services.values() if self._must_build(service)]
        self._context.reporter.say("building", f"building {', '.join(wanted)}")
        with self._logins() as config:
            arguments = self._bench.staged(prepared).build(pull=self._order.pull == "always", services=wanted)
            await self._bench.run(BUILD, arguments, self._bench.stage, limit=self._limit(), docker_config=config)

    async def _apply(self) -> None:
        if self._host.records.revision(self._order.project, self._order.revision_id) is None:
            self._host.records.save_revision(self._revision(is_good=False))
        self._bench.apply(self._ready())

    async def _up(self) -> None:
        if not self.state.up_began_at:
            self._keep_now(up_began_at=self._now(), had_ended=await self._bench.ended())
        prepared = await self._placed()
        await self._bench.up(UP, prepared, began_at=self.state.up_began_at, limit=self._limit())

    async def _watch(self) -> None:
        prepared = await self._placed()
        expectations = health.expect(prepared.services.values(), self._order.scales)
        watched = await self._bench.watch(
            expectations, settle=self._order.settle_seconds, limit=self._context.time_left(), stage="watching"
        )
        self._note(watched, prepared)
        if watched.report.verdict is not health.Verdict.HEALTHY:
            raise JobFailed("unhealthy", watched.report.sentence())

    async def _keep(self) -> None:
        prepared = await self._placed()
        services = prepared.services.values()
        ran = await images.ran(self._host.engine, services, self._order.project)
        present = await gate.look(self._host.engine, self._order.project)
        shown = service_records(services, present, self._order.scales)
        revision = msgspec.structs.replace(self._revision(is_good=True), images=ran, services=shown)
        record = self._bench.record
        seen = {**record.seen_images, **{image.image_id: image.reference for image in ran.values()}}
        record = msgspec.structs.replace(record, last_good=revision.revision_id, seen_images=seen)
        self._bench.record = self._host.records.keep(record, revision, self._order.keep_images)
        self.state = self.state.changed(images=revision.pins)

    async def _clean(self) -> None:
        staging.discard(self._bench.stage)

    async def _collect_logs(self) -> None:
        prepared = await self._placed()
        expectations = health.expect(prepared.services.values(), self._order.scales)
        watched = await gate.judge(self._host.engine, self._order.project, expectations)
        if not self.state.services:
            self._note(watched, prepared)
        failing = await failures.collect(self._host.engine, watched, self._context.reporter.redacted)
        self.state = self.state.changed(failing=failing)
        for each in failing:
            for line in each.log_tail[-SHOWN_LOG_LINES:]:
                self._context.reporter.say("rolling_back", line, service=each.service, level="warning")

    async def _put_back(self) -> None:
        revision = self._fallback_revision()
        self._context.reporter.say("rolling_back", f"putting revision {revision.order.revision} back")
        await self._context.wait_for_docker(UP_AGAIN.stage)
        self._bench.apply(await self._prepare_fallback())

    async def _up_again(self) -> None:
        if not self.state.up_again_began_at:
            self._keep_now(up_again_began_at=self._now())
        prepared = await self._placed()
        spared = self._spared(prepared)
        await self._bench.up_again(UP_AGAIN, prepared, spared, limit=ROLLBACK_SECONDS)
        self._note_spared(spared)

    async def _watch_again(self) -> None:
        prepared = await self._placed()
        spared = self._spared(prepared)
        kept = [each for each in prepared.services.values() if each.name not in spared]
        watched = await self._bench.watch(
            health.expect(kept, prepared.order.scales),
            settle=prepared.order.settle_seconds,
            limit=ROLLBACK_SECONDS,
            stage="rolling_back",
        )
        if watched.report.verdict is not health.Verdict.HEALTHY:
            raise JobFailed("unhealthy", watched.report.sentence())

    # -- parts of steps --------------------------------------------------------------------------------

    def _ready(self) -> Prepared:
        """Return the new revision's files, made at first need."""
        if self._prepared is None:
            self._host.policy().require_project(self._order.project)
            pins = self._order.image_pins if self.state.pins is None else self.state.pins
            self._prepared = self._bench.prepare(self._order, self._opened, pins)
        return self._prepared

    async def _placed(self) -> Prepared:
        """Return the revision that is in the folder, its services known."""
        if self._prepared is None and self.state.plan.step in PUTTING_BACK:
            await self._prepare_fallback()
        prepared = self._ready()
        if not prepared.services:
            await self._bench.read_model(prepared, self._bench.placed(prepared), self._bench.folder)
        return prepared

    async def _prepare_fallback(self) -> Prepared:
        revision = self._fallback_revision()
        opened = content.open_order(revision.order, self._host.identity.current)
        plain = {service: image.reference for service, image in revision.images.items()}
        pins = await images.pins_needed(self._host.engine, revision.pins, plain)
        self._context.reporter.hide(opened.secrets)
        self._prepared = self._bench.prepare(revision.order, opened, pins)
        return self._prepared

    async def _repin(self, prepared: Prepared) -> None:
        plain = {each.name: each.image for each in prepared.parsed.project.services.values()}
        pins = await images.pins_needed(self._host.engine, self._order.image_pins, plain)
        self.state = self.state.changed(pins=pins)
        if pins != self._order.image_pins:
            self._prepared = self._bench.prepare(self._order, self._opened, pins)
            self._bench.write_stage(self._prepared)
            await self._bench.read_model(self._prepared, self._bench.staged(self._prepared), self._bench.stage)

    def _spared(self, prepared: Prepared) -> dict[str, str]:
        """Return the services that had their run when the old revision was good, with its configuration's hash."""
        before = self._fallback_revision().services
        ended = {name: record.config_hash for name, record in before.items() if record.is_one_shot}
        ended |= self.state.had_ended
        return {
            each.name: ended.get(each.name, "")
            for each in prepared.services.values()
            if each.lifetime is Lifetime.ONE_SHOT or (each.lifetime is Lifetime.UNKNOWN and each.name in ended)
        }

    def _note_spared(self, spared: Mapping[str, str]) -> None:
        """Remember that these services have had their run, or their missing containers would be called drift."""
        revision = self._fallback_revision()
        services = {
            name: msgspec.structs.replace(record, is_one_shot=record.is_one_shot or name in spared)
            for name, record in revision.services.items()
        }
        self._host.records.save_revision(msgspec.structs.replace(revision, services=services))

    def _must_build(self, service: Service) -> bool:
        return service.build is not None and self._order.build and service.name not in self._order.image_pins

    @contextmanager
    def _logins(self) -> Iterator[Path | None]:
        folder = self._host.stages / f"{self._context.job_id}.docker"
        with registries.docker_config(folder, self._opened.registries) as config:
            yield config

    def _revision(self, *, is_good: bool) -> Revision:
        order = msgspec.structs.replace(self._order, sealed_registries="")
        return Revision(order=order, is_good=is_good, deployed_at=self._now())

    def _note(self, watched: gate.Watched, prepared: Prepared) -> None:
        services = failures.outcomes(watched, prepared.services.values(), prepared.order.scales)
        self.state = self.state.changed(services=services)

    def _keep_now(self, **changes: Any) -> None:
        self.state = self.state.changed(**changes)
        self._host.journal.keep_plan(self._context.job_id, self.state.encoded())

    def _limit(self) -> float:
        return self._context.time_left()

    def _now(self) -> float:
        return self._host.clock.now().timestamp()


def _with_builds(state: plan.Deploy, builds: bool) -> plan.Deploy:
    return replace(state, builds=builds)
