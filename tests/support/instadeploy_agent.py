"""A stand-in for InstaDeploy's Go agent, over a real WebSocket: answers as the recording does, on a pretended Docker.

It is written after tests/data/traces/instadeploy.jsonl, weaknesses included: a file that is sent replaces the one
before at once, and every later command reads it. Images choose what happens: `…:missing` cannot be pulled, `…:dies`
ends right after its start, `…:loops` keeps restarting.
"""

import asyncio
import base64
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import websockets
import yaml
from websockets.asyncio.client import ClientConnection

RECEIVED = "Command received, processing..."
WIDTHS = (24, 24, 12, 12, 16, 40)
NAMES = ("NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS")
HEADING = "".join(name.ljust(width) for name, width in zip(NAMES, WIDTHS, strict=True)) + "PORTS"


@dataclass
class Host:
    """What stays when the agent is restarted: files, and what runs."""

    files: dict[str, str] = field(default_factory=dict)
    running: dict[str, dict[str, str]] = field(default_factory=dict)
    """Project to service to image."""
    docker_away: bool = False

    def services(self, project: str) -> dict[str, str]:
        """Read the file as Compose does. Raises: ValueError, with Compose's words."""
        try:
            found = yaml.safe_load(self.files[project])
        except yaml.YAMLError:
            raise ValueError("yaml: line 1: did not find expected node content\n") from None
        return {name: str(body["image"]) for name, body in found["services"].items()}

    def deploy(self, project: str, text: str) -> dict[str, str]:
        self.files[project] = text
        try:
            services = self.services(project)
        except ValueError as error:
            return failed("up", str(error))
        missing = [name for name, image in services.items() if image.endswith(":missing")]
        if missing:
            return failed("up", f" {missing[0]} Pulling \n {missing[0]} Error manifest unknown\n")
        before = self.running.get(project, {})
        self.running[project] = services
        lines = [f" Container {project}-{name}-1  Started" for name in services if before.get(name) != services[name]]
        output = "\n".join(lines) + "\n"
        return completed(f"Project '{project}' deployed successfully.\n\nOutput:\n{output}")

    def stop(self, project: str) -> dict[str, str]:
        if project not in self.files:
            return {"status": "FAILED", "logs": "", "error": "project does not exist"}
        try:
            self.services(project)
        except ValueError as error:
            return failed("down", str(error))
        gone = self.running.pop(project, {})
        return completed("".join(f" Container {project}-{name}-1  Removed\n" for name in gone))

    def status(self, project: str) -> dict[str, str]:
        head = f"Status for project '{project}':\n\n"
        if project not in self.files:
            return completed(f"{head}Project does not exist")
        if self.docker_away:
            return failed("ps", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.\n")
        try:
            self.services(project)
        except ValueError as error:
            return failed("ps", str(error))
        rows = [row(project, name, image) for name, image in self.running.get(project, {}).items()]
        return completed(head + "\n".join([HEADING, *(each for each in rows if each)]) + "\n")


def row(project: str, service: str, image: str) -> str:
    if image.endswith(":dies"):
        return ""
    state = "Restarting (1) 1 second ago" if image.endswith(":loops") else "Up 5 minutes"
    cells = zip((f"{project}-{service}-1", image, "x", service, "5 minutes ago", state), WIDTHS, strict=True)
    return "".join(text.ljust(width) for text, width in cells)


def completed(logs: str) -> dict[str, str]:
    return {"status": "COMPLETED", "logs": logs}


def failed(word: str, output: str) -> dict[str, str]:
    error = f"docker compose {word} failed: exit status 1\nOutput: {output}"
    return {"status": "FAILED", "logs": output, "error": error}


class GoAgent:
    """One connection of the agent. `commands` are those it got; `hold` keeps the named types unanswered."""

    def __init__(self, host: Host, connection: ClientConnection, hostname: str) -> None:
        self.host = host
        self.hostname = hostname
        self.connection = connection
        self.commands: list[dict[str, Any]] = []
        self.hold: set[str] = set()
        self.at_once = 0
        """Most commands that waited for their answers at one moment."""
        self._open = 0
        self._news = asyncio.Event()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.commands if each["type"] == kind]

    async def got(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Wait until so many commands of a type came; returns the last of them."""
        async with asyncio.timeout(20):
            while len(self.of(kind)) < count:
                self._news.clear()
                await self._news.wait()
        return self.of(kind)[count - 1]

    async def say(self, job_id: str, **answer: Any) -> None:
        await self.connection.send(json.dumps({"job_id": job_id, **answer}))

    async def run(self) -> None:
        """Answer until the connection ends."""
        try:
            async for text in self.connection:
                command = json.loads(text)
                self.commands.append(command)
                self._open += 1
                self.at_once = max(self.at_once, self._open)
                self._news.set()
                await self.say(command["id"], status="IN_PROGRESS", logs=RECEIVED)
                if command["type"] not in self.hold:
                    await self.answer(command)
        except websockets.ConnectionClosed:
            return

    async def answer(self, command: dict[str, Any]) -> None:
        """Do a command and say how it ended."""
        self._open -= 1
        await self.say(command["id"], **self._done(command["type"], command["payload"]))

    def _done(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        if kind == "HEALTH_CHECK":
            data = {"version": "1.0.0", "architecture": "linux-amd64", "hostname": self.hostname}
            return {**completed("Agent is healthy and operational"), "data": data}
        project = payload["project_name"]
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", project)
        match kind:
            case "DEPLOY_COMPOSE":
                return self.host.deploy(project, base64.b64decode(payload["compose_file_base64"]).decode())
            case "STOP_COMPOSE":
                return self.host.stop(project)
            case "STATUS":
                return self.host.status(project)
        return {"status": "FAILED", "logs": "", "error": f"Unknown command type: {kind}"}


@asynccontextmanager
async def go_agent(
    url: str,
    token: str,
    *,
    tls: ssl.SSLContext | None = None,
    hostname: str = "vm",
    host: Host | None = None,
    hold: tuple[str, ...] = (),
) -> AsyncIterator[GoAgent]:
    """A connected agent, which answers beside the test."""
    headers = {
        "Authorization": f"Bearer {token}",
        "X-Agent-Version": "1.0.0",
        "X-Agent-Architecture": "linux-amd64",
        "X-Agent-Hostname": hostname,
    }
    async with websockets.connect(
        url, ssl=tls, additional_headers=headers, user_agent_header="Go-http-client/1.1", compression=None
    ) as connection:
        agent = GoAgent(host or Host(), connection, hostname)
        agent.hold = set(hold)
        task = asyncio.create_task(agent.run())
        try:
            yield agent
        finally:
            await connection.close()
            await task
