"""Questions in people's words become what the gate judges, and answers become sentences."""

import pytest

from towline.control.access.permissions import Reach, Right, Rights, Role, ScopeKind
from towline.control.kubernetes import explain, words
from towline.control.kubernetes.places import Place
from towline.kube.access import AccessTuple, derive

PROD = Place("cls_1", "org_1", "prod")
VIEWER = Rights((Right(Role.VIEWER),))


@pytest.mark.parametrize(
    ("word", "group", "resource", "subresource"),
    [
        ("pods", "", "pods", ""),
        ("pod", "", "pods", ""),
        ("po/log", "", "pods", "log"),
        ("deploy", "apps", "deployments", ""),
        ("deployments/scale", "apps", "deployments", "scale"),
        ("Deployment", "apps", "deployments", ""),
        ("ing", "networking.k8s.io", "ingresses", ""),
        ("clusterrole", "rbac.authorization.k8s.io", "clusterroles", ""),
        ("events", "", "events", ""),
        ("widgets.towline.test", "towline.test", "widgets", ""),
        ("widgets", "", "widgets", ""),
    ],
)
def test_names_are_taken_as_kubectl_takes_them(word: str, group: str, resource: str, subresource: str) -> None:
    asked = explain.question("get", word, namespace="shop")
    assert (asked.group, asked.resource, asked.subresource) == (group, resource, subresource)


def test_what_lives_in_no_namespace_is_asked_about_without_one() -> None:
    assert explain.question("get", "nodes", namespace="shop").namespace == ""
    assert explain.question("get", "namespaces", namespace="shop").namespace == "shop"
    assert explain.question("get", "roles", namespace="shop").namespace == "shop"
    cell = explain.answer(
        Rights((Right(Role.DEPLOYER),)), PROD, explain.question("delete", "clusterroles", namespace="a")
    )
    assert not cell.verdict.allowed


def test_path_and_missing_verb_are_understood() -> None:
    asked = explain.question("", "/metrics")
    assert (asked.verb, asked.path, asked.is_resource) == ("get", "/metrics", False)
    assert explain.question("", "", path="metrics") == asked
    assert explain.question("", "pods").verb == "get"


def test_sentence_names_answer_rule_role_and_risk() -> None:
    cell = explain.answer(Rights((Right(Role.OPERATOR),)), PROD, explain.question("create", "pods/exec", namespace="a"))
    assert explain.sentence(cell) == (
        "create pods/exec: yes, operators open shells and port-forwards; role: operator on the organisation; "
        "it opens a shell or a connection into a workload"
    )
    refused = explain.answer(VIEWER, PROD, explain.question("create", "pods/exec", namespace="a"))
    assert explain.sentence(refused) == (
        "create pods/exec: no, no rule of the role viewer covers this; role: viewer on the organisation"
    )


def test_table_has_each_resource_once_and_numbers_each_reason() -> None:
    rights = Rights((Right(Role.VIEWER), Right(Role.DEPLOYER, Reach(ScopeKind.NAMESPACE, namespace="shop"))))
    cells = list(explain.matrix(rights, PROD, "shop"))
    rows = explain.rows(cells)
    assert len(rows) == len(explain.TABLE)
    assert sum(len(by_verb) for _, by_verb in rows) == len(cells)
    reasons = explain.reasons(cells)
    assert list(reasons.values()) == list(range(1, len(reasons) + 1))
    assert ("viewers read everything but secrets, logs, shells and proxies", "viewer on the organisation") in reasons


@pytest.mark.parametrize(
    ("line", "query"),
    [
        (b"/api/v1/namespaces/a/pods/b/log", "verb=get&resource=pods/log&namespace=a"),
        (b"/apis/apps/v1/namespaces/a/deployments/b/scale", "verb=get&resource=deployments.apps/scale&namespace=a"),
        (b"/metrics/x", "verb=get&resource=/metrics/x"),
        (b"/a&b=%20c", "verb=get&resource=/a%26b%3D%2520c"),
    ],
)
def test_address_of_the_page_asks_the_question_again(line: bytes, query: str) -> None:
    assert words.explained_at("prod", derive(b"GET", line, b"")) == f"/clusters/prod/access?{query}"


def test_address_of_the_page_stays_short() -> None:
    assert len(words.explained_at("prod", AccessTuple("get", path="/" + "x" * 5000, is_resource=False))) < 300
