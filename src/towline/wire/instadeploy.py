"""Messages of the InstaDeploy WebSocket, both sides: one JSON object per text frame, no envelope, no hello.

Control plane to agent: `Command`; agent to control plane: `Response`. Decoding is lenient where a newer peer may say
more (unknown keys, `null` payloads) and strict where a wrong guess would act: job ids, project names, base64.
Source: the recording in tests/data/traces/instadeploy.jsonl. No I/O here.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

PATHS = ("/ws", "/api/v1/agents/ws")
"""Where installations have the WebSocket; the first is the usual one."""

VERSION_HEADER = "X-Agent-Version"
ARCHITECTURE_HEADER = "X-Agent-Architecture"
HOSTNAME_HEADER = "X-Agent-Hostname"
AGENT_VERSION = "1.0.0"
"""What every published agent says of itself."""

MAX_COMPOSE_BYTES = 512 * 1024
"""Largest Compose file, as everywhere in Towline."""

MAX_COMMAND_BYTES = 1024 * 1024
"""Largest command: a Compose file of the largest size in base64, and its names."""

MAX_RESPONSE_BYTES = 8 * 1024 * 1024
"""Largest response: it holds whole outputs of Compose, and a failure holds them twice."""

MAX_ID_LENGTH = 128
"""Characters of a job's id; the original's are UUIDs."""

MAX_HEADER_LENGTH = 255
"""Characters of an announced host name (RFC 1035 2.3.4), version or architecture."""

UNKNOWN_JOB = "unknown"
"""`job_id` of the answer to a command that cannot be read."""

RECEIVED = "Command received, processing..."
HEALTHY = "Agent is healthy and operational"
NO_PROJECT = "Project does not exist"

_NAME = re.compile(r"[a-zA-Z0-9_-]+", re.ASCII)


class BadMessage(Exception):
    """The other end sent text that is not a message of this protocol, or one that must not be followed."""


class Kind(StrEnum):
    """What a command asks for."""

    DEPLOY = "DEPLOY_COMPOSE"
    STOP = "STOP_COMPOSE"
    STATUS = "STATUS"
    HEALTH = "HEALTH_CHECK"


class Standing(StrEnum):
    """How far a command came."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will be said of the command."""
        return self in (Standing.COMPLETED, Standing.FAILED)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One order. Its type may be one that this release does not know: `kind` is None then."""

    id: str
    type: str
    payload: dict[str, Any] = {}

    @property
    def kind(self) -> Kind | None:
        """The type when it is a known one."""
        return Kind(self.type) if self.type in set(Kind) else None

    @property
    def project(self) -> str:
        """The project that it names, checked. Raises: BadMessage."""
        return project_name(self.payload.get("project_name"))

    @property
    def compose(self) -> bytes:
        """The Compose file that it carries. Raises: BadMessage."""
        return compose_file(self.payload.get("compose_file_base64"))


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. Of a command there are two or more: IN_PROGRESS at once, then a final one."""

    job_id: str
    status: Standing
    logs: str = ""
    error: str = ""
    """Left out on the wire when empty."""
    data: Any = None
    """Left out on the wire when None; HEALTH_CHECK answers `version`, `architecture`, `hostname`."""


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says of itself in the headers of its upgrade. The host name is its only identity."""

    hostname: str
    version: str = ""
    architecture: str = ""
    """`linux-amd64`, as Go names them."""


class _WireCommand(msgspec.Struct):
    id: str = ""
    type: str = ""
    payload: dict[str, Any] | None = None


class _WireResponse(msgspec.Struct):
    job_id: str = ""
    status: str = ""
    logs: str | None = None
    error: str | None = None
    data: Any = None


_commands = msgspec.json.Decoder(_WireCommand)
_responses = msgspec.json.Decoder(_WireResponse)


# -- commands ------------------------------------------------------------------------------


def deploy(job_id: str, project: str, compose: bytes) -> Command:
    """Return the order to run a Compose file as a project. Raises: BadMessage: too large, or a bad name."""
    if len(compose) > MAX_COMPOSE_BYTES:
        raise BadMessage(f"the Compose file has {len(compose)} bytes; the limit is {MAX_COMPOSE_BYTES}")
    return _about(job_id, Kind.DEPLOY, project, compose_file_base64=base64.b64encode(compose).decode())


def stop(job_id: str, project: str) -> Command:
    """Return the order to take a project down. Raises: BadMessage: a bad name."""
    return _about(job_id, Kind.STOP, project)


def status(job_id: str, project: str) -> Command:
    """Return the question what runs of a project. Raises: BadMessage: a bad name."""
    return _about(job_id, Kind.STATUS, project)


def health_check(job_id: str) -> Command:
    """Return the question whether the agent is there."""
    return Command(id=job_id, type=Kind.HEALTH)


def _about(job_id: str, kind: Kind, project: str, **more: str) -> Command:
    return Command(id=job_id, type=kind, payload={"project_name": project_name(project), **more})


def encode_command(command: Command) -> str:
    """Return the text frame of a command."""
    return msgspec.json.encode(command).decode()


def decode_command(text: str | bytes) -> Command:
    """Parse a text frame from the control plane. Raises: BadMessage: no JSON, no object, no id, or too large."""
    wire = _decoded(_commands, text, MAX_COMMAND_BYTES)
    return Command(id=_job_id(wire.id), type=wire.type, payload=wire.payload or {})


# -- responses -----------------------------------------------------------------------------


def encode_response(response: Response) -> str:
    """Return the text frame of a response, with the keys that the original leaves out left out."""
    told: dict[str, Any] = {"job_id": response.job_id, "status": response.status, "logs": response.logs}
    if response.error:
        told["error"] = response.error
    if response.data is not None:
        told["data"] = response.data
    return msgspec.json.encode(told).decode()


def decode_response(text: str | bytes) -> Response:
    """Parse a text frame from an agent. Raises: BadMessage: no JSON, no object, an unknown status, or too large."""
    wire = _decoded(_responses, text, MAX_RESPONSE_BYTES)
    if wire.status not in set(Standing):
        raise BadMessage(f"status {wire.status[:40]!r} is none of {', '.join(Standing)}")
    return Response(
        job_id=_job_id(wire.job_id),
        status=Standing(wire.status),
        logs=wire.logs or "",
        error=wire.error or "",
        data=wire.data,
    )


# -- fields --------------------------------------------------------------------------------


def project_name(text: Any) -> str:
    """Check the name of a project. Raises: BadMessage, in the original's words."""
    if not isinstance(text, str) or not text:
        raise BadMessage("Invalid project name: project name is required")
    if _NAME.fullmatch(text) is None:
        raise BadMessage(
            "Invalid project name: project name contains invalid characters "
            "(only alphanumeric, hyphens, and underscores allowed)"
        )
    return text


def compose_file(text: Any) -> bytes:
    """Decode a Compose file; white space in the base64 is passed over. Raises: BadMessage."""
    if not isinstance(text, str):
        raise BadMessage("failed to decode compose file: compose_file_base64 is required")
    try:
        found = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadMessage(f"failed to decode compose file: {error}") from error
    if len(found) > MAX_COMPOSE_BYTES:
        raise BadMessage(f"failed to decode compose file: it has {len(found)} bytes, more than {MAX_COMPOSE_BYTES}")
    return found


def announcement(announced: Announced) -> tuple[tuple[str, str], ...]:
    """Return the headers of the upgrade, without `Authorization`."""
    return (
        (VERSION_HEADER, announced.version),
        (ARCHITECTURE_HEADER, announced.architecture),
        (HOSTNAME_HEADER, announced.hostname),
    )


def read_announcement(headers: Mapping[str, str]) -> Announced:
    """Read the headers of an upgrade. Args: headers: keys in any case. Raises: BadMessage: no usable host name."""
    found = {name.lower(): value.strip() for name, value in headers.items()}
    values = [found.get(name.lower(), "") for name in (HOSTNAME_HEADER, VERSION_HEADER, ARCHITECTURE_HEADER)]
    if not values[0]:
        raise BadMessage(f"the header {HOSTNAME_HEADER} is missing")
    if any(len(value) > MAX_HEADER_LENGTH or not value.isprintable() for value in values):
        raise BadMessage("a header of the agent is too long or not printable")
    return Announced(hostname=values[0], version=values[1], architecture=values[2])


def _job_id(text: str) -> str:
    if not 0 < len(text) <= MAX_ID_LENGTH:
        raise BadMessage(f"a job's id has 1 to {MAX_ID_LENGTH} characters")
    return text


def _decoded(decoder: Any, text: str | bytes, limit: int) -> Any:
    if len(text) > limit:
        raise BadMessage(f"message of {len(text)} bytes; the limit is {limit}")
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BadMessage(str(error)) from error
