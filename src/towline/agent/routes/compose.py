"""From labels of Compose services to claims. Pure.

`towline.route.NAME.host=shop.example.com`, `.port`, `.path`, `.path_type`, `.enabled`, and options of a route by their
names; several hosts are separated by commas, and dashes in keys are underscores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from towline.agent.routes.refs import clean_host, is_host
from towline.wire.link import RouteClaim
from towline.wire.streams import Service

PREFIX = "towline.route."
LARGEST_OPTION = 64 * 1024
"""Characters of one option: the longest, a page for errors."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A container that is there, with what its claims need."""

    project: str
    service: str
    labels: Mapping[str, str]
    ports: tuple[int, ...] = ()
    """TCP ports that its image or its file exposes."""


def has_routes(labels: Mapping[str, str]) -> bool:
    return any(key.startswith(PREFIX) for key in labels)


def claims(containers: Iterable[Labelled]) -> tuple[RouteClaim, ...]:
    """Return what services claim; several containers of one service claim the same once."""
    found: dict[str, RouteClaim] = {}
    for one in containers:
        for claim in _of_container(one):
            found.setdefault(claim.ref, claim)
    return tuple(found.values())


def _of_container(one: Labelled) -> Iterator[RouteClaim]:
    routes: dict[str, dict[str, str]] = {}
    for label, value in one.labels.items():
        name, dot, key = label.removeprefix(PREFIX).rpartition(".")
        if label.startswith(PREFIX) and dot and name:
            routes.setdefault(name, {})[key.replace("-", "_").lower()] = value.strip()
    for name, keys in routes.items():
        if keys.pop("enabled", "true").lower() != "false":
            yield from _of_route(one, name, keys)


def _of_route(one: Labelled, name: str, keys: dict[str, str]) -> Iterator[RouteClaim]:
    hosts = tuple(dict.fromkeys(clean_host(host) for host in keys.pop("host", "").split(",")))
    port, problem = _port(keys.pop("port", ""), one.ports)
    path = keys.pop("path", "") or "/"
    path_type, strange = _path_type(keys.pop("path_type", ""))
    problem = problem or strange or _option_problem(keys)
    for host in hosts:
        wrong = f"{host[:100]!r} is not a host name" if host and not is_host(host) else ""
        yield RouteClaim(
            ref=f"compose/{one.project}/{one.service}/{name}" + (f"/{host}" if len(hosts) > 1 else ""),
            source="compose",
            host=host,
            path=path,
            path_type=path_type,
            target=Service(project=one.project, service=one.service, port=port),
            options={} if problem else dict(keys),
            problem=wrong or problem,
        )


def _port(text: str, exposed: tuple[int, ...]) -> tuple[int, str]:
    """Return the port that a label names, else the only one that is exposed, and what is wrong."""
    if text:
        good = text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536
        return (int(text), "") if good else (0, f"the label `port` is {text[:20]!r}, which is no port")
    if len(exposed) == 1:
        return exposed[0], ""
    if exposed:
        listed = ", ".join(map(str, exposed[:10]))
        return 0, f"its container exposes several ports ({listed}): name one by the label `port`"
    return 0, "its container exposes no port: name one by the label `port`"


def _path_type(text: str) -> tuple[Literal["exact", "prefix"], str]:
    match text.lower():
        case "" | "prefix":
            return "prefix", ""
        case "exact":
            return "exact", ""
    return "prefix", f"the label `path_type` is {text[:20]!r}; it is `exact` or `prefix`"


def _option_problem(keys: Mapping[str, str]) -> str:
    large = next((key for key, value in keys.items() if len(value) > LARGEST_OPTION), "")
    return f"the label {large!r} is too long" if large else ""
