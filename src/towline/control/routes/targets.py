"""What a route can lead to, as people write it and as it travels in a stream's header. Pure rules.

`service/NAMESPACE/NAME:PORT`, `pod/NAMESPACE/NAME:PORT`, `compose/PROJECT/SERVICE:PORT`, `tcp/HOST:PORT`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from towline.wire.streams import KubeService, Service, Tcp

RouteTarget = KubeService | Service | Tcp
FORMS = "service/NAMESPACE/NAME:PORT, pod/NAMESPACE/NAME:PORT, compose/PROJECT/SERVICE:PORT or tcp/HOST:PORT"
LONGEST = 500
"""Characters of a target as people write it."""
_KUBE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PORT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_COMPOSE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_decoder: type[RouteTarget] | Any = RouteTarget


class TargetInvalid(ValueError):
    """Not a target; the message says what one looks like."""


def parse(text: str) -> RouteTarget:
    """Read a target as people write it. Raises: TargetInvalid."""
    kind, slash, rest = text.strip().partition("/")
    name, colon, port = rest.rpartition(":")
    if slash and colon and len(text) <= LONGEST:
        match kind:
            case "service" | "pod":
                return _kube(kind, name, port, text)
            case "compose":
                return _compose(name, port, text)
            case "tcp":
                return _tcp(name, port, text)
    raise TargetInvalid(f"{text[:80]!r} is not a target; write {FORMS}")


def _kube(kind: str, place: str, port: str, text: str) -> KubeService:
    namespace, _, name = place.partition("/")
    known = _NAMESPACE.fullmatch(namespace) and _KUBE_NAME.fullmatch(name)
    named = not port.isdigit() and _PORT_NAME.fullmatch(port)
    if not known or not (named or _is_port(port)):
        raise TargetInvalid(f"{text[:80]!r}: write {kind}/NAMESPACE/NAME:PORT, the port as a number or by its name")
    return KubeService(namespace=namespace, name=name, port=port, resource="pod" if kind == "pod" else "service")


def _compose(place: str, port: str, text: str) -> Service:
    project, _, service = place.partition("/")
    if not (_COMPOSE.fullmatch(project) and _COMPOSE.fullmatch(service) and _is_port(port)):
        raise TargetInvalid(f"{text[:80]!r}: write compose/PROJECT/SERVICE:PORT")
    return Service(project=project, service=service, port=int(port))


def _tcp(host: str, port: str, text: str) -> Tcp:
    bare = host.strip("[]")
    if not _HOST.fullmatch(bare) or not _is_port(port):
        raise TargetInvalid(f"{text[:80]!r}: write tcp/HOST:PORT")
    return Tcp(host=bare, port=int(port))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def shown(target: RouteTarget) -> str:
    """Return a target as people write it."""
    match target:
        case KubeService():
            return f"{target.resource}/{target.namespace}/{target.name}:{target.port}"
        case Service():
            return f"compose/{target.project}/{target.service}:{target.port}"
        case Tcp():
            return f"tcp/[{target.host}]:{target.port}" if ":" in target.host else f"tcp/{target.host}:{target.port}"


def stored(target: RouteTarget) -> dict[str, Any]:
    """Return a target as it is stored: the header of a stream, without an actor."""
    found: dict[str, Any] = msgspec.to_builtins(target)
    return found


def restored(value: Mapping[str, Any]) -> RouteTarget:
    """Read what `stored` wrote. Raises: TargetInvalid: another release's."""
    try:
        return msgspec.convert(dict(value), type=_decoder)
    except msgspec.ValidationError as error:
        raise TargetInvalid(f"this release does not know the target: {error}") from error


def place_of(target: RouteTarget) -> tuple[str, str]:
    """Return the project and the namespace that a target is in; permissions are held on those."""
    match target:
        case KubeService():
            return "", target.namespace
        case Service():
            return target.project, ""
    return "", ""


def check(target: RouteTarget) -> RouteTarget:
    """Check a target that an agent names by the same rules. Raises: TargetInvalid."""
    parse(shown(target))
    return target
