"""Every part by name: how to have it, how to ask after it, how to end it, and which marker needs it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.testbed import (
    bases,
    chromium,
    compose_plugin,
    debian,
    engine,
    haproxy,
    images,
    kubectl,
    metrics_server,
    nginx,
    pebble,
    postgres,
    processes,
    registry,
    squid,
    sshd,
)
from tests.testbed.kubernetes.cluster import Cluster
from tests.testbed.requirement import Missing


def _nothing() -> None:
    """What ends with its test needs no end."""


@dataclass(frozen=True, slots=True)
class Part:
    """`ensure` answers what the part's users need, or raises Missing; `status` is one line and changes nothing."""

    ensure: Callable[[], Any]
    status: Callable[[], str]
    down: Callable[[], None] = _nothing


def _found(find: Callable[[], str]) -> Part:
    """A program that tests start themselves: it only has to be there."""

    def status() -> str:
        try:
            return find()
        except Missing as missing:
            return f"missing: {missing.reason}"

    return Part(find, status)


def _root() -> str:
    if not processes.is_root():
        raise Missing("root", "we are not root", "run the tests as root on a machine of your own")
    return "root"


def _compose() -> str:
    engine.ensure()  # compiling for two minutes is no use where no engine is
    return compose_plugin.ensure()


def _kubernetes() -> Cluster:
    _root()
    debian.ensure(debian.KUBERNETES_PACKAGES)
    cluster = Cluster()
    cluster.up(with_node=True)
    return cluster


def _metrics_server() -> str:
    _root()  # compiling for two minutes is no use where no cluster can be
    return metrics_server.build()


def _images() -> str:
    engine.ensure()
    return images.ensure()


def _bases() -> str:
    engine.ensure()
    return bases.ensure()


def _images_status() -> str:
    return images.status() if engine.answers() else "no engine answers"


PARTS: dict[str, Part] = {
    "root": _found(_root),
    "docker": Part(engine.ensure, engine.status, engine.down),
    "compose": Part(_compose, lambda: compose_plugin.version() or "does not run"),
    "images": Part(_images, _images_status),
    "postgres": Part(postgres.ensure, postgres.status, postgres.down),
    "browser": _found(chromium.ensure),
    "nginx": _found(nginx.find),
    "haproxy": _found(haproxy.find),
    "squid": _found(squid.find),
    "sshd": _found(sshd.find),
    "registry": _found(registry.find),
    "bases": Part(_bases, lambda: bases.status() if engine.answers() else "no engine answers"),
    "kubectl": Part(kubectl.ensure, kubectl.status),
    "pebble": Part(pebble.ensure, pebble.status, pebble.down),
    "metrics-server": Part(_metrics_server, metrics_server.status, lambda: metrics_server.stop(Cluster())),
    "kubernetes": Part(_kubernetes, lambda: Cluster().status(), lambda: Cluster().down()),
}
# What `up` brings up when nobody names parts; the others are costly and wait until a test needs them.
USUAL = (
    "docker",
    "compose",
    "images",
    "postgres",
    "browser",
    "nginx",
    "haproxy",
    "squid",
    "sshd",
    "registry",
    "kubectl",
    "pebble",
    "metrics-server",
    "kubernetes",
)

MARKERS: dict[str, tuple[str, ...]] = {
    "root": ("root",),
    "docker": ("docker", "compose", "images"),
    "postgres": ("postgres",),
    "browser": ("browser",),
    "proxies": ("nginx", "haproxy", "squid"),
    "registry": ("registry",),
    "pebble": ("pebble",),
    "kubernetes": ("kubernetes", "kubectl"),
}


def parts_of(markers: Iterable[str]) -> list[str]:
    """The parts that a test with these markers needs, each once, in a fixed order."""
    wanted = {part for marker in markers for part in MARKERS.get(marker, ())}
    return [part for part in PARTS if part in wanted]
