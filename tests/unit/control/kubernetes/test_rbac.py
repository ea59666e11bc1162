"""What a manifest lets the agent and the roles do; and what no profile ever does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from towline.control.kubernetes import profiles, rbac
from towline.control.kubernetes.options import Options
from towline.control.kubernetes.profiles import Profile

OPTIONS = Options(image="x")
GROUPS = {"deployments": "apps", "rolebindings": "rbac.authorization.k8s.io"}
EVERY = [
    replace(OPTIONS, profile=profile, namespaces=("shop", "billing") if profile is Profile.NAMESPACED else ())
    for profile in Profile
]


def made(options: Options) -> list[Any]:
    return list(rbac.objects(options, {}))


def roles(options: Options) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in made(options) if one["kind"] in ("ClusterRole", "Role")}


def bound_to(options: Options, subject: str) -> Iterator[tuple[str, str]]:
    """Yield (role, namespace) of what a subject is bound to; an empty namespace is everywhere."""
    for one in made(options):
        if one["kind"].endswith("Binding") and any(each["name"] == subject for each in one["subjects"]):
            yield one["roleRef"]["name"], one["metadata"].get("namespace", "")


def rules(options: Options, subject: str) -> list[Any]:
    known = roles(options)
    names = {name for name, _ in bound_to(options, subject)}
    names |= {f"{name}:base" for name in names if f"{name}:base" in known}
    return [rule for name in names for rule in known[name]["rules"]]


def grants(options: Options, subject: str, verb: str, resource: str) -> bool:
    group = GROUPS.get(resource, "")
    return any(
        verb in rule["verbs"]
        and {group, "*"} & set(rule.get("apiGroups", ()))
        and {resource, "*"} & set(rule.get("resources", ()))
        and not rule.get("resourceNames")
        for rule in rules(options, subject)
    )


@pytest.mark.parametrize("options", EVERY, ids=lambda options: options.profile)
def test_nobody_is_cluster_admin(options: Options) -> None:
    assert not any(one.get("roleRef", {}).get("name") == "cluster-admin" for one in made(options))
    for role in roles(options).values():
        for rule in role["rules"]:
            assert "*" not in rule["verbs"]
            assert not {"escalate", "bind"} & set(rule["verbs"])


@pytest.mark.parametrize("options", EVERY, ids=lambda options: options.profile)
def test_the_agent_impersonates_our_groups_only(options: Options) -> None:
    for rule in rules(options, "towline-agent"):
        if "impersonate" in rule["verbs"] and "groups" in rule["resources"]:
            assert all(name.startswith("towline:role:") or name == "system:authenticated"
                       for name in rule["resourceNames"])  # fmt: skip
        assert "serviceaccounts" not in rule["resources"] or "impersonate" not in rule["verbs"]
    roles_that_impersonate = {
        name for name, role in roles(options).items() for rule in role["rules"] if "impersonate" in rule["verbs"]
    }
    assert roles_that_impersonate == {"towline-agent:towline:impersonate"}


@pytest.mark.parametrize("options", [one for one in EVERY if one.profile is not Profile.BROAD], ids=lambda o: o.profile)
def test_the_agents_own_account_sees_no_secrets_and_writes_nothing(options: Options) -> None:
    for rule in rules(options, "towline-agent"):
        if "secrets" in rule["resources"]:
            assert rule.get("resourceNames") == ["towline-agent-key"] or rule["verbs"] == ["create"]
        elif rule["resources"] == ["serviceaccounts/token"]:
            assert rule["resourceNames"] == ["towline-agent-stats"]
        elif rule["verbs"] != ["impersonate"]:
            assert set(rule["verbs"]) <= set(profiles.READ)
    assert not grants(options, "towline-agent", "get", "configmaps")
    assert not grants(options, "towline-agent", "get", "nodes/proxy")


def test_the_secret_is_reached_in_the_agents_namespace_alone() -> None:
    assert ("towline-agent", "towline") in set(bound_to(OPTIONS, "towline-agent"))
    assert roles(OPTIONS)["towline-agent"]["kind"] == "Role"


def test_the_inventory_can_be_left_out() -> None:
    without = replace(OPTIONS, inventory=False)
    assert not grants(without, "towline-agent", "list", "nodes")
    assert grants(OPTIONS, "towline-agent", "list", "nodes")


def test_kubelets_see_no_account_but_one_that_reads_statistics() -> None:
    assert grants(OPTIONS, "towline-agent-stats", "get", "nodes/stats")
    assert not grants(OPTIONS, "towline-agent", "get", "nodes/stats")
    (only,) = rules(OPTIONS, "towline-agent-stats")
    assert only["resources"] == ["nodes/stats"]
    made = [rule for rule in rules(OPTIONS, "towline-agent") if rule["resources"] == ["serviceaccounts/token"]]
    assert [(rule["verbs"], rule["resourceNames"]) for rule in made] == [(["create"], ["towline-agent-stats"])]
    assert not list(bound_to(replace(OPTIONS, inventory=False), "towline-agent-stats"))


def test_users_can_be_pinned() -> None:
    pinned = replace(OPTIONS, users=("ada",))
    found = [rule for rule in rules(pinned, "towline-agent") if rule["resources"] == ["users"]]
    assert found[0]["resourceNames"] == ["towline:ada"]


@pytest.mark.parametrize(
    ("role", "verb", "resource", "allowed"),
    [
        ("viewer", "list", "pods", True),
        ("viewer", "get", "secrets", False),
        ("viewer", "get", "pods/log", False),
        ("viewer", "create", "pods/exec", False),
        ("viewer", "get", "nodes/proxy", False),
        ("operator", "get", "pods/log", True),
        ("operator", "get", "pods/exec", True),
        ("operator", "create", "pods/exec", True),
        ("operator", "create", "pods/portforward", True),
        ("operator", "get", "secrets", False),
        ("operator", "create", "deployments", False),
        ("deployer", "create", "deployments", True),
        ("deployer", "get", "secrets", True),
        ("deployer", "create", "serviceaccounts/token", False),
        ("deployer", "create", "rolebindings", False),
        ("deployer", "get", "nodes/proxy", False),
        ("admin", "create", "rolebindings", True),
        ("admin", "get", "nodes/proxy", True),
        ("owner", "get", "nodes/proxy", True),
    ],
)
def test_roles_hold_what_the_rules_of_towline_say(role: str, verb: str, resource: str, allowed: bool) -> None:
    assert grants(OPTIONS, f"towline:role:{role}", verb, resource) is allowed


def test_read_only_lets_every_role_look_and_no_more() -> None:
    options = replace(OPTIONS, profile=Profile.READ_ONLY)
    for role in profiles.ROLES:
        assert grants(options, f"towline:role:{role}", "list", "pods")
        for verb in profiles.WRITE:
            assert not grants(options, f"towline:role:{role}", verb, "pods")
        assert not grants(options, f"towline:role:{role}", "get", "secrets")
    assert "towline:operator" not in roles(options)


def test_namespaced_binds_inside_the_namespaces_only() -> None:
    options = EVERY[list(Profile).index(Profile.NAMESPACED)]
    for role in profiles.ROLES:
        places = {(name, space) for name, space in bound_to(options, f"towline:role:{role}") if not space}
        assert places == {("towline:viewer:namespaced:discovery", "")}
    assert {space for _, space in bound_to(options, "towline:role:deployer") if space} == {"shop", "billing"}
    everywhere = {name for name, space in bound_to(options, "towline-agent") if not space}
    assert everywhere == {"towline-agent:towline:impersonate"}


def test_viewers_gain_what_makers_of_custom_resources_offer_and_not_the_clusters_own_view() -> None:
    role = roles(OPTIONS)["towline:viewer"]
    selector = role["aggregationRule"]["clusterRoleSelectors"][1]
    assert selector["matchLabels"] == {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    assert selector["matchExpressions"] == [{"key": "kubernetes.io/bootstrapping", "operator": "DoesNotExist"}]


def test_every_permission_has_a_reason() -> None:
    sets = (*profiles.ROLE_PERMISSIONS.values(), profiles.INVENTORY, profiles.NODE_STATS, profiles.impersonation())
    assert all(permission.reason.endswith((".", '."', ".)")) for each in sets for permission in each)


def test_the_documentation_gives_the_reason_of_every_permission() -> None:
    page = (Path(__file__).parents[4] / "docs" / "how-to" / "kubernetes-cluster.md").read_text()
    sets = (
        *profiles.ROLE_PERMISSIONS.values(), profiles.INVENTORY, profiles.NODE_STATS, profiles.impersonation(),
        profiles.own_secret("towline-agent-key"), (profiles.stats_account("towline-agent-stats"),),
    )  # fmt: skip
    for permission in (one for each in sets for one in each):
        assert permission.reason in page
        assert all(f"`{name}`" in page for name in (*permission.resources, *permission.urls))
