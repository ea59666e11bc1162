"""Roles, reaches and rights: who may what where."""

from itertools import pairwise

import pytest
from sqlalchemy import Column, MetaData, String, Table, literal
from sqlalchemy.dialects import sqlite

from towline.control.access.giving import reach_contains
from towline.control.access.permissions import (
    ORG_WIDE,
    PERMISSIONS,
    ROLE_ORDER,
    Permission,
    Reach,
    Resource,
    Right,
    Rights,
    Role,
    ScopeKind,
)

SHOP = Resource("org", cluster_id="clu_1", labels={"env": "prod"}, project="shop")
ON_CLUSTER = Reach(ScopeKind.CLUSTER, cluster_id="clu_1")
ON_PROD = Reach(ScopeKind.SELECTOR, selector=(("env", "prod"),))
ON_SHOP = Reach(ScopeKind.PROJECT, cluster_id="clu_1", project="shop")
ON_ANY_SHOP = Reach(ScopeKind.PROJECT, project="shop")
ON_SPACE = Reach(ScopeKind.NAMESPACE, cluster_id="clu_1", namespace="web")


def test_each_role_holds_all_of_the_one_before_it() -> None:
    assert all(PERMISSIONS[lower] < PERMISSIONS[higher] for lower, higher in pairwise(ROLE_ORDER))


def test_every_permission_is_held_by_the_owner_and_by_nobody_without_reason() -> None:
    assert PERMISSIONS[Role.OWNER] == set(Permission)
    assert PERMISSIONS[Role.VIEWER] == {
        Permission.SELF,
        Permission.CLUSTER_READ,
        Permission.DEPLOYMENT_READ,
        Permission.JOB_READ,
        Permission.REGISTRY_READ,
        Permission.ROUTE_READ,
        Permission.ALERT_READ,
    }
    assert Permission.ALERT_MANAGE not in PERMISSIONS[Role.DEPLOYER]
    assert Permission.ROUTE_WRITE not in PERMISSIONS[Role.OPERATOR]
    assert Permission.DOMAIN_MANAGE not in PERMISSIONS[Role.DEPLOYER]
    assert Permission.DEPLOYMENT_WRITE not in PERMISSIONS[Role.OPERATOR]
    assert Permission.EXEC_OPEN not in PERMISSIONS[Role.VIEWER]


@pytest.mark.parametrize("reach", [Reach(), ON_CLUSTER, ON_PROD, ON_SHOP, ON_ANY_SHOP])
def test_a_reach_covers_what_is_inside(reach: Reach) -> None:
    assert reach.covers(SHOP)


@pytest.mark.parametrize(
    "reach",
    [
        Reach(ScopeKind.CLUSTER),
        Reach(ScopeKind.CLUSTER, cluster_id="clu_2"),
        Reach(ScopeKind.SELECTOR),
        Reach(ScopeKind.SELECTOR, selector=(("env", "test"),)),
        Reach(ScopeKind.SELECTOR, selector=(("env", "prod"), ("zone", "a"))),
        Reach(ScopeKind.PROJECT),
        Reach(ScopeKind.PROJECT, project="other"),
        Reach(ScopeKind.PROJECT, cluster_id="clu_2", project="shop"),
        Reach(ScopeKind.NAMESPACE),
        ON_SPACE,
    ],
)
def test_a_reach_does_not_cover_what_is_outside_nor_does_an_empty_one(reach: Reach) -> None:
    assert not reach.covers(SHOP)


def test_a_right_on_a_part_gives_nothing_that_is_about_the_whole() -> None:
    right = Right(Role.OWNER, ON_CLUSTER)
    assert not any(right.gives(permission) for permission in ORG_WIDE)
    assert right.allows(Permission.CLUSTER_MANAGE, SHOP)


def test_a_project_grant_does_not_reach_its_cluster() -> None:
    assert not Right(Role.ADMIN, ON_SHOP).allows(Permission.CLUSTER_READ, Resource("org", cluster_id="clu_1"))


def test_a_limited_token_needs_both_the_grant_and_the_limit() -> None:
    rights = Rights((Right(Role.OWNER),), limit=(Right(Role.VIEWER, ON_CLUSTER),))
    assert rights.allows(Permission.CLUSTER_READ, SHOP)
    assert not rights.allows(Permission.DEPLOYMENT_WRITE, SHOP)
    assert not rights.allows(Permission.CLUSTER_READ, Resource("org", cluster_id="clu_2"))
    assert not Rights((), limit=(Right(Role.OWNER),)).allows(Permission.CLUSTER_READ, SHOP)


def test_rights_without_grants_allow_nothing() -> None:
    assert Rights().permissions() == []
    assert not Rights().sees(SHOP)


def test_scope_says_when_everything_or_nothing_is_covered() -> None:
    assert Rights((Right(Role.VIEWER),)).scope(Permission.CLUSTER_READ).everything
    assert Rights((Right(Role.VIEWER),)).scope(Permission.DEPLOYMENT_WRITE).nothing
    limited = Rights((Right(Role.OWNER),), limit=(Right(Role.VIEWER, ON_CLUSTER),))
    assert not limited.scope(Permission.CLUSTER_READ).everything
    assert limited.scope(Permission.CLUSTER_READ).covers(SHOP)
    assert limited.scope(Permission.CLUSTER_MANAGE).nothing


@pytest.mark.parametrize(
    ("reach", "words"),
    [
        (Reach(), "1 = 1"),
        (ON_CLUSTER, "d.cluster = 'clu_1'"),
        (ON_SHOP, "d.cluster = 'clu_1' AND d.project = 'shop'"),
        (ON_ANY_SHOP, "d.project = 'shop'"),
        (ON_PROD, "'env=prod' = 'x'"),
        (Reach(ScopeKind.CLUSTER), "0 = 1"),
        (Reach(ScopeKind.PROJECT), "0 = 1"),
        (ON_SPACE, "0 = 1"),
    ],
)
def test_the_filter_of_a_list_says_the_same_as_the_rule(reach: Reach, words: str) -> None:
    table = Table("d", MetaData(), Column("cluster", String), Column("project", String))
    scope = Rights((Right(Role.VIEWER, reach),)).scope(Permission.DEPLOYMENT_READ)
    clause = scope.clause(
        cluster_id=table.c.cluster,
        project=table.c.project,
        matches_selector=lambda labels: literal(",".join(f"{key}={value}" for key, value in labels.items())) == "x",
    )
    shown = str(clause.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    assert words in (shown or "1 = 1").replace("1 = 1 OR", "1 = 1")


@pytest.mark.parametrize(
    ("outer", "inner", "contains"),
    [
        (Reach(), ON_SHOP, True),
        (ON_CLUSTER, ON_SHOP, True),
        (ON_CLUSTER, ON_SPACE, True),
        (ON_CLUSTER, ON_PROD, False),
        (ON_CLUSTER, Reach(), False),
        (ON_SHOP, ON_CLUSTER, False),
        (ON_ANY_SHOP, ON_SHOP, True),
        (ON_SHOP, ON_ANY_SHOP, False),
        (ON_PROD, Reach(ScopeKind.SELECTOR, selector=(("env", "prod"), ("zone", "a"))), True),
        (Reach(ScopeKind.SELECTOR, selector=(("env", "prod"), ("zone", "a"))), ON_PROD, False),
        (Reach(ScopeKind.SELECTOR), ON_PROD, False),
        (Reach(ScopeKind.CLUSTER), ON_SHOP, False),
        (ON_ANY_SHOP, Reach(ScopeKind.NAMESPACE, namespace="shop"), False),
    ],
)
def test_nobody_gives_away_more_than_they_reach(outer: Reach, inner: Reach, contains: bool) -> None:
    assert reach_contains(outer, inner) is contains
