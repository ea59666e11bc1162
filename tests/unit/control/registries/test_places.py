"""Where credentials may be used, and which hosts may be named."""

import pytest

from towline.control.access.permissions import Reach, ScopeKind
from towline.control.registries.places import HostRefused, Places, Spot, check_host, from_json

SPOT = Spot("clu_a", "shop", {"env": "prod"})


@pytest.mark.parametrize(
    "limit",
    [
        Places(),
        Places(cluster_ids=("clu_b", "clu_a")),
        Places(projects=("shop",)),
        Places(labels={"env": "prod"}),
        Places(cluster_ids=("clu_a",), projects=("shop",), labels={"env": "prod"}),
    ],
)
def test_a_place_that_fits_every_limit_may_use_it(limit: Places) -> None:
    assert limit.allow(SPOT)


@pytest.mark.parametrize(
    "limit",
    [
        Places(cluster_ids=("clu_b",)),
        Places(projects=("blog",)),
        Places(labels={"env": "test"}),
        Places(labels={"zone": ""}),
        Places(cluster_ids=("clu_a",), projects=("blog",)),
    ],
)
def test_a_place_that_misses_one_limit_may_not(limit: Places) -> None:
    assert not limit.allow(SPOT)


@pytest.mark.parametrize(
    ("reach", "limit", "meets"),
    [
        (Reach(), Places(cluster_ids=("clu_b",)), True),
        (Reach(ScopeKind.CLUSTER, cluster_id="clu_a"), Places(), True),
        (Reach(ScopeKind.CLUSTER, cluster_id="clu_a"), Places(cluster_ids=("clu_b",)), False),
        (Reach(ScopeKind.PROJECT, project="shop"), Places(projects=("shop",)), True),
        (Reach(ScopeKind.PROJECT, project="shop"), Places(projects=("blog",)), False),
        (Reach(ScopeKind.PROJECT, project="shop", cluster_id="clu_a"), Places(cluster_ids=("clu_b",)), False),
        (Reach(ScopeKind.NAMESPACE, namespace="shop"), Places(), False),
    ],
)
def test_only_those_who_can_have_to_do_with_it_see_it(reach: Reach, limit: Places, meets: bool) -> None:
    assert limit.may_meet(reach) is meets


def test_limits_come_back_from_the_database_as_they_went_in() -> None:
    limit = Places(("clu_a",), ("shop",), {"env": "prod"})
    assert from_json(limit.as_json()) == limit


@pytest.mark.parametrize(
    "host", ["registry.example", "registry.example:5000", "localhost", "localhost:5000", "127.0.0.1:5000"]
)
def test_hosts_are_taken_as_images_name_them(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize(
    "host",
    [
        "https://registry.example",
        "registry.example/acme",
        "user:secret@registry.example",
        "registry",
        "registry.example:0",
        "registry.example:70000",
        "registry.example:",
        "169.254.169.254",
        "169.254.169.254:80",
        "[fe80::1]:5000",
        "[::ffff:169.254.169.254]",
        "0.0.0.0:5000",
        "-rf.io",
        "a b.io",
        "$(id).io",
        "a.io\n",
        "",
    ],
)
def test_what_is_no_registry_host_is_refused(host: str) -> None:
    with pytest.raises(HostRefused):
        check_host(host)
