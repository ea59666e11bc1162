"""Usage asked of the real kubelet, where the cluster has no metrics API: with a token of an account of its own."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from tests.conftest import need
from tests.support.kube_agent import Admin, make_agent_account, write_kubeconfig
from tests.testbed.kubernetes.cluster import Cluster
from tests.testbed.kubernetes.configuration import KUBELET_PORT, NODE_ADDRESS, NODE_NAME

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.kubernetes.kubelets import Account, KubeletReader
from towline.agent.settings import AgentSettings

pytestmark = pytest.mark.kubernetes

NAMESPACE = "k-kubelets"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
RBAC = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
VERSION = "rbac.authorization.k8s.io/v1"


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = need(request.config, "kubernetes")
    return found


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> Iterator[str]:
    """The token of an agent that may make tokens of the account `stats`."""
    admin = Admin(cluster)
    token = make_agent_account(admin, NAMESPACE, inventory=True)
    rule = {
        "apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["stats"], "verbs": ["create"],
    }  # fmt: skip
    made: list[tuple[str, dict[str, Any]]] = [
        (f"{CORE}/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount"}),
        (f"{RBAC}/roles", {"apiVersion": VERSION, "kind": "Role", "rules": [rule]}),
        (f"{RBAC}/rolebindings", {
            "apiVersion": VERSION, "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "stats"},
            "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": NAMESPACE}],
        }),
    ]  # fmt: skip
    for path, body in made:
        admin.apply(path, body | {"metadata": {"name": "stats"}})
    yield token
    for path in (f"/api/v1/namespaces/{NAMESPACE}", *(f"{kind}/{NAMESPACE}" for kind in CLUSTER_WIDE)):
        with suppress(HTTPError):
            admin.ask("DELETE", path)


CLUSTER_WIDE = (
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
)


def reader(cluster: Cluster, folder: Path, token: str, account: str, authorities: Path | None) -> KubeletReader:
    config = write_kubeconfig(folder / "kubeconfig", cluster, token)
    credentials = Credentials(find_source(AgentSettings(state_folder=folder, kubeconfig=config), {}))
    places = {NODE_NAME: (NODE_ADDRESS, KUBELET_PORT)}
    return KubeletReader(
        Api(credentials), credentials, Account(NAMESPACE, account), lambda: places, authorities=authorities
    )


async def test_the_kubelet_says_what_its_node_and_pods_use(cluster: Cluster, token: str, tmp_path: Path) -> None:
    trusted = cluster.home / "kubelet-certs" / "kubelet.crt"
    reading = await reader(cluster, tmp_path, token, "stats", trusted).read(lambda namespace: True)
    assert (reading.source, reading.reason) == ("kubelet", "")
    cpu, memory = reading.used["node", "", NODE_NAME]
    assert 0 < cpu < 64
    assert memory > 2**20
    assert reading.used["cluster", "", ""] == (cpu, memory)


async def test_a_kubelet_with_a_certificate_of_its_own_is_not_asked(
    cluster: Cluster, token: str, tmp_path: Path
) -> None:
    with pytest.raises(KubernetesError, match=r"no kubelet answers: .*certificate .*is not trusted"):
        await reader(cluster, tmp_path, token, "stats", None).read(lambda namespace: True)


async def test_an_account_that_the_agent_may_not_take_is_a_reason(cluster: Cluster, token: str, tmp_path: Path) -> None:
    with pytest.raises(KubernetesError, match=r"no token to ask the kubelets with: .*403"):
        await reader(cluster, tmp_path, token, "default", None).read(lambda namespace: True)
