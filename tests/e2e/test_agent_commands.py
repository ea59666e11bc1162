"""Commands of kubectl, done by an agent against the real cluster as whoever asked."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import need
from tests.support.agent_host import AgentHost, agent_host
from tests.support.command_host import Ran, run
from tests.support.kube_agent import Admin, make_agent_account, write_kubeconfig
from tests.testbed.kubernetes.cluster import Cluster
from tests.testbed.kubernetes.configuration import SHELL_IMAGE

from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.settings import AgentSettings

pytestmark = pytest.mark.kubernetes


def workload(name: str, *command: str, replicas: int = 1) -> dict[str, Any]:
    """A deployment of a shell."""
    container = {"name": "main", "image": SHELL_IMAGE, "imagePullPolicy": "Never", "command": list(command)}
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


@dataclass(frozen=True)
class Place:
    """A namespace of the real cluster with a deployment that talks, and an agent's account."""

    admin: Admin
    namespace: str
    token: str


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    admin = Admin(need(request.config, "kubernetes"))
    namespace = f"commands-{secrets.token_hex(3)}"
    token = make_agent_account(admin, namespace)
    talking = workload("talking", "/bin/sh", "-c", "echo first; echo second; exec sleep 100000")
    admin.apply(f"/apis/apps/v1/namespaces/{namespace}/deployments", talking)
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    try:
        yield Place(admin, namespace, token)
    finally:
        admin.ask("DELETE", f"/api/v1/namespaces/{namespace}")
        for kind in ("clusterroles", "clusterrolebindings"):
            admin.ask("DELETE", f"{rbac}/{kind}/{namespace}")


def credentials(folder: Path, cluster: Cluster, token: str) -> Credentials:
    config = write_kubeconfig(folder / "kubeconfig", cluster, token)
    return Credentials(find_source(msgspec.structs.replace(AgentSettings(), kubeconfig=config), {}))


@dataclass
class Bed:
    """An agent beside the cluster."""

    host: AgentHost
    place: Place

    async def kubectl(self, *arguments: str, **more: Any) -> Ran:
        return await run(self.host, "kubectl", *arguments, **({"namespace": self.place.namespace} | more))


@pytest.fixture
async def bed(place: Place, tmp_path: Path) -> AsyncIterator[Bed]:
    async with agent_host(
        tmp_path / "state", kubernetes=credentials(tmp_path, place.admin.cluster, place.token)
    ) as host:
        yield Bed(host, place)


async def talking_pod(bed: Bed) -> str:
    """Wait until the pod of the fixture runs; returns its name."""
    ran = await bed.kubectl("rollout", "status", "deploy/talking")
    assert ran.outcome == ("succeeded", ""), ran
    return (await bed.kubectl("get", "pods", "-l", "app=talking", "-o", "name")).lines[0].removeprefix("pod/")


async def test_a_list_is_the_table_of_the_api_server(bed: Bed) -> None:
    await talking_pod(bed)
    ran = await bed.kubectl("get", "deploy,pods")
    assert ran.outcome == ("succeeded", "")
    assert ran.detail.exit_code == 0
    assert ran.lines[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert ran.lines[1].split()[:2] == ["deployment.apps/talking", "1/1"]
    assert ran.lines[3].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert ran.lines[4].startswith("pod/talking-")


async def test_objects_come_in_every_form(bed: Bed) -> None:
    name = await talking_pod(bed)
    one = json.loads((await bed.kubectl("get", "pod", name, "-o", "json")).out)
    assert (one["kind"], one["metadata"]["name"]) == ("Pod", name)
    assert "managedFields" not in one["metadata"]
    many = json.loads((await bed.kubectl("get", "pods", "-o", "json")).out)
    assert many["kind"] == "List"
    assert many["items"][0]["kind"] == "Pod"
    assert "kind: Pod" in (await bed.kubectl("get", "pods", "-o", "yaml")).out
    assert (await bed.kubectl("get", "pods", "-o", "jsonpath={.items[*].metadata.name}")).out == name
    columns = await bed.kubectl("get", "pods", "-o", "custom-columns=NAME:.metadata.name,NODE:.spec.nodeName")
    assert columns.lines[0].split() == ["NAME", "NODE"]
    assert columns.lines[1].split()[0] == name
    assert "NODE" in (await bed.kubectl("get", "pods", "-o", "wide")).lines[0]


async def test_what_is_not_there_ends_in_kubectls_words(bed: Bed) -> None:
    ran = await bed.kubectl("get", "pod", "nothing")
    assert ran.outcome == ("failed", "command_exit")
    assert ran.detail.exit_code == 1
    assert ran.err == 'Error from server (NotFound): pods "nothing" not found\n'
    assert ran.result.error == ran.err.strip()
    assert (await bed.kubectl("get", "cm", "-l", "none=such")).err.startswith("No resources found in ")


async def test_logs_are_read_whole_and_by_workload(bed: Bed) -> None:
    name = await talking_pod(bed)
    assert (await bed.kubectl("logs", name)).lines == ["first", "second"]
    assert (await bed.kubectl("logs", "deploy/talking", "--tail=1")).lines == ["second"]
    ran = await bed.kubectl("logs", "-l", "app=talking", "--prefix")
    assert ran.lines == [f"[pod/{name}/main] first", f"[pod/{name}/main] second"]
    stamped = (await bed.kubectl("logs", name, "--timestamps", "--tail=1")).out
    assert stamped.endswith("Z second\n")


async def test_a_followed_log_goes_on_until_it_is_cancelled(bed: Bed) -> None:
    from tests.support.command_host import command, ended

    name = await talking_pod(bed)
    order = command("kubectl", "logs", "-f", name, namespace=bed.place.namespace)
    job_id = await bed.host.submit("command.run", order, timeout=3600)
    await bed.host.said(job_id, "second")
    bed.host.runner.cancel(job_id)
    ran = await ended(bed.host, job_id)
    assert ran.outcome == ("cancelled", "cancelled")
    assert ran.detail.stdout_bytes == len("first\nsecond\n")


async def test_a_viewer_is_not_the_agent(bed: Bed) -> None:
    ran = await bed.kubectl("get", "secrets", role="viewer")
    assert ran.outcome == ("failed", "command_exit")
    assert 'Error from server (Forbidden): secrets is forbidden: User "towline:ann"' in ran.err


async def test_the_time_limit_ends_a_command(bed: Bed) -> None:
    ran = await bed.kubectl("logs", "-f", "deploy/talking", timeout=1.0)
    assert ran.outcome == ("failed", "timed_out")
