"""A control plane on the address of the test bed's node, for agents that are pods of its cluster."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.kubernetes_stack import SERVER, Stack
from tests.support.product import wait_for
from tests.testbed.kubernetes import configuration

IMAGE = "towline-test/agent-pod:1"
"""Tests build it from `build/Dockerfile` and give it to the node."""
NAME = "pods-1"
"""Of the cluster that the manifest is for."""


class PodStack(Stack):
    """A control plane that pods reach, at the address of their node."""

    image = IMAGE
    cluster_name = NAME

    def begin_agents(self) -> None:
        """None: they come as pods."""

    def start_server(self) -> None:
        values = {
            **SERVER,
            "LISTEN": f"{configuration.NODE_ADDRESS}:{self.port}",
            "HOSTNAMES": configuration.NODE_ADDRESS,
            "DATA_FOLDER": str(self.folder / "server"),
            "ADMIN_PASSWORD_FILE": str(self.folder / "password"),
        }
        self._start("server", {f"TOWLINE_SERVER_{name}": value for name, value in values.items()}, "server", "run")
        wait_for(self._answers, "the server", 60)

    @property
    def url(self) -> str:
        return f"https://{configuration.NODE_ADDRESS}:{self.port}"

    def manifest(self, **wanted: Any) -> dict[str, Any]:
        with self.http(self.owner.token) as client:
            body = {"image": self.image, "pull_policy": "Never", "namespace": self.namespace, "server": self.url}
            answer = client.post(f"/api/v1/clusters/{self.cluster_name}/kubernetes/manifest", json=body | wanted)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def shown(self) -> dict[str, Any]:
        with self.http(self.owner.token) as client:
            shown: dict[str, Any] = client.get(f"/api/v1/clusters/{self.cluster_name}").json()
        return shown

    def directly(self, *words: str, content: str = "") -> str:
        """kubectl as the cluster's administrator."""
        command = [str(self.clients.kubectl()), "--kubeconfig", str(self.cluster.kubeconfig), *words]
        done = subprocess.run(command, input=content, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """Forward a port of loopback to one of a pod. Yields: the address, as a base of URLs."""
        words = ["port-forward", "-n", self.namespace, target, f":{port}"]
        command = [str(self.clients.kubectl()), "--kubeconfig", str(self.cluster.kubeconfig), *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            try:
                said = running.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> …
                yield f"http://127.0.0.1:{said.partition('127.0.0.1:')[2].partition(' ')[0]}"
            finally:
                running.terminate()

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.directly("get", "pods", "-n", self.namespace, "-o", "json"))[
            "items"
        ]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def logs(self) -> str:
        return self.directly("logs", "-n", self.namespace, "-l", "app.kubernetes.io/name=towline-agent", "--tail=30")
