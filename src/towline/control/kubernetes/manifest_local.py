"""The agent's own surface in a manifest: a port, a ClusterIP Service before it, and a Secret with the two local tokens.

The control plane makes the tokens and keeps none: whoever may read the Secret in the cluster may ask the agent. Pure.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

PORT = 8080
"""Which users of the PipeOps agent know."""
LISTEN = f"0.0.0.0:{PORT}"
"""Every address of the pod: the kubelet probes by the pod's own, `kubectl port-forward` comes by loopback."""
MOUNT = "/var/run/towline/local"
PORT_NAME = "surface"
TOKEN_BYTES = 24
"""Of randomness in a local token: 192 bits."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LocalTokens:
    """The two tokens of one manifest."""

    read: str = field(repr=False)
    operate: str = field(repr=False)


def minted() -> LocalTokens:
    """Make two new tokens."""
    return LocalTokens(_token(), _token())


def _token() -> str:
    return f"twl_{secrets.token_urlsafe(TOKEN_BYTES)}"


def service_spec(selector: dict[str, str]) -> Object:
    """Return the spec of the Service. A pod that is not ready is reachable, too: it can tell what it lacks."""
    port = {"name": PORT_NAME, "port": PORT, "targetPort": PORT_NAME, "protocol": "TCP"}
    return {"type": "ClusterIP", "publishNotReadyAddresses": True, "selector": dict(selector), "ports": [port]}


def container_ports() -> list[Object]:
    return [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}]


def readiness(*, period: int, failures: int) -> Object:
    """Return the probe: ready is what the agent itself says it is, its link and the API server included."""
    return {
        "httpGet": {"path": "/ready", "port": PORT_NAME},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def environment(tokens: LocalTokens | None) -> dict[str, str]:
    """Return variables. Without tokens in a Secret the agent makes its own."""
    if tokens is None:
        return {"TOWLINE_AGENT_LISTEN": LISTEN}
    return {
        "TOWLINE_AGENT_LISTEN": LISTEN,
        "TOWLINE_AGENT_READ_TOKEN_FILE": f"{MOUNT}/read",
        "TOWLINE_AGENT_OPERATE_TOKEN_FILE": f"{MOUNT}/operate",
    }


def mounts(tokens: LocalTokens | None) -> list[Object]:
    return [] if tokens is None else [{"name": "local", "mountPath": MOUNT, "readOnly": True}]


def volumes(tokens: LocalTokens | None, secret: str) -> list[Object]:
    if tokens is None:
        return []
    items = [{"key": key, "path": key} for key in ("read", "operate")]
    return [{"name": "local", "secret": {"secretName": secret, "items": items, "defaultMode": 0o440}}]
