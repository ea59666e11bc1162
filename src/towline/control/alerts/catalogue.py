"""The rules that there are, each with what holds where an organisation says nothing else. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from towline.kube.troubles import HEALTHY_RUN

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SHORTEST_AFTER, LONGEST_AFTER = 0.0, 7 * DAY
GROUP_SECONDS = 30.0
"""Seconds from the first alert of a rule to its message: a switch that fails takes its hosts within this time."""
GONE_SECONDS = 15.0
"""Seconds after which a crash loop has ended whose pods are gone: those that replace them show by then whether they end
right after their start too, and the alert goes on."""
AFTER_START = 120.0
"""Seconds after the server's start in which no agent is called away: each comes back within its back-off, 60 s."""


class RuleName(StrEnum):
    AGENT_AWAY = "agent_away"
    DOCKER_DOWN = "docker_down"
    DISK_FULL = "disk_full"
    CONTAINER_RESTARTING = "container_restarting"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_NOT_READY = "node_not_ready"
    CRASH_LOOP = "crash_loop"
    IMAGE_PULL = "image_pull"
    DEPLOY_FAILED = "deploy_failed"
    CERTIFICATE_ENDING = "certificate_ending"


class Severity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Threshold:
    """The one number of a rule that people may set."""

    word: str
    """What it counts, after the number."""
    usual: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it holds for one organisation."""

    name: RuleName
    title: str
    meaning: str
    severity: Severity
    after_seconds: float
    """How long it must be so before anybody is told."""
    clear_seconds: float
    """How long it must not be so before it has ended."""
    threshold: Threshold | None = None
    value: float = 0.0
    """Of the threshold."""
    longest_clear: float = LONGEST_AFTER
    """Of `clear_seconds`, what may be set."""
    enabled: bool = True
    channels: tuple[str, ...] | None = None
    """Ids; None: every channel."""
    needs_agent: bool = True
    """What it is about is known by a connected agent alone: while that is away, nothing changes."""

    def changed(
        self, *, enabled: bool | None, after_seconds: float | None, clear_seconds: float | None,
        threshold: float | None, severity: str | None, channels: list[str] | None,
    ) -> Rule:  # fmt: skip
        """Return this rule as an organisation wants it; None changes nothing."""
        return replace(
            self,
            enabled=self.enabled if enabled is None else enabled,
            after_seconds=self.after_seconds if after_seconds is None else after_seconds,
            clear_seconds=self.clear_seconds if clear_seconds is None else clear_seconds,
            value=self.value if threshold is None or self.threshold is None else threshold,
            severity=self.severity if severity is None else Severity(severity),
            channels=self.channels if channels is None else tuple(channels),
        )


_DISK = Threshold("% free", 10.0, 1.0, 50.0)
_RESTARTS = Threshold("restarts", 3.0, 1.0, 1000.0)
_CRITICAL, _WARNING = Severity.CRITICAL, Severity.WARNING
_N = RuleName

RULES: Mapping[RuleName, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            _N.AGENT_AWAY, "Agent away", "No word from the agent of a cluster.", _CRITICAL, 5 * MINUTE, 0.0,
            needs_agent=False,
        ),
        Rule(_N.DOCKER_DOWN, "Docker down", "Docker or Compose does not answer on a host.", _CRITICAL, MINUTE, 0.0),
        Rule(
            _N.DISK_FULL, "Disk nearly full", "Little is free on a host's disk, or a node says so itself.", _WARNING,
            2 * MINUTE, 5 * MINUTE, _DISK, _DISK.usual,
        ),
        Rule(
            _N.CONTAINER_RESTARTING, "Container restarting", "A container on a host begins again and again.", _WARNING,
            MINUTE, 10 * MINUTE, _RESTARTS, _RESTARTS.usual,
        ),
        Rule(
            _N.OUT_OF_MEMORY, "Out of memory", "A container or a pod was killed because its memory ran out.", _WARNING,
            0.0, 15 * MINUTE,
        ),
        Rule(
            _N.NODE_NOT_READY, "Node not ready", "A node of a Kubernetes cluster is not ready.", _CRITICAL, 2 * MINUTE,
            MINUTE,
        ),
        Rule(
            _N.CRASH_LOOP, "Crash loop", "A pod ends again and again right after its start.", _WARNING, MINUTE,
            10 * MINUTE, _RESTARTS, _RESTARTS.usual, longest_clear=HEALTHY_RUN,
        ),
        Rule(
            _N.IMAGE_PULL, "Image pull failing", "The image of a pod cannot be pulled.", _WARNING, 2 * MINUTE,
            2 * MINUTE,
        ),
        Rule(
            _N.DEPLOY_FAILED, "Deploy failed", "The newest revision of a project did not come up.", _WARNING, 0.0, 0.0,
            needs_agent=False,
        ),
        Rule(
            _N.CERTIFICATE_ENDING, "Certificate ending",
            "A certificate in use is past three quarters of its life, and the next one has not come.", _WARNING, 0.0,
            0.0, needs_agent=False,
        ),
    )
}  # fmt: skip
"""Times to clear are long where things come and go: the kubelet waits up to five minutes between two tries."""
