"""Commands as jobs, against a small API server: judged again, bounded, once, whatever happens to the agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.support.agent_host import AgentHost, agent_host
from tests.support.command_host import command, ended, run
from tests.support.small_api import SmallApi, pod

from towline.agent.commands import supervising
from towline.agent.commands.cluster import Cluster
from towline.agent.commands.ending import NotAnnounced
from towline.agent.kubernetes.credentials import Credentials
from towline.agent.policy import CommandRules, ComposeRules, KubernetesRules, LocalPolicy
from towline.commandline.reading import parse
from towline.kube.identity import Identity
from towline.wire import link, orders

DEPLOYMENT = {
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 1},
    "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}},
    "status": {},
}
WEB = "/apis/apps/v1/namespaces/shop/deployments/web"


class WritableApi(SmallApi):
    """Takes changes, and may hold their answers back."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()
        self.answers[WEB] = (200, "application/json", json.dumps(DEPLOYMENT).encode())

    @property
    def writes(self) -> list[str]:
        return [f"{method} {target}" for method, target, _ in self.asked if method != "GET"]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return await super()._answer(request)
        self.asked.append((request.method, request.raw_path, {}))
        self.reached.set()
        await self.open.wait()
        return web.json_response(DEPLOYMENT)


@pytest.fixture
async def api() -> AsyncIterator[WritableApi]:
    api = WritableApi()
    await api.begin()
    yield api
    api.open.set()
    await api.end()


def make(state: Path, api: SmallApi, policy: LocalPolicy | None = None) -> AgentHost:
    return AgentHost(state, kubernetes=Credentials(api.material), policy=policy)


@pytest.fixture
async def host(api: WritableApi, tmp_path: Path) -> AsyncIterator[AgentHost]:
    host = make(tmp_path, api)
    yield host
    await host.stop()


LOG = "shop/web/app"


async def talk(api: SmallApi, *lines: str) -> None:
    """Have a pod that writes."""
    found = pod("web", namespace="shop")
    api.put("pods", found)
    api.answers["/api/v1/namespaces/shop/pods/web"] = (200, "application/json", json.dumps(found).encode())
    await api.write(LOG, *lines)


RESTART = ("rollout", "restart", "deploy/web")


# -- whose they are, and how far they go ------------------------------------------------------------


async def test_an_order_without_an_identity_is_refused(api: WritableApi, host: AgentHost) -> None:
    for user, groups in (("", ("towline:role:admin",)), ("towline:ann", ()), ("system:admin", ("system:masters",))):
        ran = await run(host, "kubectl", *RESTART, namespace="shop", user=user, groups=groups)
        assert ran.outcome == ("refused", "bad_command")
    assert api.asked == []


async def test_every_request_is_made_as_who_asked(api: WritableApi, host: AgentHost) -> None:
    ran = await run(host, "kubectl", "get", "deploy", "web", "-o", "name", namespace="shop", role="viewer")
    assert ran.lines == ["deployment.apps/web"]
    for _, _, fields in api.asked:
        assert fields["impersonate-user"] == "towline:ann"
        assert fields["impersonate-group"] == "towline:role:viewer"


@pytest.mark.parametrize(
    "arguments",
    [("exec", "web", "--", "id"), ("get", "pods", "--as=admin"), ("get", "pods", "--kubeconfig", "/etc/x"), ()],
)
async def test_what_is_not_in_the_closed_list_is_refused_here_too(
    api: WritableApi, host: AgentHost, arguments: tuple[str, ...]
) -> None:
    ran = await run(host, "kubectl", *arguments)
    assert ran.outcome == ("refused", "bad_command")
    assert api.asked == []


@pytest.mark.parametrize("text", ["; rm -rf /", "$(id)", "`id`", "a\nb", "../../secrets", "web%2f..%2fx"])
async def test_arguments_that_look_like_shell_reach_nothing(api: WritableApi, host: AgentHost, text: str) -> None:
    assert (await run(host, "kubectl", "get", "pods", text)).outcome == ("refused", "bad_command")
    assert api.asked == []
    ran = await run(host, "kubectl", "get", "pods", "-l", text, "-o", "name")
    assert ran.outcome[0] == "succeeded"
    ((_, target, _),) = api.asked
    assert target.startswith("/api/v1/namespaces/default/pods?labelSelector=")
    assert "\n" not in target


async def test_a_request_that_was_not_announced_is_not_made(api: WritableApi) -> None:
    plan = parse("kubectl", ["get", "pods", "a"], namespace="shop")
    who = Identity("towline:ann", ("towline:role:viewer",))
    cluster = Cluster(Credentials(api.material), who, plan, LocalPolicy)
    for method, target in (
        ("GET", "/api/v1/namespaces/shop/pods/b"),
        ("GET", "/api/v1/namespaces/other/pods/a"),
        ("GET", "/api/v1/namespaces/shop/secrets/a"),
        ("DELETE", "/api/v1/namespaces/shop/pods/a"),
        ("GET", "/api/v1/namespaces/shop/pods/a/log"),
    ):
        with pytest.raises(NotAnnounced):
            async with cluster.ask(method, target):
                raise AssertionError("it was made")
    assert api.asked == []


# -- the policy of the host -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (LocalPolicy(commands=CommandRules(enabled=False)), "does not allow kubectl commands"),
        (LocalPolicy(commands=CommandRules(programs=("docker",))), "does not allow kubectl commands"),
        (LocalPolicy(commands=CommandRules(read_only=True)), "read only"),
        (LocalPolicy(kubernetes=KubernetesRules(read_only=True)), "allows reading only"),
        (LocalPolicy(kubernetes=KubernetesRules(namespaces=("blog",))), "does not allow the namespace shop"),
        (LocalPolicy(kubernetes=KubernetesRules(enabled=False)), "does not allow kubernetes"),
    ],
)
async def test_the_hosts_owner_has_the_last_word(
    api: WritableApi, tmp_path: Path, policy: LocalPolicy, words: str
) -> None:
    async with agent_host(tmp_path, kubernetes=Credentials(api.material), policy=policy) as host:
        ran = await run(host, "kubectl", *RESTART, namespace="shop")
    assert ran.outcome == ("refused", "forbidden")
    assert words in ran.result.error
    assert api.asked == []


POD = """
apiVersion: v1
kind: ConfigMap
metadata: {name: harmless}
---
apiVersion: v1
kind: Pod
metadata: {name: owner}
spec:
  hostPID: true
  containers: [{name: main, image: x, securityContext: {privileged: true}}]
"""


async def test_a_pod_that_owns_its_node_is_not_applied(api: WritableApi, host: AgentHost) -> None:
    ran = await run(host, "kubectl", "apply", "-f", "-", stdin=POD)
    assert ran.outcome == ("refused", "forbidden")
    assert "pod/owner: container main" in ran.result.error
    assert api.asked == []
    host.policy = LocalPolicy(compose=ComposeRules(privileged=True))
    assert (await run(host, "kubectl", "apply", "-f", "-", stdin=POD)).outcome[0] == "succeeded"
    assert len(api.writes) == 2
    host.policy = LocalPolicy(compose=ComposeRules(privileged=True), commands=CommandRules(workloads=False))
    assert (await run(host, "kubectl", "apply", "-f", "-", stdin=POD)).outcome == ("refused", "forbidden")


async def test_a_policy_that_is_narrowed_ends_what_runs(
    api: WritableApi, host: AgentHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "RECHECK_INTERVAL", 0.05)
    await talk(api, "first")
    job_id = await host.submit("command.run", command("kubectl", "logs", "-f", "web", namespace="shop"))
    await host.said(job_id, "first")
    host.policy = LocalPolicy(commands=CommandRules(enabled=False))
    assert (await ended(host, job_id)).outcome == ("refused", "forbidden")


# -- exactly once -----------------------------------------------------------------------------------


async def test_a_command_that_writes_is_not_begun_twice(api: WritableApi, tmp_path: Path) -> None:
    api.open.clear()
    host = make(tmp_path, api)
    job_id = await host.submit("command.run", command("kubectl", *RESTART, namespace="shop"))
    await asyncio.wait_for(api.reached.wait(), 20)
    await host.stop()
    api.open.set()
    async with agent_host(tmp_path, kubernetes=Credentials(api.material)) as again:
        again.runner.resume()
        ran = await ended(again, job_id)
    assert ran.outcome == ("failed", "interrupted")
    assert "may or may not have happened" in ran.result.error
    assert len(api.writes) == 1


async def test_a_command_that_had_written_nothing_begins_anew(api: WritableApi, tmp_path: Path) -> None:
    host = make(tmp_path, api)
    host.host.journal.accept(_job("job_1"), "", 1.0)
    host.host.journal.begin("job_1", host.host.clock.now().timestamp())
    host.host.journal.keep_plan("job_1", b"begun")
    await host.stop()
    async with agent_host(tmp_path, kubernetes=Credentials(api.material)) as again:
        again.runner.resume()
        ran = await ended(again, "job_1")
    assert ran.outcome == ("succeeded", "")
    assert ran.events[0].stage == "restarted"
    assert len(api.writes) == 1


def _job(job_id: str) -> link.Job:
    order = command("kubectl", *RESTART, namespace="shop")
    return link.Job(job_id=job_id, kind="command.run", fence=1, attempt=1, timeout=600.0, payload=orders.encode(order))


async def test_a_command_that_reads_begins_anew_behind_a_marker(api: WritableApi, tmp_path: Path) -> None:
    await talk(api, "first")
    host = make(tmp_path, api)
    job_id = await host.submit("command.run", command("kubectl", "logs", "-f", "web", namespace="shop"))
    await host.said(job_id, "first")
    await host.stop()
    await api.write(LOG, "second")
    async with agent_host(tmp_path, kubernetes=Credentials(api.material)) as again:
        again.runner.resume()
        await api.finish(LOG)
        ran = await ended(again, job_id)
    assert ran.outcome == ("succeeded", "")
    stages = [event.stage for event in ran.events]
    behind = ran.events[stages.index("restarted") + 1 :]
    assert "".join(event.text for event in behind) == "first\nsecond\n"


async def test_a_repeated_order_writes_once(api: WritableApi, host: AgentHost) -> None:
    order = command("kubectl", *RESTART, namespace="shop")
    for _ in range(3):
        await host.submit("command.run", order, job_id="job_same")
    assert (await ended(host, "job_same")).outcome == ("succeeded", "")
    await host.submit("command.run", order, job_id="job_same")
    assert len(api.writes) == 1


# -- kinds that the cluster adds ---------------------------------------------------------------------


def add_kind(api: SmallApi, *, namespaced: bool) -> None:
    """Serve a kind as custom resource definitions do."""
    served = {
        "/apis/example.org": {"preferredVersion": {"version": "v1beta1"}},
        "/apis/example.org/v1beta1": {
            "resources": [
                {"name": "widgets/status", "kind": "Widget", "namespaced": namespaced},
                {"name": "widgets", "singularName": "widget", "kind": "Widget", "namespaced": namespaced},
            ]
        },
        "/apis/example.org/v1beta1/namespaces/shop/widgets/a": {"metadata": {"name": "a", "namespace": "shop"}},
        "/apis/example.org/v1beta1/widgets": {"metadata": {}, "items": [{"metadata": {"name": "b"}}]},
    }
    for path, body in served.items():
        api.answers[path] = (200, "application/json", json.dumps(body).encode())


async def test_an_added_kind_is_found_by_asking_the_cluster(api: WritableApi, host: AgentHost) -> None:
    add_kind(api, namespaced=True)
    ran = await run(host, "kubectl", "get", "widgets.example.org", "a", "-o", "name", namespace="shop")
    assert ran.lines == ["widget.example.org/a"]
    manifest = "apiVersion: example.org/v1beta1\nkind: Widget\nmetadata: {name: a}\n"
    applied = await run(host, "kubectl", "apply", "-f", "-", namespace="shop", stdin=manifest)
    assert applied.lines == ["widget.example.org/a serverside-applied"]
    assert api.writes[0].startswith("PATCH /apis/example.org/v1beta1/namespaces/shop/widgets/a?fieldManager=towline")


async def test_an_added_kind_of_the_whole_cluster_needs_to_be_asked_for_as_one(
    api: WritableApi, host: AgentHost
) -> None:
    add_kind(api, namespaced=False)
    inside = await run(host, "kubectl", "get", "widgets.example.org", "-o", "name", namespace="shop")
    assert inside.outcome == ("failed", "command_exit")
    assert "add --all-namespaces" in inside.err
    assert (await run(host, "kubectl", "get", "widgets.example.org", "-A", "-o", "name")).lines == [
        "widget.example.org/b"
    ]
    assert not any(target.partition("?")[0].endswith("shop/widgets") for _, target, _ in api.asked)


async def test_a_kind_that_is_not_served_is_told(api: WritableApi, host: AgentHost) -> None:
    ran = await run(host, "kubectl", "get", "gadgets.example.org")
    assert ran.err == "error: the server doesn't have a resource type gadgets.example.org\n"


# -- many, long, large ------------------------------------------------------------------------------


async def test_ten_follow_at_once_and_do_not_hold_up_the_eleventh_for_ever(api: WritableApi, host: AgentHost) -> None:
    await talk(api, "first")
    order = command("kubectl", "logs", "-f", "web", namespace="shop")
    jobs = [await host.submit("command.run", order, timeout=600) for _ in range(10)]
    for job_id in jobs:
        await host.said(job_id, "first")
    late = await host.submit("command.run", order, timeout=600)
    host.runner.cancel(jobs[0])
    assert (await ended(host, jobs[0])).outcome == ("cancelled", "cancelled")
    await host.said(late, "first")
    await api.finish(LOG)
    for job_id in (*jobs[1:], late):
        assert (await ended(host, job_id)).outcome == ("succeeded", "")


async def test_a_flood_is_cut_at_its_bound_and_counted(api: WritableApi, host: AgentHost) -> None:
    await talk(api, *(f"line {number} {'x' * 100}" for number in range(2000)))
    await api.finish(LOG)
    ran = await run(host, "kubectl", "logs", "web", namespace="shop", output_bytes=10_000)
    assert ran.outcome == ("succeeded", "")
    assert len(ran.out) == 10_000
    assert ran.detail.truncated
    assert ran.detail.stdout_bytes > 200_000


async def test_an_api_server_that_is_away_ends_the_command_with_the_reason(api: WritableApi, host: AgentHost) -> None:
    await api.end()
    ran = await run(host, "kubectl", "get", "pods")
    assert ran.outcome == ("failed", "command_exit")
    assert "cannot be reached: connection refused" in ran.err
