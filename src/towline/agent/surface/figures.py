"""`GET /metrics`: the agent's figures for Prometheus, each declared once with its meaning, and read when it is scraped.

docs/reference/metrics.md is written from `FIGURES`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from towline.agent.surface import build, dependencies, process
from towline.agent.surface.answers import HEADERS
from towline.agent.surface.dependencies import State
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.linkstate import Standing
from towline.agent.surface.live import live_of
from towline.agent.surface.parts import Parts
from towline.agent.surface.process import LoopLag, Numbers
from towline.agent.surface.requests import parts_of, statistics_of
from towline.agent.surface.running import LocalCommands
from towline.agent.surface.runtime import LAG
from towline.agent.surface.statistics import BUCKETS, Statistics

Samples = Iterable[tuple[tuple[str, ...], float]]
LONG = ("websocket", "events", "logs")
"""Kinds of connections that last."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that figures are read from, once per scrape."""

    parts: Parts
    seen: Statistics
    lag: LoopLag
    numbers: Numbers
    commands: LocalCommands | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One family. `read` yields values by label values; a counter's name gets `_total` when it is written."""

    name: str
    kind: Literal["gauge", "counter"]
    about: str
    read: Callable[[Scene], Samples]
    labels: tuple[str, ...] = ()


def _one(value: float) -> Samples:
    return [((), float(value))]


def _release(scene: Scene) -> Samples:
    found = build.release()
    return [((found["version"], found["git_commit"], found["python_version"]), 1.0)]


def _link_state(scene: Scene) -> Samples:
    standing = scene.parts.link.view.standing
    return [((each.value,), float(each is standing)) for each in Standing]


def _round_trip(scene: Scene) -> Samples:
    session = scene.parts.session()
    return _one(session.rtt) if session is not None else ()


def _silence(scene: Scene) -> Samples:
    session = scene.parts.session()
    return _one(scene.parts.clock.monotonic() - session.last_message_at) if session is not None else ()


def _plane_silence(scene: Scene) -> Samples:
    silence = scene.parts.silence
    return () if silence is None or silence.is_expected else _one(silence.seconds)


def _plane_alert(scene: Scene) -> Samples:
    silence = scene.parts.silence
    return _one(silence.alert) if silence is not None else ()


def _dependencies(scene: Scene) -> Samples:
    found = dependencies.all_of(scene.parts)
    return [((each.name,), float(each.state is State.UP)) for each in found if each.state is not State.ABSENT]


def _looks(scene: Scene) -> Samples:
    names = {"compose": "docker", "kubernetes": "kubernetes"}
    taken = scene.parts.capabilities.look_seconds
    return [((names[name],), seconds) for name, seconds in taken.items() if name in names]


def _watches(scene: Scene) -> Samples:
    kubernetes = scene.parts.kubernetes
    states = kubernetes.inventory.watch_states() if kubernetes is not None else []
    return [((kind, state.value), float(count)) for (kind, state), count in sorted(Counter(states).items())]


def _containers(scene: Scene) -> Samples:
    docker = scene.parts.docker
    return _one(len(docker.inventory.snapshot().containers)) if docker is not None else ()


def _jobs_ended(scene: Scene) -> Samples:
    return [(key, float(count)) for key, count in sorted(scene.parts.counts.jobs_ended().items())]


def _commands_ended(scene: Scene) -> Samples:
    counts = scene.commands.counts if scene.commands is not None else Counter[tuple[str, str]]()
    return [(key, float(count)) for key, count in sorted(counts.items())]


def _requests(scene: Scene) -> Samples:
    counts = sorted(scene.seen.requests.items())
    return [((method, path, str(status)), float(count)) for (method, path, status), count in counts]


FIGURES: tuple[Figure, ...] = (
    Figure(
        "towline_agent_build_info", "gauge", "Release that runs; always 1.", _release, ("version", "commit", "python")
    ),
    Figure(
        "towline_agent_start_time_seconds", "gauge", "When the agent began, in seconds since the epoch.",
        lambda s: _one(s.parts.started_at.timestamp()),
    ),
    Figure(
        "towline_agent_link_state", "gauge", "1 for how the agent stands with a control plane now, else 0.",
        _link_state, ("state",),
    ),
    Figure(
        "towline_agent_link_connects", "counter", "Links that came up since the agent began.",
        lambda s: _one(s.parts.counts.status().connects),
    ),
    Figure(
        "towline_agent_link_hangs", "gauge", "Links in a row that hung; five end the agent, for its supervisor.",
        lambda s: _one(s.parts.counts.status().hangs),
    ),
    Figure(
        "towline_agent_link_round_trip_seconds", "gauge", "Round trip of the link; missing without one.", _round_trip
    ),
    Figure(
        "towline_agent_link_silence_seconds", "gauge",
        "Since the last message of the control plane; missing without a link.", _silence,
    ),
    Figure(
        "towline_agent_control_plane_silence_seconds", "gauge",
        "Since the last word of the control plane, with a link or without; missing when the agent needs none.",
        _plane_silence,
    ),
    Figure(
        "towline_agent_control_plane_silent", "gauge",
        "1 while the control plane has been silent for longer than `silence_alert_seconds`, else 0.", _plane_alert,
    ),
    Figure(
        "towline_agent_clock_offset_seconds", "gauge", "This machine's clock minus the control plane's.",
        lambda s: _one(s.parts.counts.time_offset()),
    ),
    Figure(
        "towline_agent_streams_open", "gauge", "Streams in the link's tunnel.",
        lambda s: _one(s.parts.counts.streams_open()),
    ),
    Figure(
        "towline_agent_jobs_running", "gauge", "Jobs that run.", lambda s: _one(s.parts.counts.jobs_running())
    ),
    Figure(
        "towline_agent_jobs_ended", "counter", "Jobs that ended, by kind and outcome.", _jobs_ended,
        ("kind", "outcome"),
    ),
    Figure(
        "towline_agent_local_commands_running", "gauge", "Commands of callers of the local surface that run.",
        lambda s: _one(s.commands.running if s.commands is not None else 0),
    ),
    Figure(
        "towline_agent_local_commands_ended", "counter",
        "The same that ended, by program and outcome; the control plane's are jobs of the kind command.run.",
        _commands_ended, ("program", "outcome"),
    ),
    Figure(
        "towline_agent_routes", "gauge", "Routes that this host or cluster asks for.",
        lambda s: _one(s.parts.counts.routes()),
    ),
    Figure(
        "towline_agent_dependency_up", "gauge", "Whether what is there to be used can be, from the last look.",
        _dependencies, ("dependency",),
    ),
    Figure(
        "towline_agent_dependency_look_seconds", "gauge",
        "How long the last look took, connecting included: the latency of the API server and of Docker.",
        _looks, ("dependency",),
    ),
    Figure(
        "towline_agent_watches", "gauge", "Watches of the cluster's inventory by kind and state.", _watches,
        ("kind", "state"),
    ),
    Figure("towline_agent_containers", "gauge", "Containers that are known on this host.", _containers),
    Figure(
        "towline_agent_http_requests", "counter", "Requests to the local surface; status 0 for one that was cut.",
        _requests, ("method", "path", "status"),
    ),
    Figure(
        "towline_agent_http_requests_running", "gauge", "Requests to the local surface that run, streams included.",
        lambda s: _one(s.seen.running),
    ),
    Figure(
        "towline_agent_connections_open", "gauge", "WebSockets, event streams and log streams that are open.",
        lambda s: [((kind,), float(s.seen.live[kind])) for kind in LONG], ("kind",),
    ),
    Figure(
        "towline_agent_connections", "counter", "The same that were opened.",
        lambda s: [((kind,), float(s.seen.began[kind])) for kind in LONG], ("kind",),
    ),
    Figure(
        "towline_agent_connections_cut", "counter", "The same that were cut because the other side was too slow.",
        lambda s: [((kind,), float(s.seen.cut[kind])) for kind in LONG], ("kind",),
    ),
    Figure(
        "towline_agent_tasks", "gauge", "Tasks of the event loop: what leaks shows here first.",
        lambda s: _one(s.numbers.tasks),
    ),
    Figure("towline_agent_threads", "gauge", "Threads of the process.", lambda s: _one(s.numbers.threads)),
    Figure(
        "towline_agent_gc_collections", "counter", "Collections of Python's garbage collector.",
        lambda s: _one(s.numbers.collections),
    ),
    Figure(
        "towline_agent_loop_lag_seconds", "gauge", "How late the event loop was, at worst in the last minute.",
        lambda s: _one(s.lag.most),
    ),
)  # fmt: skip
"""Beside them: `towline_agent_http_request_seconds`, and what Prometheus' own client tells of any process."""

REQUEST_SECONDS = (
    "towline_agent_http_request_seconds",
    "Seconds that requests to the local surface took, streams too.",
)


class SceneCollector(Collector):
    """Shows one scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def collect(self) -> Iterator[Metric]:
        for figure in FIGURES:
            kind = GaugeMetricFamily if figure.kind == "gauge" else CounterMetricFamily
            family = kind(figure.name, figure.about, labels=figure.labels)
            for labels, value in figure.read(self._scene):
                family.add_metric(labels, value)
            yield family
        yield self._times()

    def _times(self) -> Metric:
        seen, sums, total = self._scene.seen, [], 0
        for edge, count in zip((*map(str, BUCKETS), "+Inf"), seen.buckets, strict=True):
            total += count
            sums.append((edge, float(total)))
        return HistogramMetricFamily(*REQUEST_SECONDS, buckets=sums, sum_value=seen.seconds)


async def scrape(request: web.Request) -> web.StreamResponse:
    """Read every figure now."""
    scene = Scene(
        parts_of(request), statistics_of(request), request.app[LAG], process.measure(), live_of(request).commands
    )
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(SceneCollector(scene))
    return web.Response(body=generate_latest(registry), headers={**HEADERS, "Content-Type": CONTENT_TYPE_LATEST})


ENDPOINTS = (
    Endpoint(
        "GET", "/metrics", scrape, Right.READ, "The agent's figures for Prometheus.",
        '-H "Authorization: Bearer $TOKEN" $URL/metrics', answer="text/plain",
    ),
)  # fmt: skip
