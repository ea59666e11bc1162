"""The inventory against the real cluster: what runs there, what is not well, and an agent with few rights."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from tests.conftest import need
from tests.support.kube_agent import Admin, write_kubeconfig
from tests.support.scripted_agent import until
from tests.testbed.kubernetes.cluster import Cluster
from tests.testbed.kubernetes.configuration import SHELL_IMAGE

from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.kubernetes.inventory import KubernetesInventory
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.agent.settings import AgentSettings
from towline.aio.tasks import TaskOwner
from towline.wire import kube_inventory as wire
from towline.wire import link

pytestmark = pytest.mark.kubernetes

NAMESPACE = "k4-inventory"
CORE, APPS = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/apps/v1/namespaces/{NAMESPACE}"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
WAIT = 60.0
EVERYTHING = KubernetesRules()


class Known:
    """What a control plane would know from the messages of one link."""

    def __init__(self) -> None:
        self.about = wire.About()
        self.entries: dict[str, dict[str, Any]] = {section: {} for section in wire.SECTIONS}
        self.messages: list[link.KubeInventory] = []

    async def send(self, message: link.KubeInventory) -> None:
        assert link.decode(link.encode(message)) == message
        self.messages.append(message)
        if message.full:
            self.entries = {section: {} for section in wire.SECTIONS}
        self.about = message.about or self.about
        for gone in message.removed:
            self.entries[gone.section].pop(gone.key, None)
        for section in wire.SECTIONS:
            self.entries[section] |= {wire.entry_key(one): one for one in getattr(message, section)}

    def pod_of(self, owner: str) -> Any:
        """A pod that is not well, of one workload."""
        return next((one for one in self.entries["pods"].values() if one.owner == owner), None)


@pytest.fixture(scope="module")
def kubernetes(request: pytest.FixtureRequest) -> Cluster:
    cluster: Cluster = need(request.config, "kubernetes")
    return cluster


@pytest.fixture
def admin(kubernetes: Cluster) -> Iterator[Admin]:
    """An administrator with an empty namespace."""
    admin = Admin(kubernetes)
    admin.apply("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    yield admin
    for name in ("broken", "fine"):
        _remove(admin, f"{APPS}/deployments/{name}")


def _remove(admin: Admin, path: str) -> None:
    with suppress(HTTPError):
        admin.ask("DELETE", path, {"propagationPolicy": "Background"})


def _account(admin: Admin, name: str, rules: list[dict[str, Any]], *, everywhere: bool) -> str:
    """A ServiceAccount with these rights, in the namespace or everywhere. Returns: its token."""
    version = "rbac.authorization.k8s.io/v1"
    prefix, where = ("Cluster", RBAC) if everywhere else ("", f"{RBAC}/namespaces/{NAMESPACE}")
    whole = f"k4-{name}"
    admin.apply(f"{CORE}/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    role = {"apiVersion": version, "kind": f"{prefix}Role", "metadata": {"name": whole}, "rules": rules}
    admin.apply(f"{where}/{prefix.lower()}roles", role)
    binding = {
        "apiVersion": version, "kind": f"{prefix}RoleBinding", "metadata": {"name": whole},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": f"{prefix}Role", "name": whole},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
    }  # fmt: skip
    admin.apply(f"{where}/{prefix.lower()}rolebindings", binding)
    made = admin.ask("POST", f"{CORE}/serviceaccounts/{name}/token", {"spec": {"expirationSeconds": 3600}})
    return str(made["status"]["token"])


def _readable(*resources: str) -> list[dict[str, Any]]:
    return [{"apiGroups": ["", "apps", "batch"], "resources": list(resources), "verbs": ["get", "list", "watch"]}]


WORKLOADS = ("deployments", "statefulsets", "daemonsets", "jobs", "cronjobs")


def _deployment(name: str, image: str, replicas: int) -> dict[str, Any]:
    container = {
        "name": "main", "image": image, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", "sleep 100000"],
    }  # fmt: skip
    labels = {"app": name}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }  # fmt: skip


@asynccontextmanager
async def following(
    cluster: Cluster, folder: Path, token: str, rules: KubernetesRules = EVERYTHING
) -> AsyncIterator[Known]:
    """Follow the cluster with this token."""
    config = write_kubeconfig(folder / "kubeconfig", cluster, token)
    credentials = Credentials(find_source(AgentSettings(state_folder=folder, kubeconfig=config), {}))
    policy = LocalPolicy(kubernetes=rules)
    inventory = KubernetesInventory(credentials, lambda: policy, service_account=folder)
    known: Any = Known()
    inventory.teller.connected(known)
    async with TaskOwner("inventory") as owner:
        owner.spawn("inventory", inventory.run())
        await until(lambda: known.messages and known.messages[0].full, WAIT)
        yield known


async def test_what_runs_and_what_is_not_well_is_known(kubernetes: Cluster, admin: Admin, tmp_path: Path) -> None:
    token = _account(admin, "reader", _readable("nodes", "namespaces", "pods", "events", *WORKLOADS), everywhere=True)
    admin.apply(f"{APPS}/deployments", _deployment("broken", "registry.invalid/missing:1", 1))
    admin.apply(f"{APPS}/deployments", _deployment("fine", SHELL_IMAGE, 2))
    async with following(kubernetes, tmp_path, token) as known:
        await until(lambda: known.pod_of("broken") is not None, WAIT)
        sick = known.pod_of("broken")
        assert sick.reason.startswith("ErrImageNeverPull (main)")
        assert (sick.owner_kind, sick.namespace) == ("Deployment", NAMESPACE)
        fine = f"Deployment/{NAMESPACE}/fine"
        await until(lambda: fine in known.entries["workloads"] and known.entries["workloads"][fine].ready == 2, WAIT)
        (node,) = known.entries["nodes"].values()
        assert node.ready
        assert node.capacity.cpu >= 1
        assert node.capacity.memory_bytes > 2**28
        await until(lambda: known.about.version, WAIT)
        assert known.about.version.startswith("v1.")
        assert known.about.missing == ()
        counts = known.entries["namespaces"][NAMESPACE].pods
        assert (counts.running, counts.unwell) == (2, 1)


async def test_a_change_is_told_soon_and_a_repair_takes_the_pod_away(
    kubernetes: Cluster, admin: Admin, tmp_path: Path
) -> None:
    token = _account(admin, "reader", _readable("nodes", "namespaces", "pods", "events", *WORKLOADS), everywhere=True)
    async with following(kubernetes, tmp_path, token) as known:
        admin.apply(f"{APPS}/deployments", _deployment("broken", "registry.invalid/missing:1", 1))
        await until(lambda: known.pod_of("broken") is not None, WAIT)
        begun = time.monotonic()
        admin.apply(f"{APPS}/deployments", _deployment("broken", SHELL_IMAGE, 1))
        await until(lambda: known.pod_of("broken") is None, WAIT)
        assert time.monotonic() - begun < WAIT
        assert sum(message.full for message in known.messages) == 1


async def test_an_agent_of_one_namespace_reads_that_one_and_names_what_it_may_not(
    kubernetes: Cluster, admin: Admin, tmp_path: Path
) -> None:
    token = _account(admin, "narrow", _readable("pods", "events", *WORKLOADS), everywhere=False)
    admin.apply(f"{APPS}/deployments", _deployment("broken", "registry.invalid/missing:1", 1))
    async with following(kubernetes, tmp_path, token, KubernetesRules(namespaces=(NAMESPACE,))) as known:
        await until(lambda: known.pod_of("broken") is not None, WAIT)
        assert known.about.namespaces == (NAMESPACE,)
        missing = {one.kind: one.reason for one in known.about.missing}
        assert missing.keys() == {"nodes", "namespaces"}
        assert "forbidden" in missing["nodes"]
        assert set(known.entries["namespaces"]) == {NAMESPACE}


async def test_without_any_rights_everything_is_named_as_missing(
    kubernetes: Cluster, admin: Admin, tmp_path: Path
) -> None:
    token = _account(admin, "blind", [], everywhere=False)
    async with following(kubernetes, tmp_path, token) as known:
        assert {one.kind for one in known.about.missing} >= {"nodes", "namespaces", "pods", "events", *WORKLOADS}
        assert not any(known.entries.values())
