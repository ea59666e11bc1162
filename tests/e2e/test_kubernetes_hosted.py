"""Verbs of the host's own kubectl, done by the real one against the real cluster as whoever asked."""

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
from tests.testbed import kubectl as clients

from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.policy import KUBECTL_VERBS, CommandRules, LocalPolicy
from towline.agent.settings import AgentSettings

pytestmark = pytest.mark.kubernetes
POLICY = LocalPolicy(commands=CommandRules(kubectl_verbs=KUBECTL_VERBS))


@dataclass(frozen=True)
class Place:
    admin: Admin
    namespace: str
    token: str

    def config_map(self, name: str) -> Any:
        return self.admin.ask("GET", f"/api/v1/namespaces/{self.namespace}/configmaps/{name}")


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    admin = Admin(need(request.config, "kubernetes"))
    namespace = f"hosted-{secrets.token_hex(3)}"
    token = make_agent_account(admin, namespace)
    try:
        yield Place(admin, namespace, token)
    finally:
        admin.ask("DELETE", f"/api/v1/namespaces/{namespace}")
        for kind in ("clusterroles", "clusterrolebindings"):
            admin.ask("DELETE", f"/apis/rbac.authorization.k8s.io/v1/{kind}/{namespace}")


@dataclass
class Bed:
    host: AgentHost
    place: Place

    async def kubectl(self, *arguments: str, **more: Any) -> Ran:
        return await run(self.host, "kubectl", *arguments, **({"namespace": self.place.namespace} | more))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a PATH with the newest kubectl."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "kubectl").symlink_to(clients.ensure().kubectl())
    return folder


@pytest.fixture
async def bed(place: Place, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bed]:
    monkeypatch.setenv("PATH", f"{program}:/usr/bin:/bin")
    config = write_kubeconfig(tmp_path / "kubeconfig", place.admin.cluster, place.token)
    source = find_source(msgspec.structs.replace(AgentSettings(), kubeconfig=config), {})
    async with agent_host(tmp_path / "state", kubernetes=Credentials(source)) as host:
        host.policy = POLICY
        yield Bed(host, place)


def config_map(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": "1"}})


async def test_every_writing_verb_changes_what_it_names(bed: Bed) -> None:
    place = bed.place
    made = await bed.kubectl("create", "-f", "-", stdin=config_map("a"))
    assert (made.outcome, made.out) == (("succeeded", ""), "configmap/a created\n"), made.err

    for words in (
        ("label", "cm/a", "colour=blue"), ("annotate", "configmap", "a", "note=$(id)"),
        ("patch", "cm/a", "-p", '{"data":{"x":"2"}}', "--type=merge"),
    ):  # fmt: skip
        ran = await bed.kubectl(*words)
        assert ran.outcome == ("succeeded", ""), (words, ran.err, ran.result.error)

    found = place.config_map("a")
    assert (found["metadata"]["labels"]["colour"], found["metadata"]["annotations"]["note"]) == ("blue", "$(id)")
    assert found["data"] == {"x": "2"}
    assert {each["manager"] for each in found["metadata"]["managedFields"]} == {"towline"}
    replaced = await bed.kubectl("replace", "-f", "-", stdin=config_map("a"))
    assert (replaced.outcome, replaced.out) == (("succeeded", ""), "configmap/a replaced\n"), replaced.err
    assert place.config_map("a")["data"] == {"x": "1"}
    assert (await bed.kubectl("wait", "cm/a", "--for=jsonpath={.data.x}=1", "--timeout=20s")).outcome[0] == "succeeded"


async def test_every_reading_verb_answers(bed: Bed) -> None:
    for words, said in (
        (("version",), "Server Version: v1."), (("api-versions",), "apps/v1"),
        (("api-resources", "--api-group=apps", "-o", "name"), "deployments.apps"), (("explain", "pods.spec"), "KIND:"),
        (("auth", "whoami"), "towline:ann"), (("auth", "can-i", "get", "pods"), "yes"),
        (("auth", "can-i", "--list"), "selfsubjectreviews"),
    ):  # fmt: skip
        ran = await bed.kubectl(*words)
        assert ran.outcome == ("succeeded", ""), (words, ran.err, ran.result.error)
        assert said in ran.out
    assert (await bed.kubectl("events")).outcome == ("succeeded", "")


async def test_who_may_not_is_refused_by_the_cluster_itself(bed: Bed) -> None:
    ran = await bed.kubectl("create", "-f", "-", stdin=config_map("b"), role="viewer")
    assert (ran.outcome, ran.detail.exit_code) == (("failed", "command_exit"), 1)
    assert 'User "towline:ann" cannot create resource "configmaps"' in ran.err

    # the cluster lets this agent itself read pods everywhere; whoever asks may not
    ran = await bed.kubectl("wait", "pod/a", "--for=delete", "--timeout=5s", namespace="kube-system", role="viewer")
    assert 'User "towline:ann" cannot get resource "pods"' in ran.err, ran.err
    assert (await bed.kubectl("auth", "can-i", "create", "cm", role="viewer")).out == "no\n"
