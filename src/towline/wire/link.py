"""Control messages of Towline's own link: text frames `{"type", "id"?, "payload"}`, one JSON object each.

Every message type of the link is a struct here, registered in `TYPES` under its wire name; the order of the
handshake is in docs/wire-protocol.md. Unknown types decode to `Unknown`, unknown fields are dropped, so that
releases that are two apart work together. No I/O here.
"""

from typing import Any, Literal, TypeVar

import msgspec

from towline.wire import kube_inventory, kube_usage, streams

PROTOCOL = "towline.v1"
ENROL_CONTEXT = b"towline-enrol-v1"
CONNECT_CONTEXT = b"towline-conn-v1"
ROTATE_CONTEXT = b"towline-rotate-v1"
UPDATE_CONTEXT = b"towline-update-v1"
MAX_MESSAGE_BYTES = 1024 * 1024
"""A control message larger than this closes the link: facts of a large host are some 50 KiB."""

CLOSE_FINAL = 4403
"""WebSocket close code: the agent was removed or revoked and must not come back."""
CLOSE_UNAUTHENTICATED = 4401
CLOSE_BAD_MESSAGE = 4400
CLOSE_HELLO_TIMEOUT = 4408
CLOSE_DRAINING = 4503
"""The server is going away; come back after a jittered pause."""

MOST_CLAIMS = 500
"""Claims of one `routes` message: with options and notes they stay well below what the link takes."""

WatchIngresses = Literal["auto", "on", "off"]
JobOutcome = Literal["succeeded", "failed", "cancelled", "refused"]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Payload of one control message."""


class Unknown(Message, frozen=True):
    """A type that this release does not know; counted and ignored."""

    name: str = ""


# -- server to agent -----------------------------------------------------------------------


class Challenge(Message, frozen=True):
    """First message on a link. Valid for this connection only."""

    nonce: str
    """32 random bytes, base64url without padding."""
    origin: str
    """Origin that the server knows itself by, e.g. `https://towline.example:8443`; part of the signed text."""
    server_time: float
    """Seconds since the epoch; an agent whose clock differs only warns."""
    replica: str = ""


class LinkSettings(msgspec.Struct, frozen=True, kw_only=True):
    heartbeat_interval: float = 30.0
    inventory_interval: float = 1.0
    """Changes of the inventory are gathered for this long, in seconds, before they are sent."""
    kube_inventory_interval: float = 0.2
    """The same for the inventory of a Kubernetes cluster, where a change costs no look at anything."""
    watch_ingresses: WatchIngresses = "auto"
    """Whether the agent follows ingresses and HTTPRoutes; `auto`: when it finds its cluster to be private."""


class Trust(Message, frozen=True):
    """What the agent pins from now on. The agent keeps the last pair that worked beside it."""

    fingerprints: tuple[str, ...]
    """`sha256:` + hex over the DER of accepted authorities (or leaf certificates); current and next."""
    ca_pem: str = ""
    server_urls: tuple[str, ...] = ()
    """Every address the agent may dial, in order of preference. Empty: unchanged."""
    signing_keys: tuple[str, ...] = ()
    """Ed25519 public keys (base64url) that may sign updates and rotations of trust; current and next."""
    version: int = 1
    """Grows with each change; an older one is ignored."""


class Welcome(Message, frozen=True):
    """The agent is let in, with its new epoch and generation."""

    agent_id: str
    cluster_id: str
    cluster_name: str
    epoch: int
    generation: int
    """The agent stores it (write, fsync, rename) before it answers `ready`."""
    settings: LinkSettings = LinkSettings()
    trust: Trust | None = None
    pending: bool = False
    """True while an admin has not yet approved the agent: it stays connected and gets no work."""


class Job(Message, frozen=True):
    """One piece of work. The agent writes it to its journal before it begins, and acts once per `job_id`."""

    job_id: str
    kind: str
    fence: int
    """Epoch of the link that this order is meant for; another epoch's order is dropped."""
    attempt: int
    timeout: float
    """Seconds that the work may take once begun."""
    payload: msgspec.Raw


class JobCancel(Message, frozen=True):
    """Stop a job as soon as that is safe; its result says what became of it."""

    job_id: str


class JobStored(Message, frozen=True):
    """The result is in the database: the agent may forget the job's journal after a day."""

    job_id: str


class RotateKey(Message, frozen=True):
    """Make a new identity key and register it with `key_rotation`."""

    force: bool = False


class Update(Message, frozen=True):
    """Order to install another release. Refused unless `signature` verifies against a pinned signing key."""

    manifest: str
    """Canonical JSON text: version, files with sha256 and size."""
    signature: str
    key: str = ""


class Lead(Message, frozen=True):
    """Of several instances of one agent, this one speaks for the cluster from now on: it tells everything again."""


class SettingsChanged(Message, frozen=True):
    """Settings of the link changed."""

    settings: LinkSettings


# -- agent to server -----------------------------------------------------------------------


class Capability(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing the agent can do here, found by looking."""

    name: Literal["compose", "kubernetes", "forward"]
    ready: bool
    version: str = ""
    reason: str = ""
    """Why it is not ready, in an operator's words, with the fix when there is one."""
    since: float = 0.0


class Hello(Message, frozen=True):
    """Who the agent is, proved by a signature over the challenge."""

    agent_id: str
    key_id: str
    instance_id: str
    generation: int
    signature: str
    """Ed25519 over `connect_text(...)`, base64url."""
    version: str
    protocols: tuple[int, ...] = (1,)
    capabilities: tuple[Capability, ...] = ()


class Ready(Message, frozen=True):
    """The generation of the welcome is on disk: the link is ready."""

    generation: int


class Heartbeat(Message, frozen=True):
    """Computed by the agent, not echoed: what it measured since the last one."""

    sent_at: float
    uptime: float = 0.0
    load: float = 0.0
    cpu_percent: float = 0.0
    memory_used_bytes: int = 0
    disk_free_bytes: int = 0
    agent_memory_bytes: int = 0
    round_trip: float = 0.0
    """Seconds of the last WebSocket ping, seen from the agent; 0 when unknown."""
    reconnects: int = 0
    last_error: str = ""
    """Why the last link ended, in the agent's words."""
    jobs_running: int = 0
    streams_open: int = 0
    capabilities: tuple[Capability, ...] = ()
    is_private: bool | None = None
    """Whether the Kubernetes cluster is out of the public's reach; None: not known yet, or there is no cluster."""
    gateway_routes: int = 0
    """Claims that the agent makes at present."""


class HeartbeatAck(Message, frozen=True):
    """Answers a heartbeat, so that the agent knows the link carries both ways."""

    sent_at: float
    server_time: float


class Disk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    mount: str
    total_bytes: int
    free_bytes: int
    device: str = ""


class Facts(Message, frozen=True):
    """Sent after connecting and whenever one of them changes."""

    hostname: str = ""
    system: str = ""
    kernel: str = ""
    architecture: str = ""
    cpus: int = 0
    memory_bytes: int = 0
    disks: tuple[Disk, ...] = ()
    addresses: tuple[str, ...] = ()
    cloud: str = ""
    region: str = ""
    boot_at: float = 0.0
    versions: dict[str, str] = {}
    """`agent`, `python`, `docker`, `compose`, … to version."""
    policy: dict[str, Any] = {}
    """The local policy in force, shown read-only on the cluster's page."""
    time_offset: float = 0.0


class Container(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    name: str
    project: str = ""
    service: str = ""
    number: int = 1
    image: str = ""
    image_digest: str = ""
    state: str = ""
    """Docker's word: created, running, paused, restarting, removing, exited, dead."""
    health: str = ""
    """Docker's word: starting, healthy, unhealthy; empty without a healthcheck."""
    exit_code: int = 0
    oom_killed: bool = False
    restarts: int = 0
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    config_hash: str = ""
    ports: tuple[str, ...] = ()
    one_off: bool = False


class Project(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A Compose project that exists on the host, ours or not."""

    name: str
    folder: str = ""
    config_files: tuple[str, ...] = ()
    managed: bool = False
    revision: int = 0
    """Number of the revision that the agent put there; 0 when it did not."""
    revision_id: str = ""
    drift: tuple[str, ...] = ()
    """What runs differs from the revision, in words; empty when it does not."""


class Inventory(Message, frozen=True):
    """What runs on the host. With `full` it replaces what was known; else it changes single entries."""

    full: bool
    containers: tuple[Container, ...] = ()
    removed_containers: tuple[str, ...] = ()
    projects: tuple[Project, ...] = ()
    removed_projects: tuple[str, ...] = ()


class KubeInventory(Message, frozen=True):
    """What runs in the agent's Kubernetes cluster. With `full` it replaces what was known; else it changes entries."""

    full: bool
    about: kube_inventory.About | None = None
    """None: unchanged."""
    nodes: tuple[kube_inventory.Node, ...] = ()
    namespaces: tuple[kube_inventory.Namespace, ...] = ()
    workloads: tuple[kube_inventory.Workload, ...] = ()
    pods: tuple[kube_inventory.Pod, ...] = ()
    """Those alone that are not well; one that recovered is removed."""
    events: tuple[kube_inventory.Event, ...] = ()
    removed: tuple[kube_inventory.Reference, ...] = ()


class KubeUsage(Message, frozen=True):
    """One sample of what nodes, namespaces and pods of the agent's Kubernetes cluster use, or a part of one.

    What is not in it uses as much as in the sample before. The server notes when it came; nobody's clock but its own
    counts.
    """

    sequence: int
    """Counts the messages of this link from 1; after one that is missing only a full sample means something."""
    full: bool = False
    """All that was known is forgotten, and every series is named anew; of a sample in parts the first alone."""
    more: bool = False
    """The sample goes on in the next message."""
    source: kube_usage.Source = "none"
    """Who measured: the metrics API, or the kubelets themselves; `none`: nobody, and `reason` says why."""
    reason: str = ""
    """What is not measured and why, in an operator's words; empty when all is."""
    left_out: int = 0
    """Pods beyond those that are told."""
    named: tuple[kube_usage.Series, ...] = ()
    gone: tuple[int, ...] = ()
    """Numbers of series that nobody measures any more."""
    values: tuple[int, ...] = ()
    """Number, CPU and memory of each series that changed, one after the other."""


class RouteClaim(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A public name that something on the agent's side asks for, and where its requests should go."""

    ref: str
    """Names it for as long as it exists: `ingress/NAMESPACE/NAME/RULE/PATH`, `compose/PROJECT/SERVICE/NAME`,
    `httproute/NAMESPACE/NAME/RULE/MATCH/HOST`."""
    source: Literal["ingress", "httproute", "compose"]
    host: str
    """Lower case, exact or `*.` and a name; empty: the source names no host, and somebody has to give one."""
    target: streams.KubeService | streams.Service | streams.Tcp
    also: tuple[streams.KubeService, ...] = ()
    """Further backends that share the requests with `target`; weights that differ are told in `notes`."""
    path: str = "/"
    path_type: Literal["exact", "prefix"] = "prefix"
    tls: bool = False
    """The source names a certificate for this host."""
    options: dict[str, str] = {}
    """Options of the route by their names there; lists and numbers as people write them."""
    notes: tuple[str, ...] = ()
    """What the source asks for and the gateway does not do, in words."""
    caution: str = ""
    """Why this must not go live before somebody has looked: the source asks for protection that nothing gives here."""
    problem: str = ""
    """Why this can be no route; its host, path and target are as far as they are known then."""


class Routes(Message, frozen=True):
    """Which names the agent's sources claim. After each connect all of them, then what changed."""

    full: bool
    """These claims replace all that were known, together with those of the messages that follow for `more`."""
    sequence: int
    """Counts the messages of this link from 1."""
    more: bool = False
    """The list goes on in the next message, which is `full` too."""
    sources: tuple[Literal["ingress", "httproute", "compose"], ...] | None = None
    """With `full`: the sources that the agent follows now, so that what they name later is known to be new; None: all.
    An agent that begins to follow another one tells a full list again."""
    claims: tuple[RouteClaim, ...] = ()
    """At most MOST_CLAIMS; one whose ref is known replaces it."""
    removed: tuple[str, ...] = ()
    """Refs; applied before the claims of the same message."""


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a job's progress. `seq` counts from 1 per job, without gaps, and survives restarts."""

    seq: int
    at: float
    stage: str
    """received, validating, pulling, building, starting, watching, rolling_back, cleaning, done, …"""
    text: str
    service: str = ""
    level: Literal["info", "warning", "error"] = "info"
    current: int = 0
    total: int = 0
    """Progress of a transfer in bytes, when known."""


class JobAccepted(Message, frozen=True):
    """The job is in the agent's journal, fsynced. Repeated orders for it are answered from there."""

    job_id: str
    fence: int


class JobProgress(Message, frozen=True):
    """New lines of a job's progress; repeated after a reconnect, told apart by `seq`."""

    job_id: str
    fence: int
    events: tuple[JobEvent, ...]


class JobResult(Message, frozen=True):
    """Sent again after each connect until `job_stored` comes."""

    job_id: str
    fence: int
    outcome: JobOutcome
    error: str = ""
    """For people: what failed and what to do; empty when it succeeded."""
    code: str = ""
    """Stable word for programs, e.g. `pull_failed`, `unhealthy`, `policy_violation`."""
    detail: dict[str, Any] = {}
    finished_at: float = 0.0
    last_seq: int = 0


class JobsHeld(Message, frozen=True):
    """After connecting: every job in the journal that the server has not stored, with its state."""

    running: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()


class KeyRotation(Message, frozen=True):
    """Register a new identity key."""

    new_key_id: str
    new_public_key: str
    signature: str
    """By the old key over `rotate_text(...)`."""
    new_signature: str = ""
    """By the new key over the same text: proof that the agent holds it."""


class KeyRotated(Message, frozen=True):
    """The new key counts from now on; the old one for another day."""

    key_id: str


# -- both ways -----------------------------------------------------------------------------


class Error(Message, frozen=True):
    """Something about the other end's last message or state; for people and logs."""

    code: str
    message: str
    fatal: bool = False


class Goodbye(Message, frozen=True):
    """The sender is about to close the link, and why."""

    reason: str
    """removed, revoked, suspect, draining, replaced, updating, leaving, …"""
    final: bool = False
    """True: the agent must not come back."""
    pause: float = 0.0
    """Seconds to wait, before jitter."""
    text: str = ""


TYPES: dict[str, type[Message]] = {
    "challenge": Challenge,
    "hello": Hello,
    "welcome": Welcome,
    "ready": Ready,
    "heartbeat": Heartbeat,
    "heartbeat_ack": HeartbeatAck,
    "facts": Facts,
    "inventory": Inventory,
    "kube_inventory": KubeInventory,
    "kube_usage": KubeUsage,
    "routes": Routes,
    "job": Job,
    "job_accepted": JobAccepted,
    "job_cancel": JobCancel,
    "job_progress": JobProgress,
    "job_result": JobResult,
    "job_stored": JobStored,
    "jobs_held": JobsHeld,
    "trust": Trust,
    "lead": Lead,
    "settings": SettingsChanged,
    "rotate_key": RotateKey,
    "key_rotation": KeyRotation,
    "key_rotated": KeyRotated,
    "update": Update,
    "error": Error,
    "goodbye": Goodbye,
}
_NAMES = {struct: name for name, struct in TYPES.items()}


class _Head(msgspec.Struct):
    type: str
    id: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")


class _Envelope(msgspec.Struct, omit_defaults=True):
    type: str
    payload: Message
    id: str = ""


class BadMessage(Exception):
    """The other end sent text that is not a message of this protocol."""


M = TypeVar("M", bound=Message)
_head = msgspec.json.Decoder(_Head)
_payloads = {name: msgspec.json.Decoder(struct) for name, struct in TYPES.items()}
_encoder = msgspec.json.Encoder()


def encode(message: Message, *, id: str = "") -> bytes:
    """Return the text frame of a message as UTF-8."""
    return _encoder.encode(_Envelope(type=_NAMES[type(message)], payload=message, id=id))


def decode(text: bytes | bytearray | memoryview) -> Message:
    """Parse a text frame.

    Raises: BadMessage: not JSON, wrong shape, or larger than MAX_MESSAGE_BYTES.
    """
    if len(text) > MAX_MESSAGE_BYTES:
        raise BadMessage(f"message of {len(text)} bytes; the limit is {MAX_MESSAGE_BYTES}")
    try:
        head = _head.decode(text)
        decoder = _payloads.get(head.type)
        return decoder.decode(head.payload) if decoder else Unknown(name=head.type[:64])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadMessage(str(error)) from error


def connect_text(*, origin: str, nonce: str, agent_id: str, key_id: str, instance_id: str, generation: int) -> bytes:
    """Text that an agent signs to connect; fields are joined by newlines, none may hold one."""
    return _signed(CONNECT_CONTEXT, origin, nonce, agent_id, key_id, instance_id, str(generation))


def installation(instance_id: str) -> str:
    """Return the part of an instance id that its restarts share: a state folder's, without the process's own."""
    return instance_id.partition("-")[0][:64]


def enrol_text(*, origin: str, token_id: str, keys_sha256: str, nonce: str) -> bytes:
    """Text that a new agent signs with its identity key. `keys_sha256`: hex over identity key ‖ sealing key."""
    return _signed(ENROL_CONTEXT, origin, token_id, keys_sha256, nonce)


def rotate_text(*, agent_id: str, old_key_id: str, new_key_id: str, new_public_key: str, epoch: int) -> bytes:
    """Text that the old and the new key sign when an agent changes its key."""
    return _signed(ROTATE_CONTEXT, agent_id, old_key_id, new_key_id, new_public_key, str(epoch))


def update_text(manifest: str) -> bytes:
    """Text that a release key signs."""
    return UPDATE_CONTEXT + b"\n" + manifest.encode()


def _signed(context: bytes, *fields: str) -> bytes:
    if any("\n" in field for field in fields):
        raise BadMessage("a signed field may not hold a newline")
    return b"\n".join([context, *(field.encode() for field in fields)])
