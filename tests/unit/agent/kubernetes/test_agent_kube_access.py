"""What the host's owner lets pass: the local policy held against requests as they are written."""

from __future__ import annotations

import pytest

from towline.agent import policy
from towline.agent.errors import PolicyRefused, SettingsError
from towline.agent.kubernetes.access import forbidden, forbidden_directly
from towline.agent.policy import DENY_ALL, KubernetesRules, LocalPolicy
from towline.kube.access import AccessTuple, derive

NS = "/api/v1/namespaces/shop"
ALWAYS = (
    "GET /api", "GET /apis", "GET /api/v1", "GET /apis/apps/v1", "GET /version", "GET /openapi/v3/apis/apps/v1",
    "GET /healthz", "GET /livez/etcd", "GET /readyz",
    "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
    "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
)  # fmt: skip
READS = (
    f"GET {NS}/pods",
    f"GET {NS}/pods?watch=1",
    f"GET {NS}/pods/a",
    f"GET {NS}/pods/a/log",
    f"GET {NS}/pods/a/status",
)
SECRETS = (
    f"GET {NS}/secrets", f"GET {NS}/secrets/a", f"GET {NS}/secrets?watch", f"PUT {NS}/secrets/a", f"POST {NS}/secrets",
    "GET /api/v1/secrets", "GET /api/v1/watch/secrets", "GET /api/v1/watch/namespaces/shop/secrets/a",
    f"DELETE {NS}/secrets", f"POST {NS}/serviceaccounts/a/token",
)  # fmt: skip
SHELLS = (
    f"GET {NS}/pods/a/exec?command=sh", f"POST {NS}/pods/a/exec", f"GET {NS}/pods/a/attach",
    f"GET {NS}/pods/a/portforward", f"PATCH {NS}/pods/a/ephemeralcontainers", "GET /api/v1/nodes/n/proxy/pods",
    "POST /api/v1/nodes/n:10250/proxy/run/shop/a/main",
)  # fmt: skip
WRITES = (
    f"POST {NS}/pods", f"PUT {NS}/pods/a", f"PATCH {NS}/pods/a", f"DELETE {NS}/pods/a", f"DELETE {NS}/pods",
    f"POST {NS}/pods/a/eviction", f"PATCH {NS}/pods/a/status", "POST /apis/apps/v1/namespaces/shop/deployments",
    f"GET {NS}/pods/a/proxy/", f"GET {NS}/services/a:80/proxy/shutdown", "POST /version", "DELETE /healthz",
    "GET /apis/subresources.kubevirt.io/v1/namespaces/shop/virtualmachineinstances/a/console",
)  # fmt: skip
ELSEWHERE = (
    "GET /api/v1/namespaces/other/pods", "GET /api/v1/pods", "GET /api/v1/nodes", "GET /api/v1/namespaces",
    "GET /api/v1/namespaces/other", "GET /api/v1/watch/pods", "GET /metrics", "GET /logs/", "GET /debug/pprof",
    "GET /apis/rbac.authorization.k8s.io/v1/clusterroles", "GET /api/v1/namespaces/shop/nodes/n",
    "GET /apis/rbac.authorization.k8s.io/v1/namespaces/shop/clusterroles/a", "GET /",
)  # fmt: skip


def request(text: str) -> AccessTuple:
    method, _, target = text.partition(" ")
    path, _, query = target.partition("?")
    return derive(method.encode(), path.encode(), query.encode())


@pytest.mark.parametrize("text", [*ALWAYS, *READS, *SECRETS, *SHELLS, *WRITES, *ELSEWHERE])
def test_defaults_leave_it_to_the_cluster(text: str) -> None:
    assert forbidden(KubernetesRules(), request(text)) == ""


@pytest.mark.parametrize("text", ALWAYS)
def test_what_clients_cannot_do_without_always_passes(text: str) -> None:
    strict = KubernetesRules(read_only=True, exec=False, secrets=False, namespaces=())
    assert forbidden(strict, request(text)) == ""
    assert forbidden_directly(request(text)) == ""


def test_read_only_passes_reads_alone() -> None:
    rules = KubernetesRules(read_only=True)
    assert [text for text in (*READS, *SECRETS[:4]) if forbidden(rules, request(text))] == [f"PUT {NS}/secrets/a"]
    assert [text for text in (*WRITES, *SHELLS) if not forbidden(rules, request(text))] == []


def test_without_exec_no_way_leads_into_a_container() -> None:
    rules = KubernetesRules(exec=False)
    assert [text for text in SHELLS if not forbidden(rules, request(text))] == []
    assert [text for text in (*READS, *WRITES) if forbidden(rules, request(text))] == []


def test_without_secrets_none_is_read_written_or_made() -> None:
    rules = KubernetesRules(secrets=False)
    assert [text for text in SECRETS if not forbidden(rules, request(text))] == []
    assert [text for text in (*READS, *WRITES, *SHELLS) if forbidden(rules, request(text))] == []


def test_namespaces_keep_everything_else_out() -> None:
    rules = KubernetesRules(namespaces=("shop", "shop-*"))
    inside = (*READS, f"GET {NS}", f"DELETE {NS}/pods", "GET /api/v1/namespaces/shop-test/pods")
    assert [text for text in inside if forbidden(rules, request(text))] == []
    assert [text for text in ELSEWHERE if not forbidden(rules, request(text))] == []


def test_own_rights_are_for_reading_and_never_for_secrets() -> None:
    allowed = (*READS, "GET /api/v1/nodes", "GET /metrics", "GET /api/v1/pods?watch=1")
    assert [text for text in allowed if forbidden_directly(request(text))] == []
    assert [text for text in (*WRITES, *SHELLS, *SECRETS) if not forbidden_directly(request(text))] == []


@pytest.mark.parametrize("text", ['capabilities = ["compose"]', "[kubernetes]\nenabled = false"])
def test_owner_can_switch_it_off(text: str) -> None:
    import tomllib

    with pytest.raises(PolicyRefused, match="does not allow kubernetes"):
        policy.parse(tomllib.loads(text), "test").require_kubernetes()
    assert LocalPolicy().require_kubernetes() == KubernetesRules()


def test_policy_that_denies_all_denies_kubernetes() -> None:
    with pytest.raises(PolicyRefused):
        DENY_ALL.require_kubernetes()


def test_misspelt_rule_is_an_error() -> None:
    with pytest.raises(SettingsError, match="did you mean 'read_only'"):
        policy.parse({"kubernetes": {"readonly": True}}, "test")
