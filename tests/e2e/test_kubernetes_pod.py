"""The agent as a real pod of a real cluster: the project's own image, the generated manifest, one key for all pods."""

import base64
import subprocess
from collections.abc import Iterator

import httpx
import pytest
import yaml
from tests.support.pod_stack import IMAGE, NAME, PodStack
from tests.support.product import wait_for
from tests.testbed import bases, kubectl, paths
from tests.testbed.kubernetes import node
from tests.testbed.kubernetes.cluster import Cluster

from towline.control.kubernetes.manifest import Place, render
from towline.control.kubernetes.options import Options, Toleration
from towline.control.kubernetes.profiles import Profile

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(600)]

NAMESPACE = "k6-agent"
JOIN_TIMEOUT = 120.0


@pytest.fixture(scope="module")
def stack(base_images: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodStack]:
    cluster = Cluster()
    bases.build(paths.PROJECT / "build" / "Dockerfile", IMAGE)
    node.load(cluster, IMAGE)
    folder = tmp_path_factory.mktemp("pods")
    with PodStack(folder, cluster, kubectl.ensure(), namespace=NAMESPACE) as stack:
        applied = stack.manifest()["manifest"]
        stack.directly("apply", "-f", "-", content=applied)
        try:
            wait_for(lambda: stack.is_served(NAME), "the pod to join", JOIN_TIMEOUT)
            yield stack
        except AssertionError:
            print(stack.directly("describe", "pods", "-n", NAMESPACE), stack.logs(), stack.log("server"))
            raise
        finally:
            for one in list(yaml.safe_load_all(applied))[::-1]:
                where = ["-n", one["metadata"]["namespace"]] if "namespace" in one["metadata"] else []
                stack.directly("delete", one["kind"], one["metadata"]["name"], "--ignore-not-found", "--wait=false",
                               *where)  # fmt: skip


def test_the_pod_joins_by_itself_and_its_cluster_is_served(stack: PodStack) -> None:
    wait_for(lambda: stack.shown()["health"]["state"] == "healthy", "its first reports", JOIN_TIMEOUT)
    ready = {one["name"]: one for one in stack.shown()["capabilities"]}
    assert ready["kubernetes"]["ready"] is True
    assert "this agent is a pod" in ready["compose"]["reason"]
    with stack.http(stack.owner.token) as client:
        items = client.get(f"/k8s/clusters/{NAME}/api/v1/namespaces/{NAMESPACE}/pods").json()["items"]
    assert [item["metadata"]["name"] for item in items] == [pod["metadata"]["name"] for pod in stack.pods()]


def test_the_pod_is_ready_and_was_never_restarted(stack: PodStack) -> None:
    def is_ready() -> bool:
        statuses = [status for pod in stack.pods() for status in pod["status"].get("containerStatuses", [])]
        return bool(statuses) and all(one["ready"] and one["restartCount"] == 0 for one in statuses)

    wait_for(is_ready, "the pod to be ready", 60)


def test_the_pod_answers_at_its_surface_with_the_token_of_its_secret(stack: PodStack) -> None:
    encoded = stack.directly("get", "secret", "-n", NAMESPACE, "towline-agent-local", "-o", "jsonpath={.data.read}")
    token = base64.b64decode(encoded).decode()
    pod = stack.pods()[0]["metadata"]["name"]
    with stack.forwarded(f"pod/{pod}", 8080) as url, httpx.Client(base_url=url) as client:
        assert client.get("/ready").json()["status"] == "ready"
        assert client.get("/version").status_code == 401
        assert client.get("/version", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert "Content-Security-Policy" in client.get("/").headers
    service = stack.directly("get", "endpoints", "-n", NAMESPACE, "towline-agent", "-o", "json")
    assert '"port": 8080' in service


def test_a_deleted_pod_is_followed_by_another_with_the_same_key(stack: PodStack) -> None:
    before = stack.shown()["agents"][0]
    stack.directly("delete", "pod", "-n", NAMESPACE, stack.pods()[0]["metadata"]["name"], "--wait=true")
    wait_for(lambda: _instance(stack) != before["instance_id"] and stack.is_served(NAME), "its successor", 90)
    after = stack.shown()["agents"]
    assert [(one["id"], one["state"]) for one in after] == [(before["id"], "active")]


def test_two_replicas_are_connected_at_once_and_losing_one_goes_unnoticed(stack: PodStack) -> None:
    made = stack.manifest(replicas=2)
    assert made["replaces"] is True
    stack.directly("apply", "-f", "-", content=made["manifest"])
    wait_for(lambda: len(stack.shown()["agents"][0]["instances"]) >= 2, "two pods to be connected", 120)
    stack.directly("delete", "pod", "-n", NAMESPACE, stack.pods()[0]["metadata"]["name"], "--wait=false", "--now")
    for _ in range(20):
        assert stack.is_served(NAME)
    wait_for(lambda: len(stack.shown()["agents"][0]["instances"]) >= 2, "two pods again", 120)
    assert stack.shown()["agents"][0]["state"] == "active"


def test_people_get_the_rights_of_their_role_from_the_cluster_itself(stack: PodStack) -> None:
    viewer = stack.user("vera", "viewer")
    with stack.http(viewer.token) as client:
        base = f"/k8s/clusters/{NAME}/api/v1/namespaces/{NAMESPACE}"
        assert client.get(f"{base}/pods").status_code == 200
        assert client.get(f"{base}/secrets").status_code == 403


@pytest.mark.parametrize(
    ("group", "verb", "what", "expected"),
    [
        ("viewer", "list", "pods", "yes"),
        ("viewer", "get", "pods --subresource=log", "no"),
        ("viewer", "get", "secrets", "no"),
        ("viewer", "list", "deployments.apps", "yes"),
        ("operator", "create", "pods --subresource=exec", "yes"),
        ("operator", "get", "pods --subresource=exec", "yes"),
        ("operator", "patch", "deployments.apps --subresource=scale", "yes"),
        ("operator", "patch", "deployments.apps", "no"),
        ("deployer", "create", "deployments.apps", "yes"),
        ("deployer", "get", "secrets", "yes"),
        ("deployer", "create", "rolebindings.rbac.authorization.k8s.io", "no"),
        ("deployer", "create", "serviceaccounts --subresource=token", "no"),
        ("deployer", "get", "nodes --subresource=proxy", "no"),
        ("admin", "create", "clusterrolebindings.rbac.authorization.k8s.io", "yes"),
        ("admin", "get", "nodes --subresource=proxy", "yes"),
        ("admin", "get", "/metrics", "yes"),
        ("admin", "escalate", "clusterroles.rbac.authorization.k8s.io", "no"),
        ("admin", "impersonate", "users", "no"),
        ("owner", "delete", "nodes", "yes"),
    ],
)
def test_the_cluster_judges_the_group_of_a_role_as_documented(
    stack: PodStack, group: str, verb: str, what: str, expected: str
) -> None:
    assert _can_i(stack, ["--as=towline:x", f"--as-group=towline:role:{group}"], verb, what) == expected


@pytest.mark.parametrize(
    ("verb", "what", "expected"),
    [
        ("impersonate", "users/towline:ada", "yes"),
        ("impersonate", "groups/towline:role:viewer", "yes"),
        ("impersonate", "groups/system:masters", "no"),
        ("impersonate", "serviceaccounts", "no"),
        ("list", "nodes", "yes"),
        ("list", "secrets", "no"),
        ("get", "secrets/towline-agent-key", "yes"),
        ("get", "secrets/towline-agent-join", "no"),
        ("delete", "pods", "no"),
        ("get", "nodes --subresource=proxy", "no"),
    ],
)
def test_the_agents_own_account_may_what_is_documented(stack: PodStack, verb: str, what: str, expected: str) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:towline-agent"
    assert _can_i(stack, [f"--as={account}"], verb, what) == expected


@pytest.mark.parametrize("profile", list(Profile))
def test_the_api_server_takes_the_manifest_of_every_profile(stack: PodStack, profile: Profile) -> None:
    options = Options(
        image=IMAGE, profile=profile, namespace=NAMESPACE, name="dry", replicas=2, pull_secret="registry",
        namespaces=(NAMESPACE,) if profile is Profile.NAMESPACED else (), priority_class="system-node-critical",
        tolerations=(Toleration("a", "Equal", "b", "NoExecute"), Toleration()), node_selector={"disk": "ssd"},
        proxy="http://a:b@c.example:3128", ca_pem="-----BEGIN CERTIFICATE-----", users=("ada",),
    )  # fmt: skip
    made = render(options, Place(NAME, stack.url, ("sha256:" + "0" * 64,), "twj_x"))
    told = stack.directly("apply", "--dry-run=server", "--validate=strict", "-f", "-", content=made)
    assert "deployment.apps/dry created" in told


def _can_i(stack: PodStack, who: list[str], verb: str, what: str) -> str:
    command = [str(stack.clients.kubectl()), "--kubeconfig", str(stack.cluster.kubeconfig), "auth", "can-i"]
    done = subprocess.run(
        [*command, *who, "-n", NAMESPACE, verb, *what.split()], capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip().splitlines()[-1].split(" ")[0]


def _instance(stack: PodStack) -> str:
    return str(stack.shown()["agents"][0]["instance_id"])
