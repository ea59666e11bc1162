"""What runs on an InstaDeploy agent's host: STATUS of each project of ours, turned into an inventory.

Such an agent names its projects to nobody: those that Towline did not deploy or import are not seen. An answer that
cannot be read keeps what was known before, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from towline.control.protocols.instadeploy import status
from towline.control.protocols.instadeploy.conversation import Conversation
from towline.control.protocols.instadeploy.shelf import Known, Shelf
from towline.control.protocols.instadeploy.status import Status
from towline.wire import instadeploy, link

LOOK_TIMEOUT = 30.0
"""Seconds for one `docker compose ps`."""

MOST_PROJECTS = 500
"""Projects of one host that are asked for: each question takes a tenth of a second there."""

READY = link.Capability(name="compose", ready=True)
_DAEMON = "docker daemon"


class Looking:
    """The rounds over one agent's projects. Args: epoch: of the session, so that no two questions share an id."""

    def __init__(self, conversation: Conversation, shelf: Shelf, cluster_id: str, epoch: int) -> None:
        self.capability = READY
        self._conversation = conversation
        self._shelf = shelf
        self._cluster_id = cluster_id
        self._epoch = epoch
        self._count = 0
        self._known: dict[str, tuple[link.Container, ...]] = {}
        self._told: link.Inventory | None = None

    async def look(self, interrupted: Callable[[], bool]) -> link.Inventory | None:
        """Ask for every project; None when nothing changed, or a job came between.

        Raises: TunnelClosed.
        """
        known = list(await self._shelf.projects(self._cluster_id))[:MOST_PROJECTS]
        projects: list[link.Project] = []
        containers: list[link.Container] = []
        for each in known:
            if interrupted():
                return None
            found = await self._ask(each.name)
            self._note(found)
            containers += self._containers(each, found)
            projects.append(project(each, found))
        self._known = {name: kept for name, kept in self._known.items() if name in {each.name for each in known}}
        # What was stored before this session stays where nothing newer can be told.
        complete = all(each.name in self._known for each in known)
        inventory = link.Inventory(full=complete, containers=tuple(containers), projects=tuple(projects))
        if inventory == self._told:
            return None
        self._told = inventory
        return inventory

    async def _ask(self, name: str) -> Status:
        self._count += 1
        command = instadeploy.status(f"look.{self._epoch}.{self._count}", name)
        try:
            return status.read(await self._conversation.ask(command, timeout=LOOK_TIMEOUT))
        except TimeoutError:
            return Status(unclear=f"the agent did not answer within {LOOK_TIMEOUT:g} s")

    def _containers(self, each: Known, found: Status) -> Sequence[link.Container]:
        if not found.unclear:
            self._known[each.name] = tuple(status.container(row, each.name) for row in found.rows)
        return self._known.get(each.name, ())

    def _note(self, found: Status) -> None:
        if _DAEMON in found.unclear.lower():
            self.capability = link.Capability(name="compose", ready=False, reason=found.unclear[:300])
        elif not found.unclear:
            self.capability = READY


def project(known: Known, found: Status) -> link.Project:
    """Return the entry of a project, with what is not as it should be, as far as that can be told."""
    return link.Project(
        name=known.name,
        folder=f"projects/{known.name}",
        config_files=("docker-compose.yml",),
        managed=True,
        revision=known.revision,
        revision_id=known.revision_id,
        drift=tuple(_drift(known, found)) if known.revision and not known.stopped else (),
    )


def _drift(known: Known, found: Status) -> list[str]:
    if found.unclear:
        return [f"what runs is not known: {found.unclear[:300]}"]
    if not found.exists:
        return ["the agent has no folder for the project"]
    seen = {row.service for row in found.rows}
    return [
        f"{service['name']}: no container runs; how it ended an InstaDeploy agent does not tell"
        for service in known.services
        if _might_have_failed(service) and service["name"] not in seen
    ]


def _might_have_failed(service: Mapping[str, Any]) -> bool:
    """Tell whether a missing container may be a failure: not where the service is meant to end, and where it is meant
    to stay everybody sees that it is missing."""
    return bool(service.get("may_end")) and not service.get("one_shot") and service.get("replicas", 1) > 0
