"""What a stream of the tunnel carries: its header, the answer to it, and the small formats inside.

A stream begins with `length (4 bytes, big-endian) ‖ JSON of a Target`; the agent answers with
`length ‖ JSON of an Answer`; after that come raw bytes, or frames of the format that the target names.
The opener may send bytes right behind the header, before the answer. No I/O here.
"""

import struct
from collections.abc import Iterator
from typing import Literal

import msgspec

MAX_HEADER_BYTES = 64 * 1024
"""A header holds a target and an identity; Kubernetes groups can be many, a bundle is never in it."""


class Actor(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Who asked, for the agent's own log and policy. Typed, never a header of somebody's request."""

    user: str = ""
    request_id: str = ""


class _Target(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    actor: Actor = Actor()


class Tcp(_Target, frozen=True, tag="tcp"):
    """Dial an address from the host, as its policy allows; raw bytes follow. `ssh` is port 22 of 127.0.0.1."""

    host: str
    port: int


class Service(_Target, frozen=True, tag="service"):
    """Dial a service of a Compose project on its container's address; raw bytes follow."""

    project: str
    service: str
    port: int


class KubeService(_Target, frozen=True, tag="kube_service"):
    """Dial a port of a Kubernetes service or pod of the agent's own cluster, as its policy allows; raw bytes follow."""

    namespace: str
    name: str
    port: str
    """Number or name: a service's port, or a container's port in a pod."""
    resource: Literal["service", "pod"] = "service"
    tls: bool = False
    """The agent speaks TLS to the port, inside the cluster and without verifying its certificate; the bytes of the
    stream are what is inside. For ingress controllers that send plain requests of TLS hosts back, and TLS backends."""
    server_name: str = ""
    """With `tls`, the name in the handshake; empty: none."""


class Exec(_Target, frozen=True, tag="exec"):
    """Run a command in a container; `Frame`s both ways."""

    container: str
    """Id or name; for a project's service the control plane resolves it before."""
    argv: tuple[str, ...] = ()
    """Empty: the best shell there is (bash, else sh)."""
    tty: bool = False
    environment: dict[str, str] = {}
    user: str = ""
    workdir: str = ""
    columns: int = 80
    rows: int = 24


class Logs(_Target, frozen=True, tag="logs"):
    """Logs of a project's or of single containers; `Frame`s from the agent. Only whole lines in a frame."""

    project: str = ""
    services: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    follow: bool = False
    tail: int = -1
    """Lines per container from the end; -1: all."""
    since: str = ""
    """RFC 3339 with nanoseconds, exclusive: lines after this moment."""
    until: str = ""
    grep: str = ""
    """Plain text that a line must hold."""
    cursors: dict[str, str] = {}
    """Container id to `TIMESTAMP/COUNT`: resume behind that many lines of that timestamp, without loss or doubles."""


class Bundle(_Target, frozen=True, tag="bundle"):
    """Hand a bundle (a plain tar) to the agent's store: `size` raw bytes follow, unless the answer says `have`."""

    digest: str
    size: int


class Kube(_Target, frozen=True, tag="kube"):
    """The Kubernetes API of the agent's own cluster: HTTP/1.1 requests one after the other, and raw bytes after a 101.

    The agent turns the identity into impersonation and refuses a stream without one. It has one fixed upstream: no
    address travels here.
    """

    user: str = ""
    """`towline:NAME`; never a bare name, never `system:`."""
    groups: tuple[str, ...] = ()
    """`towline:role:ROLE`, `towline:team:TEAM`; at least one."""
    extra: dict[str, tuple[str, ...]] = {}
    """Lower-case keys such as `towline.dev/session`, to values."""
    direct: bool = False
    """True: our own reads with the agent's rights, and no identity may be named. Never the result of an absent one."""


class Measure(_Target, frozen=True, tag="measure"):
    """Throughput test. `down`: the agent sends zeros until the stream is closed; `up`: it reads and, at the end
    of input, answers with 8 bytes, the count it read, big-endian."""

    direction: Literal["up", "down"]
    seconds: float = 3.0


Target = Tcp | Service | KubeService | Exec | Logs | Bundle | Kube | Measure


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The agent's answer to a header."""

    ok: bool
    code: str = ""
    """When refused: forbidden (local policy), not_found, unreachable, timeout, busy, bad_request, unsupported."""
    reason: str = ""
    """For people, e.g. `connection refused by 127.0.0.1:5432`."""
    have: bool = False
    info: dict[str, str] = {}


class BadHeader(Exception):
    """Not a stream header or answer of this protocol."""


_LENGTH = struct.Struct(">I")
_encoder = msgspec.json.Encoder()
_target: msgspec.json.Decoder[Target] = msgspec.json.Decoder(Target)
_answer = msgspec.json.Decoder(Answer)


def encode_header(value: Target | Answer) -> bytes:
    """Return `length ‖ JSON`."""
    body = _encoder.encode(value)
    if len(body) > MAX_HEADER_BYTES:
        raise BadHeader(f"header of {len(body)} bytes; the limit is {MAX_HEADER_BYTES}")
    return _LENGTH.pack(len(body)) + body


def split_header(data: bytes | bytearray | memoryview) -> tuple[bytes, int] | None:
    """Return the JSON and where the rest begins, or None when more bytes are needed.

    Raises: BadHeader: the length is over the limit.
    """
    if len(data) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(data)
    if length > MAX_HEADER_BYTES:
        raise BadHeader(f"header of {length} bytes; the limit is {MAX_HEADER_BYTES}")
    end = _LENGTH.size + length
    return (bytes(data[_LENGTH.size : end]), end) if len(data) >= end else None


def decode_target(body: bytes) -> Target:
    """Parse the JSON of a target. Raises: BadHeader."""
    try:
        return _target.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadHeader(str(error)) from error


def decode_answer(body: bytes) -> Answer:
    """Parse the JSON of an answer. Raises: BadHeader."""
    try:
        return _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadHeader(str(error)) from error


# -- frames inside exec and log streams ------------------------------------------------------
# kind (1 byte) ‖ source (2 bytes) ‖ length (4 bytes) ‖ body, big-endian.

STDIN, STDOUT, STDERR, RESIZE, EXIT, SOURCE, EVENT, CLOSE_STDIN = range(8)
"""Frame kinds. RESIZE: JSON {columns, rows}. EXIT: JSON {code, error?}. SOURCE: JSON LogSource, declares the number
in `source`. EVENT: JSON {text, at} about that source (restarted, gone, gap). STDOUT and STDERR of logs: whole
lines, each `TIMESTAMP SPACE text NEWLINE`."""

MAX_FRAME_BYTES = 256 * 1024
"""One window of a stream: a frame never needs more memory than the window that carried it."""
_FRAME = struct.Struct(">BHI")
FRAME_HEAD_BYTES = _FRAME.size


class LogSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    container: str
    name: str
    project: str = ""
    service: str = ""


class Frame(msgspec.Struct, frozen=True):
    kind: int
    body: bytes
    source: int = 0


class BadFrame(Exception):
    """A frame over the limit or of an unknown kind."""


def encode_frame(kind: int, body: bytes | bytearray | memoryview, source: int = 0) -> bytes:
    """Return one frame. The body must be at most MAX_FRAME_BYTES."""
    return _FRAME.pack(kind, source, len(body)) + body


class FrameReader:
    """Cuts a byte stream into frames; holds at most one frame's bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield every frame that is whole. Raises: BadFrame."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= FRAME_HEAD_BYTES:
            kind, source, length = _FRAME.unpack_from(buffer, at)
            if length > MAX_FRAME_BYTES or kind > CLOSE_STDIN:
                raise BadFrame(f"frame of kind {kind} with {length} bytes")
            end = at + FRAME_HEAD_BYTES + length
            if len(buffer) < end:
                break
            yield Frame(kind, bytes(buffer[at + FRAME_HEAD_BYTES : end]), source)
            at = end
        if at:
            del buffer[:at]
