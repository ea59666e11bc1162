"""Rights held against one request: reach first, then the highest role, never more than a token's limit."""

import pytest

from towline.control.access.permissions import Reach, Right, Rights, Role, ScopeKind
from towline.control.kubernetes.explain import matrix, question
from towline.control.kubernetes.grants import DISCOVERY, judge
from towline.control.kubernetes.places import Place

PLACE = Place("clu_1", "org_1", "prod", {"env": "prod"})
ORG = Reach()
HERE = Reach(ScopeKind.CLUSTER, cluster_id="clu_1")
ELSEWHERE = Reach(ScopeKind.CLUSTER, cluster_id="clu_2")
SHOP = Reach(ScopeKind.NAMESPACE, cluster_id="clu_1", namespace="shop")
ANY_SHOP = Reach(ScopeKind.NAMESPACE, namespace="shop")
LABELS = Reach(ScopeKind.SELECTOR, selector=(("env", "prod"),))
PROJECT = Reach(ScopeKind.PROJECT, cluster_id="clu_1", project="web")
IN_SHOP = question("list", "pods", namespace="shop")
EVERYWHERE = question("list", "pods")
NODES = question("list", "nodes")


def rights(*held: tuple[Role, Reach], limit: tuple[Role, Reach] | None = None) -> Rights:
    return Rights(tuple(Right(*one) for one in held), None if limit is None else (Right(*limit),))


@pytest.mark.parametrize("reach", [ELSEWHERE, PROJECT, Reach(ScopeKind.SELECTOR, selector=(("env", "test"),))])
def test_cluster_that_no_right_reaches_does_not_exist(reach: Reach) -> None:
    for access in (IN_SHOP, DISCOVERY):
        verdict = judge(rights((Role.OWNER, reach)), PLACE, access)
        assert (verdict.visible, verdict.allowed, verdict.roles) == (False, False, ())


def test_nobody_without_rights_sees_anything() -> None:
    assert not judge(Rights(), PLACE, DISCOVERY).visible


@pytest.mark.parametrize("reach", [ORG, HERE, LABELS])
def test_right_on_the_whole_cluster_reaches_every_request(reach: Reach) -> None:
    for access in (IN_SHOP, EVERYWHERE, NODES, DISCOVERY):
        assert judge(rights((Role.VIEWER, reach)), PLACE, access).allowed


@pytest.mark.parametrize("reach", [SHOP, ANY_SHOP])
def test_right_on_a_namespace_reaches_that_namespace_alone(reach: Reach) -> None:
    held = rights((Role.OWNER, reach))
    assert judge(held, PLACE, IN_SHOP).allowed
    assert judge(held, PLACE, DISCOVERY).allowed
    for access in (EVERYWHERE, NODES, question("get", "pods", namespace="other"), question("get", "", path="/metrics")):
        verdict = judge(held, PLACE, access)
        assert (verdict.visible, verdict.allowed) == (True, False)


def test_highest_role_that_reaches_the_request_counts_with_those_below_it() -> None:
    held = rights((Role.VIEWER, ORG), (Role.DEPLOYER, SHOP))
    assert judge(held, PLACE, IN_SHOP).roles == ("viewer", "operator", "deployer")
    assert judge(held, PLACE, EVERYWHERE).roles == ("viewer",)
    assert judge(held, PLACE, IN_SHOP).where == "namespace shop"


def test_limit_of_a_token_takes_away_and_never_gives() -> None:
    lower = rights((Role.OWNER, ORG), limit=(Role.VIEWER, HERE))
    assert judge(lower, PLACE, IN_SHOP).roles == ("viewer",)
    assert not judge(lower, PLACE, question("create", "pods/exec", namespace="shop")).allowed
    higher = rights((Role.VIEWER, ORG), limit=(Role.OWNER, HERE))
    assert judge(higher, PLACE, IN_SHOP).roles == ("viewer",)
    assert not judge(rights((Role.OWNER, ORG), limit=(Role.OWNER, ELSEWHERE)), PLACE, DISCOVERY).visible
    narrow = rights((Role.OWNER, ORG), limit=(Role.OWNER, SHOP))
    assert judge(narrow, PLACE, IN_SHOP).allowed
    assert not judge(narrow, PLACE, EVERYWHERE).allowed


def test_role_in_one_namespace_and_limit_in_another_meet_nowhere() -> None:
    other = Reach(ScopeKind.NAMESPACE, cluster_id="clu_1", namespace="other")
    held = rights((Role.OWNER, SHOP), limit=(Role.OWNER, other))
    for namespace in ("shop", "other"):
        assert not judge(held, PLACE, question("list", "pods", namespace=namespace)).allowed


def test_matrix_of_a_viewer_holds_no_change_and_no_secret() -> None:
    cells = matrix(rights((Role.VIEWER, ORG)), PLACE, "shop")
    allowed = {(cell.resource, cell.verb) for cell in cells if cell.verdict.allowed}
    assert ("pods", "list") in allowed
    assert {verb for _, verb in allowed} <= {"get", "list", "watch"}
    assert not {resource for resource, _ in allowed} & {"secrets", "pods/log", "pods/exec", "nodes/proxy"}


def test_matrix_of_an_admin_holds_everything() -> None:
    assert all(cell.verdict.allowed for cell in matrix(rights((Role.ADMIN, HERE)), PLACE, ""))
