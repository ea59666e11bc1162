"""Roles: a table of requests and the least role that may make them; everybody above may too, nobody below."""

import pytest

from towline.kube.access import AccessTuple, derive
from towline.kube.rules import CLUSTER_SCOPED, ROLES, RULES, allows, is_high_risk, is_namespaced

CORE, NS, POD = b"/api/v1", b"/api/v1/namespaces/a", b"/api/v1/namespaces/a/pods/p"
APPS, RBAC = b"/apis/apps/v1/namespaces/a", b"/apis/rbac.authorization.k8s.io/v1"
CERTIFICATES = b"/apis/certificates.k8s.io/v1/certificatesigningrequests"
HOOKS = b"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"

LEAST = [
    # discovery, health, and about oneself
    (b"GET", b"/api", "viewer"), (b"GET", b"/apis", "viewer"), (b"GET", b"/api/v1", "viewer"),
    (b"GET", b"/apis/apps/v1", "viewer"),
    (b"GET", b"/version", "viewer"), (b"GET", b"/version/", "viewer"), (b"HEAD", b"/healthz", "viewer"),
    (b"GET", b"/livez", "viewer"), (b"GET", b"/readyz/ping", "viewer"), (b"GET", b"/openapi/v2", "viewer"),
    (b"GET", b"/openapi/v3/apis/apps/v1", "viewer"),
    (b"POST", b"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "viewer"),
    (b"POST", b"/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "viewer"),
    (b"POST", b"/apis/authentication.k8s.io/v1/selfsubjectreviews", "viewer"),
    (b"POST", b"/apis/authorization.k8s.io/v1/subjectaccessreviews", "admin"),
    (b"POST", b"/apis/authentication.k8s.io/v1/tokenreviews", "admin"),
    (b"POST", b"/version", "admin"), (b"DELETE", b"/apis/apps/v1", "admin"), (b"OPTIONS", b"/api", "admin"),
    (b"GET", b"/", "admin"), (b"GET", b"/metrics", "admin"), (b"GET", b"/metrics/slis", "admin"),
    (b"GET", b"/logs", "admin"),
    (b"GET", b"/logs/kube-apiserver.log", "admin"), (b"GET", b"/debug/pprof/profile", "admin"),
    (b"GET", b"/configz", "admin"),
    (b"GET", b"/.well-known/openid-configuration", "admin"), (b"GET", b"/API/v1/nodes", "admin"),
    (b"GET", b"/statusz", "admin"), (b"GET", b"/versionx", "admin"),
    # reading
    (b"GET", POD, "viewer"), (b"HEAD", POD, "viewer"), (b"GET", NS + b"/pods", "viewer"),
    (b"GET", CORE + b"/pods", "viewer"),
    (b"GET", NS + b"/pods?watch=1", "viewer"), (b"GET", CORE + b"/watch/pods", "viewer"),
    (b"GET", CORE + b"/nodes/n", "viewer"),
    (b"GET", CORE + b"/namespaces", "viewer"), (b"GET", NS, "viewer"), (b"GET", POD + b"/status", "viewer"),
    (b"GET", NS + b"/configmaps/c", "viewer"), (b"GET", APPS + b"/deployments/d/scale", "viewer"),
    (b"GET", RBAC + b"/clusterroles", "viewer"), (b"GET", NS + b"/serviceaccounts/s", "viewer"),
    (b"GET", b"/apis/metrics.k8s.io/v1beta1/nodes", "viewer"),
    (b"GET", b"/apis/example.test/v1/namespaces/a/things", "viewer"),
    (b"GET", POD + b"/ephemeralcontainers", "viewer"), (b"GET", NS + b"/events", "viewer"),
    (b"GET", CERTIFICATES, "viewer"),
    # what viewers do not see
    (b"GET", NS + b"/secrets/s", "deployer"), (b"GET", NS + b"/secrets", "deployer"),
    (b"GET", CORE + b"/secrets", "deployer"),
    (b"GET", NS + b"/secrets?watch=1", "deployer"), (b"GET", CORE + b"/watch/namespaces/a/secrets", "deployer"),
    (b"GET", CORE + b"/watch/secrets", "deployer"),
    (b"GET", NS + b"/secrets?fieldSelector=metadata.name%3Ds", "deployer"),
    (b"HEAD", NS + b"/secrets/s", "deployer"), (b"GET", b"/apis/example.test/v1/namespaces/a/secrets/s", "deployer"),
    (b"GET", POD + b"/log", "operator"), (b"GET", CORE + b"/watch/namespaces/a/pods/p/log", "deployer"),
    (b"GET", b"/apis/subresources.kubevirt.io/v1/namespaces/a/virtualmachineinstances/v/console", "deployer"),
    (b"GET", b"/apis/subresources.kubevirt.io/v1/namespaces/a/virtualmachineinstances/v/portforward", "deployer"),
    # shells and streams: the method says nothing
    (b"GET", POD + b"/exec", "operator"), (b"POST", POD + b"/exec", "operator"), (b"GET", POD + b"/attach", "operator"),
    (b"POST", POD + b"/attach", "operator"), (b"GET", POD + b"/portforward", "operator"),
    (b"HEAD", POD + b"/exec", "operator"),
    (b"POST", POD + b"/portforward", "operator"), (b"GET", CORE + b"/pods/p/exec", "operator"),
    (b"GET", CORE + b"/watch/namespaces/a/pods/p/exec", "operator"),
    # proxies
    (b"GET", POD + b"/proxy/", "operator"), (b"GET", NS + b"/services/s:80/proxy/x", "operator"),
    (b"POST", POD + b"/proxy/", "deployer"), (b"PUT", NS + b"/services/s/proxy/", "deployer"),
    (b"DELETE", NS + b"/services/s/proxy/", "deployer"), (b"PATCH", POD + b"/proxy/", "deployer"),
    (b"GET", CORE + b"/nodes/n/proxy/", "admin"), (b"GET", CORE + b"/nodes/n/proxy/exec/a/p/c", "admin"),
    (b"POST", CORE + b"/nodes/n/proxy/run/a/p/c", "admin"), (b"GET", NS + b"/nodes/n/proxy/", "admin"),
    (b"GET", CORE + b"/watch/nodes/n/proxy", "admin"), (b"HEAD", CORE + b"/nodes/n/proxy/metrics", "admin"),
    # operating
    (b"DELETE", POD, "operator"), (b"POST", POD + b"/eviction", "operator"), (b"DELETE", NS + b"/pods", "deployer"),
    (b"PATCH", APPS + b"/deployments/d/scale", "operator"), (b"PUT", APPS + b"/statefulsets/s/scale", "operator"),
    (b"PATCH", APPS + b"/deployments/d", "deployer"), (b"PATCH", POD + b"/ephemeralcontainers", "operator"),
    (b"PATCH", b"/apis/example.test/v1/things/t/scale", "admin"), (b"POST", NS + b"/events", "operator"),
    (b"POST", b"/apis/events.k8s.io/v1/namespaces/a/events", "operator"), (b"DELETE", NS + b"/events/e", "deployer"),
    # deploying
    (b"POST", APPS + b"/deployments", "deployer"), (b"PUT", NS + b"/configmaps/c", "deployer"),
    (b"POST", NS + b"/secrets", "deployer"),
    (b"DELETE", NS + b"/secrets", "deployer"), (b"POST", NS + b"/pods", "deployer"),
    (b"POST", NS + b"/serviceaccounts", "deployer"),
    (b"POST", b"/apis/networking.k8s.io/v1/namespaces/a/networkpolicies", "deployer"),
    (b"POST", b"/apis/example.test/v1/namespaces/a/things", "deployer"), (b"PATCH", POD + b"/resize", "deployer"),
    # what deployers may not
    (b"POST", NS + b"/serviceaccounts/s/token", "admin"), (b"POST", RBAC + b"/namespaces/a/roles", "admin"),
    (b"PATCH", RBAC + b"/namespaces/a/rolebindings/r", "admin"), (b"DELETE", RBAC + b"/namespaces/a/roles", "admin"),
    (b"POST", RBAC + b"/clusterrolebindings", "admin"), (b"POST", RBAC + b"/namespaces/a/clusterrolebindings", "admin"),
    (b"PUT", CERTIFICATES + b"/c/approval", "admin"), (b"POST", CERTIFICATES, "admin"), (b"POST", HOOKS, "admin"),
    (b"DELETE", b"/apis/apiregistration.k8s.io/v1/apiservices/v1.apps", "admin"),
    (b"POST", CORE + b"/namespaces", "admin"),
    (b"DELETE", NS, "admin"), (b"PATCH", NS, "admin"), (b"PUT", NS + b"/finalize", "admin"),
    (b"PATCH", CORE + b"/nodes/n", "admin"),
    (b"DELETE", CORE + b"/nodes", "admin"), (b"POST", CORE + b"/persistentvolumes", "admin"),
    (b"POST", CORE + b"/pods", "admin"),
    (b"PUT", NS + b"/nodes/n/status", "admin"), (b"POST", b"/apis/example.test/v1/things", "admin"),
    (b"POST", b"/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "admin"),
]  # fmt: skip


def access_of(method: bytes, target: bytes) -> AccessTuple:
    path, _, query = target.partition(b"?")
    return derive(method, path, query)


@pytest.mark.parametrize(("method", "target", "least"), LEAST)
def test_request_needs_exactly_this_role(method: bytes, target: bytes, least: str) -> None:
    access = access_of(method, target)
    allowed = [role for role in ROLES if allows(role, access).allowed]
    assert allowed == list(ROLES[ROLES.index(least) :])


@pytest.mark.parametrize("role", ["", "Viewer", "root", "cluster-admin", "viewer "])
def test_unknown_role_may_not_even_ask_for_the_version(role: str) -> None:
    assert not allows(role, access_of(b"GET", b"/version")).allowed


@pytest.mark.parametrize(("method", "target", "least"), LEAST)
def test_decision_names_its_rule(method: bytes, target: bytes, least: str) -> None:
    access = access_of(method, target)
    words = {rule.words for rule in RULES}
    for role in ROLES:
        decision = allows(role, access)
        assert decision.allowed == (decision.rule in words or decision.rule.startswith("everyone with access"))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", CORE + b"/pods"), (b"GET", CORE + b"/secrets"), (b"GET", CORE + b"/nodes"),
        (b"GET", CORE + b"/nodes/n"),
        (b"GET", CORE + b"/namespaces"), (b"GET", CORE + b"/namespaces/b/pods"), (b"GET", CORE + b"/namespaces/b"),
        (b"GET", CORE + b"/namespaces?fieldSelector=metadata.name%3Da"), (b"GET", CORE + b"/watch/pods"),
        (b"DELETE", NS), (b"PATCH", NS), (b"PUT", NS + b"/finalize"), (b"POST", CORE + b"/namespaces"),
        (b"GET", NS + b"/nodes/n"), (b"GET", NS + b"/persistentvolumes"), (b"GET", NS + b"/nodes/n/proxy/"),
        (b"GET", RBAC + b"/namespaces/a/clusterroles"), (b"POST", RBAC + b"/namespaces/a/clusterrolebindings"),
        (b"GET", b"/metrics"), (b"GET", b"/logs/a"), (b"GET", b"/"), (b"GET", b"/apis/example.test/v1/things"),
        (b"GET", CORE + b"/namespaces/A/pods"), (b"GET", CORE + b"/pods?namespace=a"),
    ],
)  # fmt: skip
def test_grant_on_a_namespace_reaches_nothing_outside(role: str, method: bytes, target: bytes) -> None:
    decision = allows(role, access_of(method, target), namespace="a")
    assert (decision.allowed, decision.rule) == (False, "the grant reaches one namespace only")


@pytest.mark.parametrize(
    ("method", "target", "least"),
    [
        (b"GET", NS + b"/pods", "viewer"), (b"GET", NS, "viewer"), (b"GET", b"/version", "viewer"),
        (b"GET", b"/openapi/v3", "viewer"), (b"POST", POD + b"/exec", "operator"),
        (b"GET", NS + b"/secrets", "deployer"),
        (b"POST", b"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "viewer"),
        (b"POST", RBAC + b"/namespaces/a/rolebindings", "admin"), (b"POST", NS + b"/serviceaccounts/s/token", "admin"),
    ],
)  # fmt: skip
def test_grant_on_a_namespace_holds_its_role_inside(method: bytes, target: bytes, least: str) -> None:
    access = access_of(method, target)
    allowed = [role for role in ROLES if allows(role, access, namespace="a").allowed]
    assert allowed == list(ROLES[ROLES.index(least) :])


@pytest.mark.parametrize(("group", "resource"), sorted(CLUSTER_SCOPED))
def test_cluster_scoped_resource_stays_so_under_a_namespaced_path(group: str, resource: str) -> None:
    prefix = f"/apis/{group}" if group else "/api"
    access = access_of(b"POST", f"{prefix}/v1/namespaces/a/{resource}/x/y".encode())
    assert not is_namespaced(access)
    assert not allows("owner", access, namespace="a").allowed
    assert not allows("deployer", access).allowed


@pytest.mark.parametrize(
    ("method", "target", "word"),
    [
        (b"GET", CORE + b"/nodes/n/proxy/", "node"), (b"GET", NS + b"/services/s/proxy/", "workload"),
        (b"GET", POD + b"/exec", "shell"), (b"GET", NS + b"/secrets", "secrets"),
        (b"GET", NS + b"/secrets?watch", "secrets"),
        (b"PATCH", POD + b"/ephemeralcontainers", "container"), (b"POST", NS + b"/serviceaccounts/s/token", "token"),
        (b"POST", RBAC + b"/clusterroles", "who may do what"),
        (b"PATCH", RBAC + b"/namespaces/a/rolebindings/r", "who may"),
        (b"PUT", CERTIFICATES + b"/c/approval", "certificate"), (b"POST", HOOKS, "every request"),
        (b"POST", HOOKS.replace(b"validating", b"mutating"), "every request"),
        (b"PUT", b"/apis/apiregistration.k8s.io/v1/apiservices/v1.apps", "part of the API"),
    ],
)  # fmt: skip
def test_high_risk_is_named(method: bytes, target: bytes, word: str) -> None:
    assert word in is_high_risk(access_of(method, target))


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", POD), (b"DELETE", POD), (b"GET", RBAC + b"/clusterroles"), (b"GET", b"/metrics"), (b"GET", HOOKS),
        (b"POST", APPS + b"/deployments"), (b"POST", NS + b"/secrets"), (b"GET", POD + b"/ephemeralcontainers"),
    ],
)  # fmt: skip
def test_everyday_requests_are_no_high_risk(method: bytes, target: bytes) -> None:
    assert is_high_risk(access_of(method, target)) == ""
