"""Containers, images and events as the engine tells them: partial structs, and what the agent makes of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerNotFound
from towline.wire import link

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
NUMBER_LABEL = "com.docker.compose.container-number"
HASH_LABEL = "com.docker.compose.config-hash"
ONE_OFF_LABEL = "com.docker.compose.oneoff"
FOLDER_LABEL = "com.docker.compose.project.working_dir"
FILES_LABEL = "com.docker.compose.project.config_files"
ENVIRONMENT_FILE_LABEL = "com.docker.compose.project.environment_file"

_NEVER = "0001-01-01T00:00:00Z"


class Health(msgspec.Struct, frozen=True, rename="pascal"):
    status: str = ""
    failing_streak: int = 0


class State(msgspec.Struct, frozen=True, rename="pascal"):
    status: str = ""
    running: bool = False
    o_o_m_killed: bool = msgspec.field(default=False, name="OOMKilled")
    exit_code: int = 0
    error: str = ""
    started_at: str = ""
    finished_at: str = ""
    health: Health | None = None


class Config(msgspec.Struct, frozen=True, rename="pascal"):
    image: str = ""
    labels: dict[str, str] | None = None
    tty: bool = False
    healthcheck: dict[str, Any] | None = None


class RestartPolicy(msgspec.Struct, frozen=True, rename="pascal"):
    name: str = ""


class LogConfig(msgspec.Struct, frozen=True, rename="pascal"):
    type: str = ""


class HostConfig(msgspec.Struct, frozen=True, rename="pascal"):
    restart_policy: RestartPolicy = RestartPolicy()
    log_config: LogConfig = LogConfig()
    network_mode: str = ""


class Endpoint(msgspec.Struct, frozen=True):
    address: str = msgspec.field(default="", name="IPAddress")
    address6: str = msgspec.field(default="", name="GlobalIPv6Address")


class Networks(msgspec.Struct, frozen=True, rename="pascal"):
    networks: dict[str, Endpoint] | None = None
    ports: dict[str, list[dict[str, str]] | None] | None = None


class Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    """Answer of `GET /containers/ID/json`, as far as the agent reads it."""

    id: str
    name: str = ""
    created: str = ""
    image: str = ""
    restart_count: int = 0
    log_path: str = ""
    """Where the engine keeps the log; seen from the engine."""
    state: State = State()
    config: Config = Config()
    host_config: HostConfig = HostConfig()
    network_settings: Networks = Networks()

    @property
    def labels(self) -> dict[str, str]:
        return self.config.labels or {}

    @property
    def addresses(self) -> tuple[str, ...]:
        """The container's own addresses on its networks."""
        found = (self.network_settings.networks or {}).values()
        return tuple(text for each in found for text in (each.address, each.address6) if text)


class Listed(msgspec.Struct, frozen=True, rename="pascal"):
    """One entry of `GET /containers/json`."""

    id: str
    labels: dict[str, str] | None = None
    state: str = ""


class Image(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    repo_digests: list[str] | None = None
    repo_tags: list[str] | None = None
    size: int = 0


class Actor(msgspec.Struct, frozen=True):
    id: str = msgspec.field(default="", name="ID")
    attributes: dict[str, str] = msgspec.field(default_factory=dict, name="Attributes")


class Event(msgspec.Struct, frozen=True):
    """One line of `GET /events`."""

    type: str = msgspec.field(default="", name="Type")
    action: str = msgspec.field(default="", name="Action")
    actor: Actor = msgspec.field(default_factory=Actor, name="Actor")
    time: int = 0
    time_nano: int = msgspec.field(default=0, name="timeNano")


def timestamp(text: str) -> float:
    """Turn one of Docker's times into seconds since the epoch; 0 when it means never."""
    if not text or text == _NEVER:
        return 0.0
    main, dot, rest = text.partition(".")
    if dot:
        digits = rest.rstrip("Z").split("+")[0].split("-")[0]
        zone = rest[len(digits) :]
        text = f"{main}.{digits[:6]}{zone}"
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def describe(container: Inspected) -> link.Container:
    """Turn an inspected container into an entry of the inventory."""
    labels, state = container.labels, container.state
    return link.Container(
        id=container.id,
        name=container.name.removeprefix("/"),
        project=labels.get(PROJECT_LABEL, ""),
        service=labels.get(SERVICE_LABEL, ""),
        number=_number(labels.get(NUMBER_LABEL, "1")),
        image=container.config.image,
        image_digest=container.image,
        state=state.status,
        health=state.health.status if state.health and state.health.status != "none" else "",
        exit_code=state.exit_code,
        oom_killed=state.o_o_m_killed,
        restarts=container.restart_count,
        created_at=timestamp(container.created),
        started_at=timestamp(state.started_at),
        finished_at=timestamp(state.finished_at),
        config_hash=labels.get(HASH_LABEL, ""),
        ports=_ports(container.network_settings.ports),
        one_off=labels.get(ONE_OFF_LABEL, "").lower() == "true",
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def _ports(ports: dict[str, list[dict[str, str]] | None] | None) -> tuple[str, ...]:
    published = {
        f"{binding.get('HostIp', '')}:{binding.get('HostPort', '')}->{inner}"
        for inner, bindings in (ports or {}).items()
        for binding in bindings or ()
    }
    return tuple(sorted(published))


def project_filter(project: str) -> dict[str, list[str]]:
    """Return the engine's filter for the containers of one project."""
    return {"label": [f"{PROJECT_LABEL}={project}"]}


async def list_ids(engine: Engine, *, project: str = "", everything: bool = True) -> list[Listed]:
    """List containers, stopped ones too. Raises: DockerError."""
    filters = project_filter(project) if project else None
    return await engine.get(list[Listed], "/containers/json", all=everything, filters=filters)


async def inspect(engine: Engine, container: str) -> Inspected:
    """Look at one container by id or name. Raises: DockerNotFound, DockerError."""
    return await engine.get(Inspected, f"/containers/{quoted(container)}/json")


async def inspect_project(engine: Engine, project: str) -> list[Inspected]:
    """Look at every container of a project; those that vanish meanwhile are left out. Raises: DockerError."""
    found = []
    for each in await list_ids(engine, project=project):
        try:
            found.append(await inspect(engine, each.id))
        except DockerNotFound:
            continue
    return found


async def inspect_image(engine: Engine, reference: str) -> Image:
    """Look at one image by reference or id. Raises: DockerNotFound, DockerError."""
    return await engine.get(Image, f"/images/{quoted(reference, safe='/:@')}/json")


def quoted(text: str, safe: str = "") -> str:
    """Quote one segment of a path: a name from outside must not become another path."""
    from urllib.parse import quote

    return quote(text, safe=safe)
