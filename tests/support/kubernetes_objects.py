"""Objects in the test bed's cluster for tests that only read, and pods that tests talk to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from tests.support.kubectl import Client
from tests.testbed.kubernetes.configuration import SHELL_IMAGE

NAMESPACE = "k8-read"
SEED = Path(__file__).with_name("kubernetes_seed.yaml")
GROUP = "towline.test"


def container(name: str, *command: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": SHELL_IMAGE, "imagePullPolicy": "Never", "command": list(command), **more}


def named(kind: str, name: str, *, version: str = "v1", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"app": name, "part-of": "k8"}} | more.pop("metadata", {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def pod(name: str, *command: str, **more: Any) -> dict[str, Any]:
    """A pod that ends at once when it is told to."""
    words = command or ("sh", "-c", "exec sleep 100000")
    spec = {"containers": [container("main", *words)], "terminationGracePeriodSeconds": 0, **more}
    return named("Pod", name, spec=spec)


def workload(kind: str, name: str, *command: str, version: str = "apps/v1", **more: Any) -> dict[str, Any]:
    words = command or ("sh", "-c", "exec sleep 100000")
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [container("main", *words)], "terminationGracePeriodSeconds": 0},
    }
    return named(
        kind, name, version=version, spec={"selector": {"matchLabels": {"app": name}}, "template": template, **more}
    )


def as_list(items: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def seed(direct: Client) -> str:
    """Have every object, and the pods running. Returns: their namespace."""
    items = list(yaml.safe_load_all(SEED.read_text()))
    direct.succeed("apply", "--server-side", "-f", "-", stdin=as_list(items[:2]))
    direct.succeed("wait", "--for=condition=established", "--timeout=20s", f"crd/widgets.{GROUP}")
    apply(direct, NAMESPACE, *items[2:])
    wait_for_pods(direct, NAMESPACE, "pod/talker")
    direct.succeed("-n", NAMESPACE, "rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
    direct.succeed("-n", NAMESPACE, "rollout", "status", "daemonset/each", "--timeout=60s", timeout=70)
    direct.succeed("-n", NAMESPACE, "wait", "--for=condition=complete", "--timeout=60s", "job/once", timeout=70)
    return NAMESPACE


def apply(direct: Client, namespace: str, *items: dict[str, Any]) -> None:
    direct.succeed("-n", namespace, "apply", "--server-side", "-f", "-", stdin=as_list(list(items)), timeout=60)


def wait_for_pods(direct: Client, namespace: str, *pods: str) -> None:
    direct.succeed("-n", namespace, "wait", "--for=condition=ready", "--timeout=60s", *pods, timeout=70)
