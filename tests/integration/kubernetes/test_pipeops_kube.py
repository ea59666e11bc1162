"""The real cluster behind a PipeOps agent: kubectl, identities, watches and inventory over its raw stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import need
from tests.support import prepared
from tests.support.control_app import ControlApp
from tests.support.kube_agent import Admin, KubeClient, make_agent_account, make_pod
from tests.support.kubectl import Client
from tests.support.pipeops_carrier import Carrier
from tests.support.pipeops_plane import Plane, eventually, pipeops_plane, until
from tests.testbed.kubernetes import configuration
from tests.testbed.kubernetes.cluster import Cluster

from towline.agent.standin import StandIn
from towline.control.access.permissions import Reach, Right, Role
from towline.control.kubernetes.models import KubeObject
from towline.control.protocols.pipeops.kube import AUTHORITY_PATH
from towline.tunnel.errors import TargetRefused
from towline.wire import streams

pytestmark = pytest.mark.kubernetes

NAMESPACE = "pipeops-ws"
SOMEBODY = streams.Kube(user="towline:ada", groups=("towline:role:viewer",))


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = need(request.config, "kubernetes")
    return found


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> str:
    admin = Admin(cluster)
    made = make_agent_account(admin, NAMESPACE, inventory=True)
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    admin.apply(f"{rbac}/clusterroles", _role(rules))
    admin.apply(f"{rbac}/clusterrolebindings", _binding())
    make_pod(admin, NAMESPACE, "shell")
    return made


def _role(rules: list[dict[str, Any]]) -> dict[str, Any]:
    meta = {"name": f"{NAMESPACE}-authority"}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules}


def _binding() -> dict[str, Any]:
    name = f"{NAMESPACE}-authority"
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": NAMESPACE}],
    }


@pytest.fixture
async def plane(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Plane]:
    async with pipeops_plane(prepared.sqlite_copy(prepared_sqlite, tmp_path), tmp_path, StandIn) as made:
        yield made


@asynccontextmanager
async def carried(plane: Plane, cluster: Cluster, token: str, **more: Any) -> AsyncIterator[Carrier]:
    """A working agent, connected."""
    async with plane.connect() as played:
        carrier = Carrier(played, cluster, token, **more)
        task = asyncio.ensure_future(carrier.run())
        try:
            await until(lambda: plane.links)
            yield carrier
        finally:
            played.writer.close()
            await task


@asynccontextmanager
async def allowed(plane: Plane, cluster: Cluster, token: str, **more: Any) -> AsyncIterator[Carrier]:
    """The same where the registered token may be used."""
    async with carried(plane, cluster, token, **more) as carrier:
        await until(lambda: carrier.cluster_id)
        await plane.running.control.protocols.pipeops.tokens.allow(plane.access, "shop", True)
        await until(lambda: not plane.session.kube.reason)
        yield carrier


async def who_am_i(plane: Plane) -> str:
    client = KubeClient(await plane.session.open_stream(SOMEBODY))
    review = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = await client.ask("POST", path, "Content-Type: application/json", body=review)
    assert answer.status == 201
    name: str = answer.json["status"]["userInfo"]["username"]
    return name


async def test_nothing_is_asked_of_the_cluster_until_an_admin_allowed_it(
    plane: Plane, cluster: Cluster, token: str
) -> None:
    async with carried(plane, cluster, token) as carrier:
        await until(lambda: "may not be used" in plane.session.kube.reason)
        with pytest.raises(TargetRefused, match="--use-registered-token"):
            await plane.session.open_stream(SOMEBODY)
        assert carrier.asked == carrier.dialled == []


async def test_requests_arrive_as_whoever_asked_over_one_raw_stream_each(
    plane: Plane, cluster: Cluster, token: str
) -> None:
    async with allowed(plane, cluster, token) as carrier:
        assert await who_am_i(plane) == "towline:ada"
        assert carrier.asked == [AUTHORITY_PATH]
        assert set(carrier.dialled) == {("default", "kubernetes", 443)}


async def test_the_switch_turned_off_ends_what_runs(plane: Plane, cluster: Cluster, token: str) -> None:
    async with allowed(plane, cluster, token):
        client = KubeClient(await plane.session.open_stream(SOMEBODY))
        await client.send("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?watch=true")
        assert (await client.read_head()).status == 200
        await plane.running.control.protocols.pipeops.tokens.allow(plane.access, "shop", False)
        with pytest.raises(Exception, match="may not be used"):
            while await client.stream.read():
                pass
        with pytest.raises(TargetRefused, match="may not be used"):
            await plane.session.open_stream(SOMEBODY)


async def test_the_clusters_inventory_fills_by_itself(plane: Plane, cluster: Cluster, token: str) -> None:
    async with allowed(plane, cluster, token):

        async def seen() -> bool:
            return NAMESPACE in {row.name for row in await plane.rows(KubeObject)}

        await eventually(seen)


async def test_a_died_yamux_session_is_offered_anew_and_the_cluster_is_there_again(
    plane: Plane, cluster: Cluster, token: str
) -> None:
    async with allowed(plane, cluster, token):
        first = plane.session.connection.mux
        plane.session.connection._drop_yamux("the agent's yamux session died")
        plane.session.connection.offer_yamux()
        await until(lambda: plane.session.connection.mux not in (None, first))
        assert await who_am_i(plane) == "towline:ada"


async def kubectl(plane: Plane, home: Path, request: pytest.FixtureRequest) -> Client:
    """A kubectl that acts through Towline as an admin."""
    control = plane.running.control
    app = ControlApp(control, None, control.settings)
    secret = await app.token("ada", Right(Role.ADMIN, Reach()))
    (home / "authority.pem").write_text(control.tls.material.authority_pem)
    server = f"https://localhost:{plane.running.port}/k8s/clusters/shop"
    config = configuration.kubeconfig(server, home / "authority.pem", "ada", secret)
    client = Client(need(request.config, "kubectl"), "1.37", home)
    configuration.write(client.config, config)
    return client


async def test_kubectl_works_through_the_older_agent(
    plane: Plane, cluster: Cluster, token: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with allowed(plane, cluster, token):
        client = await kubectl(plane, tmp_path, request)

        async def run(*words: str, stdin: str | None = None) -> str:
            done = await asyncio.to_thread(client.succeed, *words, stdin=stdin)
            return done.stdout

        pods = json.loads(await run("get", "pods", "-n", NAMESPACE, "-o", "json"))
        assert [pod["metadata"]["name"] for pod in pods["items"]] == ["shell"]
        assert await run("exec", "-n", NAMESPACE, "shell", "--", "echo", "hello") == "hello\n"
        assert await run("exec", "-i", "-n", NAMESPACE, "shell", "--", "cat", stdin="fed") == "fed"
        assert "started" in await run("logs", "-n", NAMESPACE, "shell")
        await run("delete", "configmap", "-n", NAMESPACE, "made", "--ignore-not-found")
        await run("create", "configmap", "-n", NAMESPACE, "made", "--from-literal=a=b")
        assert await run("get", "configmap", "-n", NAMESPACE, "made", "-o", "jsonpath={.data.a}") == "b"
