"""Commands of kubectl, done by an agent against the real cluster as whoever asked."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import need
from tests.support.agent_host import AgentHost, agent_host
from tests.support.command_host import Ran, command, ended, run
from tests.support.kube_agent import Admin, make_agent_account, write_kubeconfig
from tests.testbed.kubernetes.cluster import Cluster
from tests.testbed.kubernetes.configuration import SHELL_IMAGE

from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.settings import AgentSettings
from towline.wire import orders

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
    name = await talking_pod(bed)
    order = command("kubectl", "logs", "-f", name, namespace=bed.place.namespace)
    job_id = await bed.host.submit("command.run", order, timeout=3600)
    await bed.host.said(job_id, "second")
    bed.host.runner.cancel(job_id)
    ran = await ended(bed.host, job_id)
    assert ran.outcome == ("cancelled", "cancelled")
    assert ran.detail.stdout_bytes == len("first\nsecond\n")


async def test_a_list_that_is_watched_goes_on_until_it_is_cancelled(bed: Bed) -> None:
    path = f"/api/v1/namespaces/{bed.place.namespace}/configmaps"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen", "labels": {"a": "b"}}}
    order = command("kubectl", "get", "cm", "-w", "-l", "a=b", "--show-labels", namespace=bed.place.namespace)
    job = await bed.host.submit("command.run", order)
    for change in ("POST", "PATCH"):
        where = path if change == "POST" else f"{path}/seen"
        kind = "application/json" if change == "POST" else "application/merge-patch+json"
        await asyncio.to_thread(bed.place.admin.ask, change, where, body, kind)
        await bed.host.said(job, "a=b" if change == "POST" else "c=d")
        body = {"metadata": {"labels": {"c": "d"}}}
    bed.host.runner.cancel(job)
    ran = await ended(bed.host, job)
    assert ran.outcome == ("cancelled", "cancelled")
    assert [line.split()[0] for line in ran.lines] == ["NAME", "seen", "seen"]
    await asyncio.to_thread(bed.place.admin.ask, "DELETE", f"{path}/seen")


async def test_a_viewer_is_not_the_agent(bed: Bed) -> None:
    ran = await bed.kubectl("get", "secrets", role="viewer")
    assert ran.outcome == ("failed", "command_exit")
    assert 'Error from server (Forbidden): secrets is forbidden: User "towline:ann"' in ran.err


async def test_the_time_limit_ends_a_command(bed: Bed) -> None:
    ran = await bed.kubectl("logs", "-f", "deploy/talking", timeout=1.0)
    assert ran.outcome == ("failed", "timed_out")


# -- changes ----------------------------------------------------------------------------------------


def settings(text: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{text: {text}}}\n"


async def test_a_manifest_is_applied_on_the_servers_side_and_deleted(bed: Bed) -> None:
    ran = await bed.kubectl("apply", "-f", "-", stdin=settings("one"))
    assert (ran.outcome, ran.lines) == (("succeeded", ""), ["configmap/settings serverside-applied"])
    found = json.loads((await bed.kubectl("get", "cm", "settings", "-o", "json")).out)
    assert found["data"] == {"text": "one"}
    assert "Data:\n  text: one" in (await bed.kubectl("describe", "cm", "settings")).out
    dry = await bed.kubectl("apply", "-f", "-", "--dry-run=server", stdin=settings("two"))
    assert dry.lines == ["configmap/settings serverside-applied (server dry run)"]
    assert (await bed.kubectl("get", "cm", "settings", "-o", "jsonpath={.data.text}")).out == "one"
    gone = await bed.kubectl("delete", "-f", "-", stdin=settings("one"))
    assert gone.lines == ['configmap "settings" deleted']
    assert (await bed.kubectl("delete", "cm", "settings", "--ignore-not-found")).outcome == ("succeeded", "")


async def test_a_field_of_somebody_else_is_taken_only_by_force(bed: Bed) -> None:
    path = f"/api/v1/namespaces/{bed.place.namespace}/configmaps"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"text": "mine"}}
    bed.place.admin.apply(path, body)
    manifest = settings("ours").replace("settings", "theirs")
    ran = await bed.kubectl("apply", "-f", "-", stdin=manifest)
    assert ran.outcome == ("failed", "command_exit")
    assert "--force-conflicts" in ran.err
    forced = await bed.kubectl("apply", "-f", "-", "--force-conflicts", stdin=manifest)
    assert forced.outcome == ("succeeded", "")
    await bed.kubectl("delete", "cm", "theirs")


async def test_a_workload_is_scaled_restarted_followed_and_taken_back(bed: Bed) -> None:
    name = f"web-{secrets.token_hex(2)}"
    first = json.dumps(workload(name, "/bin/sh", "-c", "exec sleep 100000"))
    second = json.dumps(workload(name, "/bin/sh", "-c", "exec sleep 100001"))
    assert (await bed.kubectl("apply", "-f", "-", stdin=first)).outcome == ("succeeded", "")
    assert (await bed.kubectl("rollout", "status", f"deploy/{name}")).outcome == ("succeeded", "")
    assert (await bed.kubectl("scale", f"deploy/{name}", "--replicas=2")).lines == [f"deployment.apps/{name} scaled"]
    wrong = await bed.kubectl("scale", f"deploy/{name}", "--replicas=1", "--current-replicas=7")
    assert wrong.outcome == ("failed", "command_exit")
    restarted = await bed.kubectl("rollout", "restart", f"deploy/{name}")
    assert restarted.lines == [f"deployment.apps/{name} restarted"]
    changed = await bed.kubectl("apply", "-f", "-", "--force-conflicts", stdin=second)
    assert changed.outcome == ("succeeded", ""), changed
    followed = await bed.kubectl("rollout", "status", f"deploy/{name}")
    assert followed.lines[-1] == f'deployment "{name}" successfully rolled out'
    past = await bed.kubectl("rollout", "history", f"deploy/{name}")
    assert [line.split()[0] for line in past.lines[2:]] == ["1", "2", "3"]
    back = await bed.kubectl("rollout", "undo", f"deploy/{name}", "--to-revision=1")
    assert back.lines == [f"deployment.apps/{name} rolled back"]
    asked = ("get", "deploy", name, "-o", "jsonpath={.spec.template.spec.containers[0].command[2]}")
    assert (await bed.kubectl(*asked)).out == "exec sleep 100000"
    assert (await bed.kubectl("delete", f"deploy/{name}")).outcome == ("succeeded", "")


async def test_pods_are_described_with_their_events(bed: Bed) -> None:
    name = await talking_pod(bed)
    told = (await bed.kubectl("describe", "pod", name)).out
    assert f"Name:         {name}" in told
    assert "Controlled By: ReplicaSet/" in told
    assert "  State: running" in told
    assert "Events:\n" in told
    assert "Scheduled" in told


async def test_use_is_told_or_said_to_be_unknown(bed: Bed) -> None:
    ran = await bed.kubectl("top", "pods")
    if ran.outcome[0] == "succeeded":
        assert ran.err == "No resources found\n" or ran.lines[0].split() == ["NAME", "CPU(CORES)", "MEMORY(BYTES)"]
    else:
        assert "Metrics API not available" in ran.err


# -- nodes ------------------------------------------------------------------------------------------


NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"labels": {"towline.dev/test": "drain"}},
    "spec": {"taints": [{"key": "towline.dev/test", "effect": "NoSchedule"}]},
}


@pytest.fixture
def node(place: Place) -> Iterator[str]:
    """A node that nobody runs, so that a drain disturbs nothing; its pods never begin."""
    name = f"drained-{secrets.token_hex(3)}"
    place.admin.ask("POST", "/api/v1/nodes", {**NODE, "metadata": {**NODE["metadata"], "name": name}})
    rbac = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "subjects": [{"kind": "User", "name": f"towline:{name}", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"},
    }
    place.admin.ask("POST", rbac, binding)
    try:
        yield name
    finally:
        place.admin.ask("DELETE", f"{rbac}/{name}")
        place.admin.ask("DELETE", f"/api/v1/nodes/{name}")


def stuck(place: Place, node: str, name: str, **labels: str) -> str:
    """Put a pod on a node; returns its path."""
    container = {"name": "main", "image": SHELL_IMAGE}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0},
    }
    path = f"/api/v1/namespaces/{place.namespace}/pods"
    place.admin.ask("POST", path, body)
    return f"{path}/{name}"


async def test_a_node_is_cordoned_and_taken_back(bed: Bed, node: str) -> None:
    who = {"user": f"towline:{node}"}
    assert (await bed.kubectl("cordon", node, **who)).lines == [f"node/{node} cordoned"]
    assert (await bed.kubectl("cordon", node, **who)).lines == [f"node/{node} already cordoned"]
    assert (await bed.kubectl("uncordon", "-l", "towline.dev/test=drain", **who)).lines == [f"node/{node} uncordoned"]


async def test_a_drain_evicts_within_budgets(bed: Bed, node: str) -> None:
    who = {"user": f"towline:{node}"}
    path = stuck(bed.place, node, "alone", app="guarded")
    refused = await bed.kubectl("drain", node, **who)
    assert refused.outcome == ("failed", "command_exit")
    assert "no controller makes it anew" in refused.err
    drained = await bed.kubectl(
        "drain", node, "--force", "--ignore-daemonsets", "--grace-period=0", timeout=50.0, **who
    )
    assert drained.outcome == ("succeeded", ""), drained
    assert drained.lines[-2:] == ["pod/alone evicted", f"node/{node} drained"]
    with pytest.raises(urllib.error.HTTPError):
        bed.place.admin.ask("GET", path)


async def test_who_may_not_drain_does_not(bed: Bed, node: str) -> None:
    ran = await bed.kubectl("drain", node, role="operator")
    assert ran.outcome == ("failed", "command_exit")
    assert "Forbidden" in ran.err


# -- the agent dies ---------------------------------------------------------------------------------


def agent_process(state: Path, config: Path, job: Path) -> subprocess.Popen[str]:
    """An agent of its own that does one job and tells what it says, line by line."""
    argv = [sys.executable, "-m", "tests.support.command_agent", str(state), str(config), str(job)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)


async def killed_at(process: subprocess.Popen[str], words: str) -> None:
    """Kill an agent without a warning as soon as its job has said something."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while words not in (line := await asyncio.to_thread(process.stdout.readline)):
            assert line, "the agent ended by itself"
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    process.stdout.close()


async def test_a_killed_agent_writes_once(bed: Bed, place: Place, tmp_path: Path) -> None:
    path = f"/api/v1/namespaces/{place.namespace}/configmaps"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["towline.dev/test"]}}
    made = place.admin.ask("POST", path, body)
    order = command("kubectl", "delete", "cm", "held", namespace=place.namespace)
    (tmp_path / "job").write_bytes(bytes(orders.encode(order)))
    config = tmp_path / "kubeconfig"
    await killed_at(agent_process(tmp_path / "killed", config, tmp_path / "job"), 'configmap "held" deleted')
    async with agent_host(tmp_path / "killed", kubernetes=bed.host.host.kubernetes) as again:
        again.runner.resume()
        ran = await ended(again, "job_killed")
    assert ran.outcome == ("failed", "interrupted")
    found = place.admin.ask("GET", f"{path}/held")
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    place.admin.ask("PATCH", f"{path}/held", {"metadata": {"finalizers": None}}, "application/merge-patch+json")


async def test_a_killed_agent_reads_anew(bed: Bed, place: Place, tmp_path: Path) -> None:
    name = await talking_pod(bed)
    order = command("kubectl", "logs", "-f", name, namespace=place.namespace)
    (tmp_path / "job").write_bytes(bytes(orders.encode(order)))
    config = tmp_path / "kubeconfig"
    await killed_at(agent_process(tmp_path / "killed", config, tmp_path / "job"), "second")
    async with agent_host(tmp_path / "killed", kubernetes=bed.host.host.kubernetes) as again:
        again.runner.resume()
        await again.said("job_killed", "begins anew")
        async with asyncio.timeout(30):
            while again.texts("job_killed").count("first\nsecond\n") < 2:
                again.published.clear()
                await again.published.wait()
        again.runner.cancel("job_killed")
        ran = await ended(again, "job_killed")
    assert ran.outcome == ("cancelled", "cancelled")
    assert [event.stage for event in ran.events] == ["stdout", "restarted", "stdout"]
