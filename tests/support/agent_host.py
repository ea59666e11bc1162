"""An agent's host for tests: its state in a temporary folder, a runner for jobs, and Docker when there is one."""

from __future__ import annotations

import asyncio
import base64
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from towline.agent import identity
from towline.agent.bundles import BundleStore
from towline.agent.docker import compose
from towline.agent.docker.engine import Engine, find_host
from towline.agent.host.inventory import Inventory
from towline.agent.jobs.context import Host
from towline.agent.jobs.runner import Runner
from towline.agent.jobs.steps import Steps
from towline.agent.journal import Journal
from towline.agent.kubernetes.credentials import Credentials
from towline.agent.policy import LocalPolicy
from towline.agent.projects.records import Records
from towline.agent.settings import AgentSettings
from towline.aio.tasks import TaskOwner
from towline.compose import bundle
from towline.wire import link, orders, sealed

PATIENCE = 60.0
"""Seconds that a test waits for a job on a busy machine."""


def make_identity(**changes: object) -> identity.Identity:
    """An agent that has joined."""
    sealing, _ = identity.new_sealing_key()
    values: dict[str, object] = {
        "agent_id": "agt_test",
        "cluster_id": "clu_test",
        "cluster_name": "test",
        "instance_id": identity.new_instance_id(),
        "key": identity.new_key(),
        "sealing_key": sealing,
        "server_urls": ("https://127.0.0.1:1",),
        "link_path": "/api/v1/agents/link",
        "generation": 1,
        "trust": link.Trust(fingerprints=()),
    }
    return identity.Identity(**(values | changes))


class AgentHost:
    """One agent's jobs, without a link."""

    def __init__(
        self,
        state: Path,
        *,
        engine: Engine | None = None,
        policy: LocalPolicy | None = None,
        kubernetes: Credentials | None = None,
    ) -> None:
        settings = AgentSettings(state_folder=state)
        store = identity.Store(state)
        if not store.exists():
            store.save(make_identity())
        self.policy = policy or LocalPolicy()
        docker_host = engine.host if engine else find_host()
        self.host = Host(
            settings=settings,
            engine=engine or Engine(docker_host),
            records=Records(state / "revisions", settings.projects),
            bundles=BundleStore(state / "bundles", settings.bundles_bytes),
            steps=Steps(state / "runs"),
            journal=Journal(state / "journal.sqlite"),
            identity=store,
            policy=lambda: self.policy,
            find_compose=lambda: compose.find(docker_host),
            kubernetes=kubernetes,
        )
        self.owner = TaskOwner("test agent")
        self.published: asyncio.Event = asyncio.Event()
        self.runner = Runner(self.host, self.owner, lambda _: self.published.set())

    async def submit(self, kind: str, order: orders.Order, *, timeout: float = 60.0, job_id: str = "") -> str:
        """Order a job; returns its id."""
        job_id = job_id or f"job_{secrets.token_hex(6)}"
        self.runner.take(
            link.Job(job_id=job_id, kind=kind, fence=1, attempt=1, timeout=timeout, payload=orders.encode(order))
        )
        return job_id

    async def result(self, job_id: str) -> link.JobResult:
        """Wait for a job's result."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self.published.clear()
                entry = self.host.journal.entry(job_id)
                if entry is not None and entry.result is not None:
                    return entry.result
                await self.published.wait()

    async def do(self, kind: str, order: orders.Order, *, timeout: float = 60.0) -> link.JobResult:
        """Order a job and wait for its result."""
        return await self.result(await self.submit(kind, order, timeout=timeout))

    async def said(self, job_id: str, text: str) -> None:
        """Wait until a job's progress holds a text."""
        async with asyncio.timeout(PATIENCE):
            while not any(text in event.text for event in self.host.journal.events(job_id, limit=5000)):
                self.published.clear()
                await self.published.wait()

    def texts(self, job_id: str) -> list[str]:
        """All that a job has said."""
        return [event.text for event in self.host.journal.events(job_id, limit=5000)]

    def folder(self, project: str) -> Path:
        return self.host.settings.projects / project

    def with_secrets(self, order: orders.Deploy, values: dict[str, str]) -> orders.Deploy:
        """Seal secrets into an order, as the control plane does."""
        return msgspec.structs.replace(order, sealed_secrets=self._sealed(order, values), secret_names=tuple(values))

    def with_logins(self, order: orders.Deploy, host: str, username: str, password: str) -> orders.Deploy:
        """Seal the login of a registry into an order."""
        login = {"host": host, "username": username, "password": password}
        return msgspec.structs.replace(order, sealed_registries=self._sealed(order, [login]))

    def _sealed(self, order: orders.Deploy, value: object) -> str:
        own = self.host.identity.current
        info = orders.seal_info(org_id=order.org_id, deployment_id=order.deployment_id, agent_id=own.agent_id)
        public = own.unseal_key().public_key().public_bytes_raw()
        return base64.b64encode(sealed.seal(public, info, msgspec.json.encode(value))).decode()

    def with_bundle(self, order: orders.Deploy, contents: dict[str, bytes]) -> orders.Deploy:
        """Put a bundle into the store and name it in an order."""
        made = bundle.of(bundle.File(path, bundle.EntryKind.FILE, data) for path, data in contents.items())
        data = bundle.write_tar(made)
        if not self.host.bundles.has(made.digest):
            receiving = self.host.bundles.begin(made.digest, len(data))
            receiving.feed(data)
            receiving.finish()
        return msgspec.structs.replace(order, bundle=made.digest)

    async def stop(self) -> None:
        """Stop as an agent does: what runs under a shim runs on."""
        await self.owner.close()
        self.host.journal.close()


@asynccontextmanager
async def agent_host(state: Path, **more: object) -> AsyncIterator[AgentHost]:
    host = AgentHost(state, **more)
    try:
        yield host
    finally:
        await host.stop()


def make_inventory(host: AgentHost, told: Callable[[link.Inventory], None]) -> Inventory:
    """The inventory of a host, telling changes at once."""
    inventory = Inventory(host.host.engine, host.host.records, told=told, docker_changed=lambda: None)
    inventory.interval = 0.05
    return inventory


def deploy_order(project: str, text: str, revision: int = 1, **more: object) -> orders.Deploy:
    """An order with the fields that every deploy has."""
    values: dict[str, object] = {
        "project": project,
        "org_id": "org_default",
        "deployment_id": "dep_test",
        "revision": revision,
        "revision_id": f"rev_{revision}",
        "compose": text,
        "settle_seconds": 0.5,
    }
    return orders.Deploy(**(values | more))


def docker(*arguments: str) -> str:
    """Ask the Docker CLI, as a person would."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip()


def containers_of(project: str) -> dict[str, str]:
    """Service to container id, all of them."""
    lines = docker(
        "ps", "-a", "--no-trunc", "--filter", f"label=com.docker.compose.project={project}",
        "--format", '{{.Label "com.docker.compose.service"}} {{.ID}}',
    )  # fmt: skip
    return dict(line.split() for line in lines.splitlines())


def remove_project(project: str) -> None:
    """Remove every trace of a project from Docker."""
    label = f"label=com.docker.compose.project={project}"
    for kind, listing, removing in (
        ("container", ("ps", "-aq"), ("rm", "-fv")),
        ("network", ("network", "ls", "-q"), ("network", "rm")),
        ("volume", ("volume", "ls", "-q"), ("volume", "rm")),
    ):
        if found := docker(*listing, "--filter", label).split():
            docker(*removing, *found)
        assert not docker(*listing, "--filter", label), kind
