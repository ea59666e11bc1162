"""Paths of our own API are plain or refused, and Kubernetes clients without a prefix are recognised."""

import pytest

from towline.gateway.paths import api_path_problem, is_stray_kubernetes


@pytest.mark.parametrize(
    "path", [b"/", b"/api/v1/version", b"/a.b/..c/c..", b"/~user/-_.", b"/%C3%A4", b"/a%20b", b"/.well-known/x"]
)
def test_plain_path_may_reach_the_api(path: bytes) -> None:
    assert api_path_problem(path) is None


@pytest.mark.parametrize(
    "path",
    [b"/a/../b", b"/..", b"/.", b"/a/.", b"//", b"/a//b", b"/a;b", b"/a\\b", b"/%2e", b"/%2E%2e", b"/%2f", b"/%5C",
     b"/%00", b"/%0a", b"/%1F", b"/%7f", b"/%25", b"/%3b", b"/%", b"/%4", b"/%g0", b"/%c0%af", b"/%ff", b"/%ed%a0%80"],
)  # fmt: skip
def test_path_with_two_readings_is_refused(path: bytes) -> None:
    assert api_path_problem(path) is not None


@pytest.mark.parametrize(
    "path",
    [b"/api", b"/api/", b"/api/v1", b"/api/v1/", b"/api/v2/x", b"/api/v1/pods", b"/api/v1/namespaces/x/pods/y/exec",
     b"/apis", b"/apis/apps/v1", b"/version", b"/version/", b"/openapi/v2", b"/openapi/v3", b"/api/v1/nodes/n/proxy/x"],
)  # fmt: skip
def test_kubernetes_path_without_a_cluster_is_stray(path: bytes) -> None:
    assert is_stray_kubernetes(path)


@pytest.mark.parametrize(
    "path",
    [b"/", b"/api/v1/version", b"/api/v1/openapi.json", b"/api/v1/docs", b"/api/v1/agents/link", b"/api/v1/clusters/x",
     b"/api/v1/events", b"/apix", b"/versions", b"/k8s/clusters/x/api/v1/pods", b"/healthz", b"/clusters"],
)  # fmt: skip
def test_our_own_path_is_not_stray(path: bytes) -> None:
    assert not is_stray_kubernetes(path)
