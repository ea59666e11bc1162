"""Which resource a word means."""

from typing import Any

from towline.cli.kube.discovery import Resource, aggregated, listed

PODS = {
    "resource": "pods", "responseKind": {"kind": "Pod"}, "scope": "Namespaced", "singularResource": "pod",
    "shortNames": ["po"],
}  # fmt: skip


def document(*versions: dict[str, Any], group: str = "") -> dict[str, Any]:
    return {"items": [{"metadata": {"name": group} if group else {}, "versions": list(versions)}]}


def test_a_resource_has_its_plural_singular_kind_and_short_names() -> None:
    (found,) = aggregated(document({"version": "v1", "resources": [PODS]}))
    assert found == Resource("", "v1", "pods", True, frozenset({"pods", "pod", "po"}))


def test_the_first_version_of_a_group_is_the_preferred_one() -> None:
    job = {"resource": "cronjobs", "scope": "Namespaced"}
    versions = ({"version": "v1", "resources": [job]}, {"version": "v1beta1", "resources": [job]})
    assert [one.version for one in aggregated(document(*versions, group="batch"))] == ["v1"]


def test_an_old_server_lists_its_resources_and_subresources_are_left_out() -> None:
    entries = [
        {"name": "nodes", "singularName": "", "namespaced": False, "kind": "Node", "shortNames": ["no"]},
        {"name": "nodes/status", "namespaced": False, "kind": "Node"},
    ]
    (found,) = listed("", "v1", {"resources": entries})
    assert found == Resource("", "v1", "nodes", False, frozenset({"nodes", "node", "no"}))


def test_paths_name_group_namespace_and_object() -> None:
    pods, nodes = Resource("", "v1", "pods", True), Resource("", "v1", "nodes", False)
    assert pods.path("shop", "web") == "/api/v1/namespaces/shop/pods/web"
    assert pods.path() == "/api/v1/pods"
    assert nodes.path("shop", "a") == "/api/v1/nodes/a"
    assert Resource("apps", "v1", "deployments", True).path("x") == "/apis/apps/v1/namespaces/x/deployments"


def test_a_name_never_leaves_its_segment() -> None:
    assert Resource("", "v1", "pods", True).path("a/b", "../x") == "/api/v1/namespaces/a%2Fb/pods/..%2Fx"
