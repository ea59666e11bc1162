"""The metrics server of upstream, which tells what nodes and pods use: a process beside the test bed's cluster.

The API server reaches it as a part of its API, through a service that names loopback. In real clusters it runs as a
pod and knows the API server by a client certificate; here nobody but this machine reaches it, so what the API server
has let pass is served to everybody who comes.
"""

import contextlib
import http
import json
import urllib.error
from collections.abc import Iterator
from typing import Any

from tests.testbed import golang, paths, processes
from tests.testbed.kubernetes import configuration
from tests.testbed.kubernetes.cluster import Cluster

PART = "metrics-server"
PORT = 26450
RESOLUTION = "10s"
"""The shortest that it takes: tests wait for two looks at the kubelet."""
ANSWER = "5s"
"""For the kubelet; it has to be shorter than the resolution."""
READY_TIMEOUT = 60.0
GROUP, VERSION = "metrics.k8s.io", "v1beta1"
NODES = f"/apis/{GROUP}/{VERSION}/nodes"
_PLACE = {"name": PART, "namespace": "kube-system"}
_RBAC = "rbac.authorization.k8s.io"


def build() -> str:
    """Compile it, once for its content: two minutes on two cores the first time. Returns: the program."""
    return str(golang.build(PART, paths.SOURCE / PART, "sigs.k8s.io/metrics-server/cmd/metrics-server"))


def status() -> str:
    """One line for people. It is compiled when somebody needs it, and runs while a test does."""
    running = Cluster().running(PART)
    return "does not run" if running is None else f"runs as {running}"


@contextlib.contextmanager
def beside(cluster: Cluster) -> Iterator[None]:
    """Have it run beside a cluster that has a node, and serve figures, for as long as the block lasts.

    Not longer: a part of the API whose server is gone makes every discovery complain.
    """
    try:
        _start(cluster)
        yield
    finally:
        stop(cluster)


def _start(cluster: Cluster) -> None:
    program = build()
    for path, body in _objects():
        _apply(cluster, path, body)
    cluster.start(
        PART, program, "--kubeconfig=admin.kubeconfig", "--authentication-kubeconfig=admin.kubeconfig",
        "--authentication-skip-lookup", "--authorization-kubeconfig=admin.kubeconfig", "--cert-dir=metrics-server",
        "--bind-address=127.0.0.1", f"--secure-port={PORT}", "--kubelet-use-node-status-port", "--kubelet-insecure-tls",
        "--kubelet-preferred-address-types=InternalIP", f"--kubelet-request-timeout={ANSWER}",
        f"--metric-resolution={RESOLUTION}",
    )  # fmt: skip
    processes.wait_until(
        lambda: _serves(cluster), PART, timeout=READY_TIMEOUT, log=cluster.log(PART),
        alive=lambda: cluster.running(PART) is not None,
    )  # fmt: skip


def stop(cluster: Cluster) -> None:
    """Let the cluster say again that it has no metrics, then end it."""
    for path, body in reversed(_objects()):
        with contextlib.suppress(OSError):
            _delete(cluster, f"{path}/{body['metadata']['name']}")
    cluster.stop(PART)


def _serves(cluster: Cluster) -> bool:
    try:
        return any(one["metadata"]["name"] == configuration.NODE_NAME for one in cluster.items(NODES))
    except OSError:
        return False


def _objects() -> list[tuple[str, dict[str, Any]]]:
    """What tells the API server where the metrics API is, and who may read it."""
    reads: list[dict[str, Any]] = [
        {"apiGroups": [GROUP], "resources": ["nodes", "pods"], "verbs": ["get", "list"]},
        {"nonResourceURLs": ["/apis", f"/apis/{GROUP}", f"/apis/{GROUP}/*", "/openapi/*"], "verbs": ["get"]},
    ]
    subjects = [{"kind": "Group", "name": "system:unauthenticated", "apiGroup": _RBAC}]
    return [
        (
            "/api/v1/namespaces/kube-system/services",
            {
                "apiVersion": "v1", "kind": "Service", "metadata": _PLACE,
                "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": PORT}]},
            },
        ),
        (
            f"/apis/{_RBAC}/v1/clusterroles",
            {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": PART}, "rules": reads},
        ),
        (
            f"/apis/{_RBAC}/v1/clusterrolebindings",
            {
                "apiVersion": f"{_RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": PART},
                "subjects": subjects, "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": PART},
            },
        ),
        (
            "/apis/apiregistration.k8s.io/v1/apiservices",
            {
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": f"{VERSION}.{GROUP}"},
                "spec": {
                    "service": {**_PLACE, "port": PORT}, "group": GROUP, "version": VERSION,
                    "insecureSkipTLSVerify": True, "groupPriorityMinimum": 100, "versionPriority": 100,
                },
            },
        ),
    ]  # fmt: skip


def _apply(cluster: Cluster, path: str, body: dict[str, Any]) -> None:
    target = f"{path}/{body['metadata']['name']}?fieldManager=testbed&force=true"
    cluster.send("PATCH", target, json.dumps(body).encode(), "application/apply-patch+yaml")


def _delete(cluster: Cluster, path: str) -> None:
    try:
        cluster.send("DELETE", path)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.NOT_FOUND:
            raise
