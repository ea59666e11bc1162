"""What runs on this host: read whole at first, then kept by Docker's events; changes are gathered before they are told.

Drift is worked out here as well, from the containers that are known, so that it costs no further call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import msgspec
import structlog

from towline.agent.docker import containers
from towline.agent.docker.containers import Inspected
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerAway, DockerError, DockerNotFound, StorageError
from towline.agent.projects.drifted import drift_of
from towline.agent.projects.records import Record, Records
from towline.agent.routes.compose import has_routes
from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.wire import link

REREAD_INTERVAL = 45.0
"""Seconds after which the list is compared again: an event that was lost shows within a minute."""

LONGEST_PAUSE = 15.0
"""Seconds between two attempts to reach an engine that is away."""

TELL_TIMEOUT = 2.0
"""Seconds that the result of a job waits for a look at what it changed."""

WATCHED_EVENTS = [
    "create", "start", "die", "stop", "kill", "destroy", "rename", "update", "pause", "unpause", "oom", "restart",
    "health_status",
]  # fmt: skip
"""What changes a container's entry. Healthchecks make three exec events each, which are not asked for."""

Told = Callable[[link.Inventory], None]
_lines = msgspec.json.Decoder(containers.Event)
_log = structlog.get_logger("towline.agent")


class Inventory:
    """The host's containers and projects.

    Args: told: called with what changed. docker_changed: called when the engine came or went. seen: called with all
    containers after each look at some. away: called when there is no engine to look at.
    """

    def __init__(
        self,
        engine: Engine,
        records: Records,
        *,
        told: Told,
        docker_changed: Callable[[], None],
        seen: Callable[[Iterable[Inspected]], None] = lambda _: None,
        away: Callable[[], None] = lambda: None,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._engine = engine
        self._records = records
        self._told = told
        self._docker_changed = docker_changed
        self._seen = seen
        self._away = away
        self._clock = clock
        self.interval = 1.0
        """Seconds that changes are gathered; the server's settings may change it."""
        self._inspected: dict[str, Inspected] = {}
        self._containers: dict[str, link.Container] = {}
        self._projects: dict[str, link.Project] = {}
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_read = False
        self._compared_at: float | None = None
        self._looking = asyncio.Lock()
        self.away_reason = ""
        """Why the engine was away last."""

    def __repr__(self) -> str:
        return f"<Inventory {len(self._containers)} containers, {len(self._projects)} projects>"

    @property
    def age(self) -> float | None:
        """Seconds since what is known was last compared with the engine; None while the engine is away."""
        return None if self._compared_at is None else self._clock.monotonic() - self._compared_at

    def snapshot(self) -> link.Inventory:
        """Return everything that is known."""
        return link.Inventory(
            full=True, containers=tuple(self._containers.values()), projects=tuple(self._projects.values())
        )

    def addressed(self) -> list[tuple[link.Container, tuple[str, ...]]]:
        """Return the containers with their own addresses; none for host networking."""
        return [
            (self._containers[key], each.addresses) for key, each in self._inspected.items() if key in self._containers
        ]

    def project_changed(self) -> None:
        """A job changed a project's record."""
        self._changed.set()

    async def tell_now(self) -> None:
        """Tell what the engine's events have said so far without gathering more of them."""
        if not self._is_read:
            return
        try:
            async with asyncio.timeout(TELL_TIMEOUT):
                await self._look_and_tell()
        except (DockerError, TimeoutError):
            self._changed.set()

    async def run(self) -> None:
        """Follow the engine for ever."""
        backoff = Backoff(longest=LONGEST_PAUSE, clock=self._clock)
        while True:
            try:
                await self._follow(backoff)
            except DockerAway as error:
                _log.info("docker away", reason=str(error))
                self.away_reason = str(error)
            except DockerError as error:
                _log.warning("inventory cannot be read", reason=str(error))
                self.away_reason = str(error)
            self._compared_at = None
            self._away()
            self._docker_changed()
            await backoff.wait()

    async def _follow(self, backoff: Backoff) -> None:
        filters = {"type": ["container"], "event": WATCHED_EVENTS}
        async with self._engine.stream("GET", "/events", filters=filters) as chunks:
            self._is_read = False
            self._inspected.clear()
            await self._reread()
            self._is_read = True
            backoff.reset()
            self._docker_changed()
            async with TaskOwner("inventory") as owner:
                listening = owner.spawn("events", _until_error(self._listen(chunks)))
                telling = owner.spawn("changes", _until_error(self._tell_changes()))
                done, _ = await asyncio.wait({listening, telling}, return_when=asyncio.FIRST_COMPLETED)
                raise done.pop().result()

    async def _listen(self, chunks: AsyncIterator[bytes]) -> None:
        rest = b""
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                with contextlib.suppress(msgspec.DecodeError):
                    self._note(_lines.decode(line))
            self._changed.set()

    def _note(self, event: containers.Event) -> None:
        self._dirty.add(event.actor.id)
        if has_routes(event.actor.attributes):
            self._hurry.set()

    async def _tell_changes(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REREAD_INTERVAL):
                    await self._changed.wait()
            if self._changed.is_set():
                await self._gather()
                self._changed.clear()
                await self._look_and_tell()
            else:
                await self._reread()

    async def _gather(self) -> None:
        """Wait for further changes; what asks for a public name is not kept waiting."""
        timer = self._clock.call_later(self.interval, self._hurry.set)
        try:
            await self._hurry.wait()
        finally:
            timer.cancel()
        self._hurry.clear()

    async def _look_and_tell(self) -> None:
        """Look at what has changed, and tell it; one after another, so that whoever waited has been told."""
        async with self._looking:
            dirty, self._dirty = self._dirty, set()
            try:
                await self._look_at(dirty)
            except BaseException:
                self._dirty |= dirty
                raise
            self._compare()

    async def _reread(self) -> None:
        """Compare the engine's list with ours, and look at what differs."""
        listed = {each.id: each.state for each in await containers.list_ids(self._engine)}
        known = {each.id: each.state.status for each in self._inspected.values()}
        differing = {each for each, state in listed.items() if known.get(each) != state}
        await self._look_at(differing | (known.keys() - listed.keys()))
        self._compare()

    async def _look_at(self, ids: Iterable[str]) -> None:
        for each in ids:
            try:
                self._inspected[each] = await containers.inspect(self._engine, each)
            except DockerNotFound:
                self._inspected.pop(each, None)

    def _compare(self) -> None:
        """Work out what is different from what was told, and tell it."""
        found = {each.id: containers.describe(each) for each in self._inspected.values()}
        projects = {each.name: each for each in self._projects_of(found)}
        change = link.Inventory(
            full=False,
            containers=tuple(each for key, each in found.items() if self._containers.get(key) != each),
            removed_containers=tuple(self._containers.keys() - found.keys()),
            projects=tuple(each for key, each in projects.items() if self._projects.get(key) != each),
            removed_projects=tuple(self._projects.keys() - projects.keys()),
        )
        self._containers, self._projects = found, projects
        self._compared_at = self._clock.monotonic()
        if change.containers or change.removed_containers or change.projects or change.removed_projects:
            self._told(change)
        self._seen(self._inspected.values())

    def _projects_of(self, found: dict[str, link.Container]) -> Iterable[link.Project]:
        records = {record.project: record for record in self._records.known()}
        names = {each.project for each in found.values() if each.project} | records.keys()
        for name in sorted(names):
            own = [self._inspected[key] for key, each in found.items() if each.project == name]
            yield self._project(name, own, records.get(name))

    def _project(self, name: str, own: list[Inspected], record: Record | None) -> link.Project:
        labels = own[0].labels if own else {}
        files = tuple(text for text in labels.get(containers.FILES_LABEL, "").split(",") if text)
        if record is None:
            return link.Project(name=name, folder=labels.get(containers.FOLDER_LABEL, ""), config_files=files)
        return link.Project(
            name=name,
            folder=record.folder,
            config_files=files,
            managed=True,
            revision=record.running_number,
            revision_id=record.running,
            drift=self._drift(record, own),
        )

    def _drift(self, record: Record, own: list[Inspected]) -> tuple[str, ...]:
        try:
            revision = self._records.revision(record.project, record.running)
        except StorageError as error:
            return (f"the record of revision {record.running_number} cannot be read: {error}",)
        return drift_of(record, revision, own, self._clock.now().timestamp())


async def _until_error(work: Coroutine[Any, Any, None]) -> DockerError:
    """Run something that ends only when the engine does; returns why."""
    try:
        await work
    except DockerError as error:
        return error
    return DockerAway("Docker closed the stream of events")
