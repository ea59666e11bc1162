"""Bodies, paths and answers of the PipeOps REST protocol of October 2025, both sides.

Reading is lenient, as its Go agents write: unknown keys are dropped, `null` means absent, numbers may be floats.
What is not known is empty here and says nothing: no zero is an observation unless the agent sent it.
Source: the recording in tests/data/traces/pipeops-rest.jsonl. No I/O here.
"""

import re
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

import msgspec

REGISTER_PATH = "/api/v1/agents/register"
HEALTH_PATH = "/api/v1/health"
"""The ping, without a token."""

REGISTERED = frozenset({200, 201})
"""Answers that an agent takes for a registration; the body is ignored."""
TAKEN = frozenset({200, 204})
"""Answers to heartbeat, status and result."""

HEARTBEAT_INTERVAL = 30.0
STATUS_INTERVAL = 60.0
"""Seconds; its documents say so, and agents with another poll interval send it as often as they poll."""

MAX_SMALL_BYTES = 256 * 1024
"""Registration and heartbeat: labels and metadata of people."""
MAX_STATUS_BYTES = 16 * 1024 * 1024
"""A status: 5,000 pods with 20 labels each are some 6 MB."""
MAX_RESULT_BYTES = 16 * 1024 * 1024
"""A command's result: the most output that a command may keep, most of it without escapes."""
MAX_COMMANDS_BYTES = 4 * 1024 * 1024
"""A list of commands: each holds a manifest of at most 512 KiB."""

RUN_TYPES = ("kubectl", "docker", "compose")
"""Types of commands that carry a `Run`."""

_AGENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", re.ASCII)


class BadBody(Exception):
    """The text is not the body that the call asks for."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """One JSON object."""

    OMITTED: ClassVar[frozenset[str]] = frozenset()
    """Keys that are left out when they are empty."""


class Registration(Body, frozen=True):
    """`POST /api/v1/agents/register`, at each start and after an answer 404."""

    OMITTED: ClassVar[frozenset[str]] = frozenset(
        {"server_ip", "region", "hostname", "k8s_version", "cloud_provider", "metadata"}
    )
    id: str
    name: str = ""
    cluster_name: str = ""
    version: str = ""
    labels: dict[str, str] = {}
    server_ip: str = ""
    region: str = ""
    hostname: str = ""
    k8s_version: str = ""
    cloud_provider: str = ""
    metadata: dict[str, Any] = {}
    status: str = "registering"
    last_seen: str = ""
    """RFC 3339, by the agent's clock."""
    control_plane_url: str = ""


class Heartbeat(Body, frozen=True):
    """`POST /api/v1/agents/{id}/heartbeat`."""

    agent_id: str = ""
    cluster_name: str = ""
    status: str = ""
    proxy_status: str = ""
    timestamp: str = ""
    metadata: dict[str, Any] = {}


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """Quantities of a node, as Kubernetes writes them."""

    allocatable: dict[str, str] = {}
    capacity: dict[str, str] = {}


class Node(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    ready: bool = False
    version: str = ""
    os: str = ""
    arch: str = ""
    labels: dict[str, str] = {}
    resources: Resources = Resources()


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A Deployment or a Service: they are told in the same words."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    ready: bool = False
    created_at: str = ""


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    ready: bool = False
    created_at: str = ""
    phase: str = ""
    node_name: str = ""
    containers: int = 0
    restarts: int = 0


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Totals. The original never measures `cpu_usage` and `memory_usage`: its zeros mean nothing."""

    cpu_usage: float = 0
    memory_usage: float = 0
    pod_count: int = 0
    node_count: int = 0


class Status(Body, frozen=True):
    """`POST /api/v1/agents/{id}/status`: all that there is, each time."""

    nodes: tuple[Node, ...] = ()
    namespaces: tuple[str, ...] = ()
    deployments: tuple[Workload, ...] = ()
    services: tuple[Workload, ...] = ()
    pods: tuple[Pod, ...] = ()
    metrics: Metrics = Metrics()
    timestamp: str = ""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of work."""

    id: str
    type: str = ""
    payload: dict[str, Any] = {}
    created_at: str = ""
    """RFC 3339, by the control plane's clock."""


class Commands(Body, frozen=True):
    """Answer to `GET /api/v1/agents/{id}/commands`."""

    commands: tuple[Command, ...] = ()


class Run(Body, frozen=True):
    """Payload of a command whose type is in RUN_TYPES: an argument list of the agent's own surface."""

    OMITTED: ClassVar[frozenset[str]] = frozenset({"stdin", "namespace", "project", "user", "groups", "output_bytes"})
    args: tuple[str, ...] = ()
    """Without the program's name. Never read by a shell."""
    timeout: float = 0
    """Seconds; 0: the agent's own limit."""
    stdin: str = ""
    namespace: str = ""
    project: str = ""
    """The Compose project of `compose`."""
    user: str = ""
    """Whom the agent impersonates in the cluster, where the control plane knows users."""
    groups: tuple[str, ...] = ()
    output_bytes: int = 0
    """Output that is kept; 0: the agent's own limit."""


class Result(Body, frozen=True):
    """`POST /api/v1/agents/{id}/commands/{command}/result`."""

    OMITTED: ClassVar[frozenset[str]] = frozenset({"output", "error", "metadata"})
    success: bool = False
    output: str = ""
    error: str = ""
    metadata: dict[str, Any] = {}
    timestamp: str = ""


B = TypeVar("B", bound=Body)


def encode(body: Body) -> bytes:
    """Return the JSON of a body, without the keys that are left out when they are empty."""
    told = msgspec.to_builtins(body)
    return msgspec.json.encode({key: value for key, value in told.items() if value or key not in body.OMITTED})


def decode(kind: type[B], text: bytes | str, *, limit: int = MAX_SMALL_BYTES) -> B:
    """Parse a body. Raises: BadBody: no JSON, the wrong shape, or larger than `limit` bytes."""
    if len(text) > limit:
        raise BadBody(f"body of {len(text)} bytes; the limit is {limit}")
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError:
        return _leniently(kind, text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BadBody(str(error)) from error


def _leniently(kind: type[B], text: bytes | str) -> B:
    try:
        return msgspec.convert(_without_nulls(msgspec.json.decode(text)), kind, strict=False)
    except (msgspec.DecodeError, RecursionError, UnicodeError, OverflowError) as error:
        raise BadBody(str(error)) from error


def _without_nulls(value: Any) -> Any:
    """Drop what Go writes for an empty list, map or pointer."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value if each is not None]
    return value


def run_payload(command: Command) -> Run:
    """Read the payload of a command. Raises: BadBody: its type carries none, or it has the wrong shape."""
    if command.type not in RUN_TYPES:
        raise BadBody(f"commands of the type {command.type[:40]!r} are not known; known are {', '.join(RUN_TYPES)}")
    try:
        return msgspec.convert(_without_nulls(command.payload), Run, strict=False)
    except msgspec.ValidationError as error:
        raise BadBody(str(error)) from error


def agent_id(text: str) -> str:
    """Check an agent's id: it stands in paths and tables. Raises: BadBody."""
    if _AGENT_ID.fullmatch(text) is None:
        raise BadBody("an agent's id has 1 to 128 of letters, digits, '.', '_', ':', '@' and '-'")
    return text


def heartbeat_path(agent: str) -> str:
    return f"/api/v1/agents/{quote(agent, safe='')}/heartbeat"


def status_path(agent: str) -> str:
    return f"/api/v1/agents/{quote(agent, safe='')}/status"


def commands_path(agent: str) -> str:
    return f"/api/v1/agents/{quote(agent, safe='')}/commands"


def result_path(agent: str, command: str) -> str:
    return f"{commands_path(agent)}/{quote(command, safe='')}/result"
