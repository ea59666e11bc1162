"""Levels, local grants, and the stricter of two."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.compose import policy
from towline.compose.policy import Binds, Context, Level, Policy, Rule, for_level, local, stricter

CONTEXT = Context(folder="/srv/projects/shop", project="shop")


def _rules(body: dict[str, object], rules: Policy) -> set[Rule]:
    model = {"services": {"web": {"image": "registry.example/acme/web:1", **body}}}
    return {violation.rule for violation in policy.check(model, rules, CONTEXT)}


def _volume(text: str) -> dict[str, object]:
    return {"volumes": [text]}


def test_a_host_grants_folders_that_a_project_may_mount() -> None:
    rules = stricter(for_level(Level.STANDARD), local(bind_folders=("/data/shop",)))
    assert _rules(_volume("/data/shop/a:/a"), rules) == set()
    assert _rules(_volume("/data/other:/a"), rules) == {Rule.BIND}
    assert _rules(_volume("/data/shop/../other:/a"), rules) == {Rule.BIND}
    assert _rules(_volume("/data/shopping:/a"), rules) == {Rule.BIND}


def test_a_grant_of_everything_is_no_grant_of_the_system() -> None:
    rules = stricter(for_level(Level.STANDARD), local(bind_folders=("/",)))
    assert _rules(_volume("/data:/a"), rules) == set()
    assert _rules(_volume("/etc/ssl:/a:ro"), rules) == {Rule.SYSTEM_PATH}


def test_a_grant_that_names_a_system_folder_counts() -> None:
    rules = stricter(for_level(Level.STANDARD), local(bind_folders=("/etc/ssl",)))
    assert _rules(_volume("/etc/ssl/certs:/a:ro"), rules) == set()
    assert _rules(_volume("/etc:/a:ro"), rules) == {Rule.SYSTEM_PATH}


def test_a_host_may_refuse_all_bind_mounts() -> None:
    rules = stricter(for_level(Level.STANDARD), local(bind_mounts=False))
    assert _rules(_volume("./conf:/a:ro"), rules) == {Rule.BIND}
    assert _rules(_volume("data:/a"), rules) == set()


def test_a_privileged_project_on_an_ordinary_host_gets_what_the_host_grants() -> None:
    rules = stricter(for_level(Level.PRIVILEGED), local())
    assert _rules({"privileged": True}, rules) == {Rule.LEVEL}
    assert _rules(_volume("/etc:/a"), rules) == {Rule.SYSTEM_PATH}


def test_a_standard_project_on_a_privileged_host_stays_standard() -> None:
    rules = stricter(for_level(Level.STANDARD), local(privileged=True))
    assert _rules({"privileged": True}, rules) == {Rule.LEVEL}
    assert _rules({"network_mode": "host"}, rules) == {Rule.HOST_NETWORK}


def test_both_privileged_is_privileged() -> None:
    rules = stricter(for_level(Level.PRIVILEGED), local(privileged=True))
    body = {"privileged": True, "network_mode": "host", "cap_add": ["ALL"], **_volume("/:/host")}
    assert _rules(body, rules) == set()


def test_a_host_may_grant_its_network_and_devices_alone() -> None:
    rules = stricter(for_level(Level.PRIVILEGED), local(host_network=True, devices=True))
    assert _rules({"network_mode": "host", "gpus": "all", "devices": ["/dev/dri"]}, rules) == set()
    assert _rules({"privileged": True}, rules) == {Rule.LEVEL}


def test_images_must_fit_every_side() -> None:
    host = local(images=("registry.example/acme/*",))
    rules = stricter(for_level(Level.STANDARD), host)
    assert _rules({}, rules) == set()
    assert _rules({"image": "nginx"}, rules) == {Rule.IMAGE}
    assert _rules({"image": "sha256:" + "a" * 64}, rules) == {Rule.IMAGE}
    assert _rules({"build": "."}, rules) == {Rule.BUILD}
    assert _rules({}, stricter(rules, replace(host, images=(("nginx",),)))) == {Rule.IMAGE}


def test_pinning_is_demanded_when_one_side_asks() -> None:
    rules = stricter(for_level(Level.STANDARD), local(require_digest=True))
    assert _rules({}, rules) == {Rule.DIGEST}
    assert _rules({"image": "nginx@sha256:" + "a" * 64}, rules) == set()


def test_only_capabilities_that_both_grant_may_be_added() -> None:
    host = local(capabilities=frozenset({"CHOWN", "SYS_ADMIN"}))
    rules = stricter(for_level(Level.STANDARD), host)
    assert _rules({"cap_add": ["CHOWN"]}, rules) == set()
    assert _rules({"cap_add": ["SYS_ADMIN"]}, rules) == {Rule.CAPABILITY}
    assert _rules({"cap_add": ["KILL"]}, rules) == {Rule.CAPABILITY}


@pytest.mark.parametrize("folder", ["data", "/data/", "/data/../etc", "~/x", ""])
def test_a_granted_folder_must_be_absolute_and_plain(folder: str) -> None:
    with pytest.raises(ValueError, match="absolute"):
        local(bind_folders=(folder,))


_FOLDERS = st.lists(st.sampled_from(["/", "/data", "/data/a", "/srv", "/etc/ssl"]), unique=True).map(tuple)
_POLICIES = st.builds(
    Policy,
    level=st.sampled_from(Level),
    capabilities=st.frozensets(st.sampled_from(["ALL", "CHOWN", "SYS_ADMIN", "NET_ADMIN"])),
    binds=st.sampled_from(Binds),
    bind_folders=_FOLDERS,
    host_network=st.booleans(),
    devices=st.booleans(),
    lowest_port=st.sampled_from([1, 1024]),
    require_digest=st.booleans(),
    images=st.lists(st.sampled_from([("nginx",), ("registry.example/acme/*",)]), unique=True).map(tuple),
)
_BODIES: list[dict[str, object]] = [
    {"privileged": True}, {"cap_add": ["SYS_ADMIN"]}, {"cap_add": ["CHOWN"]}, {"network_mode": "host"}, {"gpus": "all"},
    _volume("/data/a/b:/x"), _volume("/etc/ssl:/x:ro"), _volume("./a:/x"), _volume("/srv/x:/x"), {"ports": ["80:80"]},
    {"image": "nginx"}, {"container_name": "x"}, {"pid": "host"}, _volume("/var/run/docker.sock:/x"), {"build": "."},
]  # fmt: skip


@given(_POLICIES, _POLICIES, st.sampled_from(_BODIES))
def test_two_policies_together_never_allow_what_one_of_them_refuses(
    one: Policy, other: Policy, body: dict[str, object]
) -> None:
    together = _rules(body, stricter(one, other))
    if not together:
        assert not _rules(body, one)
        assert not _rules(body, other)


@given(_POLICIES, _POLICIES)
def test_the_order_of_two_policies_does_not_matter(one: Policy, other: Policy) -> None:
    a, b = stricter(one, other), stricter(other, one)
    assert replace(a, images=()) == replace(b, images=())
    assert set(a.images) == set(b.images)


@given(_POLICIES)
def test_a_policy_joined_with_itself_stays_what_it_is_in_effect(rules: Policy) -> None:
    joined = stricter(rules, rules)
    for body in _BODIES:
        assert _rules(body, joined) == _rules(body, rules)
