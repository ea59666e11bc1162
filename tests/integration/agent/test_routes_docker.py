"""Labels of real containers: a service that starts claims its name at once, and lets it go softly when it stops."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.integration.agent.conftest import compose_labels
from tests.testbed import images

from towline.agent.docker.engine import Engine, find_host
from towline.agent.host.inventory import Inventory
from towline.agent.policy import LocalPolicy
from towline.agent.projects.records import Records
from towline.agent.routes.docker import ComposeRoutes
from towline.agent.routes.telling import RouteTeller
from towline.aio.tasks import TaskOwner
from towline.wire.link import RouteClaim, Routes
from towline.wire.streams import Service

pytestmark = pytest.mark.docker

TIMEOUT = 30.0
LEAVES_WITHIN = 0.3
"""Seconds after Docker says that it runs."""


class Session:
    """A link that keeps what is known by what is sent."""

    def __init__(self) -> None:
        self.known: dict[str, RouteClaim] = {}
        self.messages: list[Routes] = []
        self._news = asyncio.Event()

    async def send(self, message: Routes) -> None:
        self.messages.append(message)
        if message.full:
            self.known.clear()
        for ref in message.removed:
            del self.known[ref]
        self.known |= {claim.ref: claim for claim in message.claims}
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def session(docker_engine: str, tmp_path: Path) -> AsyncIterator[Session]:
    teller, found = RouteTeller(), Session()
    routes = ComposeRoutes(teller, LocalPolicy)
    records = Records(tmp_path / "records", tmp_path / "projects")
    inventory = Inventory(
        Engine(find_host()), records, told=lambda _: None, docker_changed=lambda: None,
        seen=routes.seen, away=routes.away,
    )  # fmt: skip
    teller.connected(found)
    async with TaskOwner("docker-routes") as owner:
        owner.spawn("teller", teller.run())
        owner.spawn("inventory", inventory.run())
        await found.until(lambda: bool(found.messages))
        yield found


async def test_label_is_claimed_at_once_and_let_go_softly(session: Session, run_container: Callable[..., str]) -> None:
    project = f"gw-{secrets.token_hex(4)}"
    ref = f"compose/{project}/web/main"
    labels = ("--label", "towline.route.main.host=label.example.com", "--label", "towline.route.main.port=80")
    container = await asyncio.to_thread(
        run_container, options=(*compose_labels(project, "web"), *labels), image=images.WEB
    )
    began = time.monotonic()
    await session.until(lambda: ref in session.known)
    took = time.monotonic() - began
    assert session.known[ref].target == Service(project=project, service="web", port=80)
    before = len(session.messages)
    await asyncio.to_thread(images.docker, "stop", "--time", "0", container)
    began = time.monotonic()
    await session.until(lambda: ref not in session.known)
    gone = time.monotonic() - began
    print(f"claimed after {took * 1000:.0f} ms, let go after {gone * 1000:.0f} ms")
    assert max(took, gone) < LEAVES_WITHIN
    assert all(message.full and not message.removed for message in session.messages[before:])
