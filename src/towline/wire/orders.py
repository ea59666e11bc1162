"""What the jobs of the link carry: one struct per kind of order, and one per kind of result detail.

`link.Job.payload` is the JSON of the struct that `ORDERS` names for `link.Job.kind`; `link.JobResult.detail` is the
JSON object of the struct in `DETAILS`. Sealed text is standard base64 of `wire.sealed.seal` with the info
`seal_info`. Unknown fields are dropped, absent ones have defaults, so that releases that are two apart work together.
Nothing here may hold a secret in plain. No I/O here.
"""

from typing import Any, Literal, TypeVar

import msgspec

from towline.wire import sealed

MAX_COMPOSE_BYTES = 512 * 1024
"""Largest Compose file and largest env file of an order; `compose.document` has the same limit."""

LOG_TAIL_LINES = 40
"""Lines of a failing container that a result carries: enough for a traceback, small enough for a page."""

LOG_TAIL_LINE_BYTES = 4 * 1024
"""Longer lines of a log tail are cut: a result is one control message."""

MAX_STDIN_BYTES = 512 * 1024
"""Largest standard input of a command, in UTF-8: an order is one control message of at most 1 MiB, escapes included."""

MAX_ARGUMENTS = 200
"""Arguments of one command: more are no command that a person wrote."""

MAX_ARGUMENT_BYTES = 8 * 1024
"""Longer arguments are no name, label or expression; manifests come by standard input."""

OUTPUT_BYTES = 1024 * 1024
"""Output of a command that is kept when nobody says otherwise: 10,000 lines of 100 characters."""

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
"""Most output of a command that somebody may ask to be kept: each byte is a row's in the control plane."""

MAX_OUTPUT_CHUNK = 4_000
"""Characters of one event of output, which the control plane keeps whole; longer output is cut into several."""

STDOUT, STDERR, RESTARTED = "stdout", "stderr", "restarted"
"""Stages of a command's events. `restarted`: what came before is void, the command begins anew."""

Program = Literal["kubectl", "docker", "compose"]


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Payload of a job."""

    project: str


class Deploy(Order, frozen=True):
    """`compose.deploy`, and `compose.validate`, which has no effect on containers or on the project's folder."""

    org_id: str
    deployment_id: str
    revision: int
    revision_id: str
    compose: str
    """The Compose file as the author wrote it."""
    env: str = ""
    """The env file as the author wrote it."""
    bundle: str = ""
    """Digest of the further files (`sha256:` + hex of the plain tar), already in the agent's bundle store."""
    variables: dict[str, str] = {}
    """Added to the env file; they win over it."""
    secret_names: tuple[str, ...] = ()
    sealed_secrets: str = ""
    """Base64 of HPKE over JSON `{NAME: value}`; empty without secrets."""
    sealed_registries: str = ""
    """Base64 of HPKE over JSON `[{host, username, password}]`; used for the pull only."""
    pull: Literal["missing", "always"] = "missing"
    build: bool = True
    image_pins: dict[str, str] = {}
    """Service to `repository@sha256:…`: what a rollback runs instead of the file's tags."""
    fallback_revision_id: str = ""
    """Revision on the agent's disk to put back when this one fails; empty: the last good one it knows."""
    auto_rollback: bool = True
    """False for projects that migrate their data: a failed revision is left as it is."""
    settle_seconds: float = 10.0
    """How long a container without a healthcheck must run without a restart."""
    policy_level: str = "standard"
    keep_images: int = 3
    """Revisions, newest first, whose images and files pruning spares."""
    scales: dict[str, int] = {}


class Services(Order, frozen=True):
    """`compose.stop`, `compose.start`, `compose.restart`. No service named: all of them."""

    services: tuple[str, ...] = ()
    settle_seconds: float = 10.0


class Scale(Order, frozen=True):
    """`compose.scale`."""

    services: dict[str, int]
    settle_seconds: float = 10.0


class Remove(Order, frozen=True):
    """`compose.remove`. `volumes`: names to delete, or True for all of the project's; data stays otherwise."""

    volumes: bool | tuple[str, ...] = False


class Prune(Order, frozen=True):
    """`compose.prune`: delete images of the project's old revisions."""

    keep_images: tuple[str, ...] = ()
    """Image references with digest, and image ids, that stay whatever else is true."""
    keep_revisions: int = 3
    """Good revisions, newest first, whose images stay."""


class Adopt(Order, frozen=True):
    """`compose.adopt`: take over a project that runs on the host, without touching a container."""

    org_id: str = ""
    deployment_id: str = ""
    revision: int = 1
    revision_id: str = ""


class Command(Order, frozen=True):
    """`command.run`: an argument list that somebody runs; which ones there are is `towline.commandline`'s.

    `project` is the Compose project for `compose`, and empty for the other programs.
    """

    program: Program
    arguments: tuple[str, ...]
    """Without the program's name. Never read by a shell."""
    user: str
    """Whom the agent impersonates in the cluster."""
    groups: tuple[str, ...] = ()
    namespace: str = "default"
    """Where names without a namespace are looked for."""
    stdin: str = ""
    """Manifest text for `-f -`; at most MAX_STDIN_BYTES."""
    output_bytes: int = OUTPUT_BYTES
    """Output that is kept; what goes past is counted."""


ORDERS: dict[str, type[Order]] = {
    "compose.deploy": Deploy,
    "compose.validate": Deploy,
    "compose.stop": Services,
    "compose.start": Services,
    "compose.restart": Services,
    "compose.scale": Scale,
    "compose.remove": Remove,
    "compose.prune": Prune,
    "compose.adopt": Adopt,
    "command.run": Command,
}


# -- results ---------------------------------------------------------------------------------


class Failing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One container that kept a deploy from becoming healthy."""

    service: str
    container: str = ""
    reason: str = ""
    """In an operator's words: `exited with 137 (out of memory), 3 restarts`."""
    log_tail: tuple[str, ...] = ()
    """The last lines it wrote, control characters escaped; at most LOG_TAIL_LINES."""


class ServiceOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one service stood when the job ended."""

    state: str
    """healthy, running, completed, failed, pending, stopped."""
    reason: str = ""
    running: int = 0
    wanted: int = 0
    image: str = ""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing wrong with a project: from Compose itself, or from a policy."""

    message: str
    line: int = 0
    """0 when unknown."""
    column: int = 0
    path: str = ""
    """Key path in the file, e.g. `services.web.privileged`."""
    rule: str = ""
    fix: str = ""


class Detail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Detail of a job's result."""


class DeployDetail(Detail, frozen=True):
    revision: int = 0
    revision_id: str = ""
    images: dict[str, str] = {}
    """Service to the image that runs, `repository@sha256:…`, or `sha256:…` for one that exists only on the host."""
    services: dict[str, ServiceOutcome] = {}
    failing: tuple[Failing, ...] = ()
    violations: tuple[Problem, ...] = ()
    errors: tuple[Problem, ...] = ()
    rolled_back_to: int | None = None
    """Number of the revision that runs again; None when nothing was put back."""
    rolled_back_to_id: str = ""
    rollback_error: str = ""
    """Why putting the old revision back failed, when it did."""
    running_revision_id: str = ""
    """What runs at the end, whatever the outcome; empty when nothing does."""
    seconds: dict[str, float] = {}
    """Stage to seconds it took."""


class ValidateDetail(Detail, frozen=True):
    violations: tuple[Problem, ...] = ()
    errors: tuple[Problem, ...] = ()
    config: dict[str, Any] = {}
    """The project as `docker compose config --format json` sees it, values of secrets left out."""


class ServicesDetail(Detail, frozen=True):
    """Of stop, start, restart and scale."""

    services: dict[str, ServiceOutcome] = {}
    failing: tuple[Failing, ...] = ()


class RemoveDetail(Detail, frozen=True):
    containers: int = 0
    volumes_removed: tuple[str, ...] = ()
    volumes_kept: tuple[str, ...] = ()


class PruneDetail(Detail, frozen=True):
    images_removed: tuple[str, ...] = ()
    images_kept: tuple[str, ...] = ()
    """Old ones that stay because a container or another image still needs them."""
    freed_bytes: int = 0


class AdoptedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    path: str
    size: int = 0


class AdoptDetail(Detail, frozen=True):
    compose: str = ""
    env: str = ""
    files: tuple[AdoptedFile, ...] = ()
    """Config files that the project was started from."""
    folder: str = ""
    images: dict[str, str] = {}
    services: dict[str, ServiceOutcome] = {}


class CommandDetail(Detail, frozen=True, omit_defaults=False):
    exit_code: int = 0
    stdout_bytes: int = 0
    """What it printed, kept or not."""
    stderr_bytes: int = 0
    truncated: bool = False
    """More was printed than was kept."""


DETAILS: dict[str, type[Detail]] = {
    "compose.deploy": DeployDetail,
    "compose.validate": ValidateDetail,
    "compose.stop": ServicesDetail,
    "compose.start": ServicesDetail,
    "compose.restart": ServicesDetail,
    "compose.scale": ServicesDetail,
    "compose.remove": RemoveDetail,
    "compose.prune": PruneDetail,
    "compose.adopt": AdoptDetail,
    "command.run": CommandDetail,
}

CODES = {
    "bad_order": "the agent cannot read the order, or does not know its kind",
    "policy_violation": "the host's own policy forbids it",
    "invalid_project": "docker compose config refuses the files",
    "bundle_missing": "the further files are not in the agent's store",
    "secrets_unreadable": "the sealed secrets do not open with this agent's key",
    "pull_failed": "an image cannot be pulled; nothing was changed",
    "build_failed": "an image cannot be built; nothing was changed",
    "up_failed": "Compose could not start the project",
    "unhealthy": "the containers did not become healthy",
    "not_found": "the project does not exist on this host",
    "docker_away": "Docker does not answer",
    "bad_command": "the command is none of those that Towline runs, or has an argument that it does not take",
    "forbidden": "the host's own policy forbids the command",
    "command_exit": "the command ended with an exit code other than 0",
    "interrupted": "the agent ended in the middle of a command that writes: it may or may not have happened",
    "timed_out": "the time limit of the command passed",
    "timeout": "the time limit of the job passed",
    "cancelled": "somebody cancelled the job",
    "command_failed": "docker compose ended with an error",
    "disk_full": "no room on the host's disk",
    "internal": "the agent itself failed; its log says more",
}
"""Every `link.JobResult.code` of these jobs, with its meaning."""


class BadOrder(Exception):
    """The payload is not the one that its kind asks for."""


D = TypeVar("D", bound=Detail)
_decoders = {kind: msgspec.json.Decoder(struct) for kind, struct in ORDERS.items()}


def encode(order: Order) -> msgspec.Raw:
    """Return the JSON for `link.Job.payload`."""
    return msgspec.Raw(msgspec.json.encode(order))


def decode(kind: str, payload: bytes | msgspec.Raw) -> Order:
    """Parse the payload of a job.

    Raises: BadOrder: unknown kind or wrong shape.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        raise BadOrder(f"this agent does not know jobs of the kind {kind[:64]!r}")
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadOrder(str(error)) from error


def detail_dict(detail: Detail) -> dict[str, Any]:
    """Turn a detail into the JSON object that `link.JobResult.detail` holds."""
    value: dict[str, Any] = msgspec.to_builtins(detail)
    return value


def parse_detail(kind: type[D], value: dict[str, Any]) -> D:
    """Read a detail back.

    Raises: BadOrder: wrong shape.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BadOrder(str(error)) from error


def seal_info(*, org_id: str, deployment_id: str, agent_id: str) -> bytes:
    """HPKE info that binds sealed text to one organisation, deployment and agent."""
    return sealed.context(org_id, deployment_id, agent_id)
