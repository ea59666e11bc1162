"""Every part by name: how to have it, how to ask after it, how to end it, and which marker needs it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.testbed import chromium, compose_plugin, engine, haproxy, images, nginx, postgres, processes, registry, squid
from tests.testbed.requirement import Missing


def _nothing() -> None:
    """What ends with its test needs no end."""


@dataclass(frozen=True, slots=True)
class Part:
    """`ensure` answers what the part's users need, or raises Missing."""

    ensure: Callable[[], Any]
    down: Callable[[], None] = _nothing


def _root() -> str:
    if not processes.is_root():
        raise Missing("root", "we are not root", "run the tests as root on a machine of your own")
    return "root"


def _images() -> str:
    engine.ensure()
    return images.ensure()


PARTS: dict[str, Part] = {
    "root": Part(_root),
    "docker": Part(engine.ensure, engine.down),
    "compose": Part(compose_plugin.ensure),
    "images": Part(_images),
    "postgres": Part(postgres.ensure, postgres.down),
    "browser": Part(chromium.ensure),
    "nginx": Part(nginx.find),
    "haproxy": Part(haproxy.find),
    "squid": Part(squid.find),
    "registry": Part(registry.find),
}

MARKERS: dict[str, tuple[str, ...]] = {
    "root": ("root",),
    "docker": ("docker", "compose", "images"),
    "postgres": ("postgres",),
    "browser": ("browser",),
    "proxies": ("nginx", "haproxy", "squid"),
    "registry": ("registry",),
}


def parts_of(markers: Iterable[str]) -> list[str]:
    """The parts that a test with these markers needs, each once, in a fixed order."""
    wanted = {part for marker in markers for part in MARKERS.get(marker, ())}
    return [part for part in PARTS if part in wanted]
