"""From an Ingress to claims. Pure; what is followed and told is decided elsewhere.

Where a controller serves the ingress, its requests go to that controller with their Host, so that annotations, rewrites
and sign-in work as written; elsewhere they go to the backend service itself. Source: the page on Ingress of the
Kubernetes documentation, "Path types", "Hostname wildcards", "Default backend".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from towline.agent.routes import asked
from towline.agent.routes.controllers import Choice, Controller, choose
from towline.agent.routes.refs import clean_host, is_host, ref
from towline.kube import traffic
from towline.wire.link import RouteClaim
from towline.wire.streams import KubeService

PathType = Literal["exact", "prefix"]
WHOLE = "/"
PROTECTED_SERVICES = frozenset({("default", "kubernetes")})
"""The API server is reached by Kubernetes access, with an identity, never as a published service."""
_TLS_ANNOTATIONS = {
    asked.NGINX + "force-ssl-redirect": "true",
    "traefik.ingress.kubernetes.io/router.tls": "true",
    "traefik.ingress.kubernetes.io/router.entrypoints": "websecure",
}
"""What makes a controller serve an ingress by TLS alone although it names no certificate."""
_SEGMENT_END = re.compile(r"\(/\|\$\)|\(\|/|/?\(\.\*\)|/?\.\*|\(/\.\*\)\?")
"""How people write "and what is below" behind a path in regular expressions."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an ingress is read against."""

    classes: Mapping[str, traffic.IngressClass]
    controllers: Sequence[Controller]


@dataclass(frozen=True, slots=True)
class _Place:
    """One host and path of an ingress, and the backend behind it."""

    host: str
    path: str
    path_type: PathType
    backend: traffic.IngressBackend
    notes: tuple[str, ...] = ()
    problem: str = ""


def claims(ingress: traffic.Ingress, around: Surroundings) -> tuple[RouteClaim, ...]:
    """Return what an ingress claims, each host and path once; of two that say the same the first stays."""
    found: dict[str, RouteClaim] = {}
    reader = _Reader(ingress, choose(ingress, around.classes, around.controllers))
    for place in reader.places():
        claim = reader.claim(place)
        found.setdefault(claim.ref, claim)
    return tuple(found.values())


class _Reader:
    """Reads one ingress."""

    def __init__(self, ingress: traffic.Ingress, choice: Choice) -> None:
        self._ingress = ingress
        self._choice = choice
        self._annotations = ingress.metadata.annotations or {}
        self._asked = asked.ask(self._annotations)

    # -- hosts and paths ---------------------------------------------------------------------------

    def places(self) -> Iterator[_Place]:
        """Yield every host and path, those that only the default backend answers for included."""
        spec = self._ingress.spec
        by_host: dict[str, list[_Place]] = {}
        for rule in spec.rules or ():
            host = clean_host(rule.host)
            paths = (rule.http.paths or ()) if rule.http is not None else ()
            by_host.setdefault(host, []).extend(self._place(host, path) for path in paths)
        yield from self._for_tls_hosts(by_host)
        for host, places in by_host.items():
            yield from places
            if spec.default_backend is not None and not _cover(places):
                yield _Place(host, WHOLE, "prefix", spec.default_backend)

    def _for_tls_hosts(self, by_host: dict[str, list[_Place]]) -> Iterator[_Place]:
        """Give what names no host to the hosts of the certificates; without any it stays without a host."""
        unnamed = by_host.get("", [])
        named = [host for host in self._tls_hosts() if host and host not in by_host]
        default = self._ingress.spec.default_backend
        if not by_host and default is not None:
            unnamed = [_Place("", WHOLE, "prefix", default)]
            by_host[""] = unnamed
        if unnamed and named:
            del by_host[""]
            for host in named:
                for one in unnamed:
                    yield _Place(host, one.path, one.path_type, one.backend, one.notes, one.problem)
                if default is not None and not _cover(unnamed):
                    yield _Place(host, WHOLE, "prefix", default)

    def _place(self, host: str, path: traffic.IngressPath) -> _Place:
        text = path.path or WHOLE
        if path.path_type == "Exact":
            return _Place(host, text, "exact", path.backend)
        if path.path_type == "Prefix" and not self._asked.is_regex:
            return _Place(host, _trimmed(text), "prefix", path.backend)
        return self._loose_place(host, text, path.backend)

    def _loose_place(self, host: str, text: str, backend: traffic.IngressBackend) -> _Place:
        """Read a path that controllers read each in their own way: a regular expression, `/*`, or a prefix."""
        literal, is_whole = _literal(text)
        if is_whole:
            return _Place(host, literal, "prefix", backend)
        if self._choice.controller is not None:
            note = f"the path {text[:100]} is a regular expression: everything below {literal} goes to the controller"
            return _Place(host, literal, "prefix", backend, (note,))
        problem = f"the path {text[:100]} is a regular expression, and no controller serves this ingress"
        return _Place(host, literal, "prefix", backend, problem=problem)

    def _tls_hosts(self) -> list[str]:
        return [clean_host(host) for tls in self._ingress.spec.tls or () for host in tls.hosts or ()]

    # -- claims ------------------------------------------------------------------------------------

    def claim(self, place: _Place) -> RouteClaim:
        metadata = self._ingress.metadata
        target, problem = self._target(place)
        if place.host and not is_host(place.host):
            problem = f"{place.host[:100]!r} is not a host name"
        return RouteClaim(
            ref=ref("ingress", metadata.namespace, metadata.name, place.host, place.path_type, place.path),
            source="ingress",
            host=place.host,
            path=place.path,
            path_type=place.path_type,
            target=target,
            tls=self._has_tls(place.host),
            options=self._options(),
            notes=(*self._notes(), *place.notes),
            caution="" if self._choice.controller is not None else self._asked.caution,
            problem=place.problem or problem,
        )

    def _target(self, place: _Place) -> tuple[KubeService, str]:
        controller = self._choice.controller
        if controller is not None:
            return self._controller_target(controller, place.host), ""
        return self._backend_target(place.backend)

    def _controller_target(self, controller: Controller, host: str) -> KubeService:
        """A host with TLS goes to the port with TLS: by the other one a controller would only redirect to it."""
        if controller.https_port and (self._has_tls(host) or self._wants_tls()):
            name = "" if host.startswith("*") else host
            port = str(controller.https_port)
            return KubeService(
                namespace=controller.namespace, name=controller.name, port=port, tls=True, server_name=name
            )
        return KubeService(namespace=controller.namespace, name=controller.name, port=str(controller.http_port))

    def _backend_target(self, backend: traffic.IngressBackend) -> tuple[KubeService, str]:
        namespace = self._ingress.metadata.namespace
        service = backend.service
        if service is None:
            kind = backend.resource.kind if backend.resource is not None else "nothing"
            return KubeService(namespace=namespace, name="", port=""), f"its backend is a {kind[:60]}, not a service"
        target = KubeService(namespace=namespace, name=service.name, port=service.port.word, tls=self._asked.uses_tls)
        if not target.port:
            return target, f"its backend {service.name[:100]} names no port"
        if (namespace, service.name) in PROTECTED_SERVICES:
            return target, "the API server is never published"
        return target, ""

    def _has_tls(self, host: str) -> bool:
        entries = self._ingress.spec.tls or ()
        hosts = self._tls_hosts()
        wild = "*." + host.partition(".")[2]
        return any(not tls.hosts for tls in entries) or host in hosts or wild in hosts

    def _wants_tls(self) -> bool:
        return any(self._annotations.get(key, "").strip() == value for key, value in _TLS_ANNOTATIONS.items())

    def _options(self) -> dict[str, str]:
        if self._choice.controller is None:
            return dict(self._asked.options)
        return asked.addresses(self._annotations)

    def _notes(self) -> Iterable[str]:
        if self._choice.controller is None:
            return (*([self._choice.note] if self._choice.note else []), *self._asked.notes)
        if asked.addresses(self._annotations):
            return ("its lists of addresses are held by the gateway: the controller sees the agent's address alone",)
        return ()


def _cover(places: Sequence[_Place]) -> bool:
    return any(place.path == WHOLE and place.path_type == "prefix" for place in places)


def _trimmed(path: str) -> str:
    """A prefix means whole segments: a slash at its end says nothing."""
    return path.rstrip("/") or WHOLE


def _literal(text: str) -> tuple[str, bool]:
    """Return the segments before the first sign of a regular expression, and whether they say it all."""
    found = re.search(r"[\\^$|?*+()\[\]{}]|\.\*", text)
    if found is None:
        return _trimmed(text), True
    head, tail = text[: found.start()], text[found.start() :]
    if tail == "*" and head.endswith("/"):
        return _trimmed(head), True  # `/*`, as some clouds write a prefix
    if tail[0] in "?*{":
        head = head[:-1]  # what stands before it may be missing, and another segment follow
    if tail[0] in "?*{" or _SEGMENT_END.match(tail) is None or not head.startswith("/"):
        head = head.rpartition("/")[0]
    return _trimmed(head or WHOLE), False
