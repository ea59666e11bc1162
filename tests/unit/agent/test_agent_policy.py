"""The local policy: its file, its words for addresses, and that it never widens."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.agent import policy
from towline.agent.errors import PolicyRefused, SettingsError
from towline.agent.policy import DENY_ALL, ForwardRules, LocalPolicy, load, load_or_deny, may_forward, parse
from towline.agent.settings import AgentSettings
from towline.compose.policy import Level, for_level, stricter

OWN, NEAR = {"10.1.2.3"}, {"172.18.0.5"}


def allowed(targets: tuple[str, ...], host: str, address: str, port: int = 80) -> bool:
    return may_forward(LocalPolicy(forward=ForwardRules(targets=targets)), host, address, port, OWN, NEAR)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "172.18.0.5"])
def test_defaults_reach_this_host_and_its_containers(address: str) -> None:
    assert allowed(policy.DEFAULT_TARGETS, "name", address)


@pytest.mark.parametrize("address", ["10.1.2.4", "8.8.8.8", "192.168.0.1", "169.254.169.254", "::ffff:169.254.169.254"])
def test_defaults_reach_no_other_machine(address: str) -> None:
    assert not allowed(policy.DEFAULT_TARGETS, "name", address)


def test_other_machines_are_reached_when_the_owner_says_so() -> None:
    assert allowed(("10.0.0.0/8:5432",), "db", "10.9.9.9", 5432)
    assert not allowed(("10.0.0.0/8:5432",), "db", "10.9.9.9", 5433)
    assert allowed(("*.shop.internal:8000-8099",), "db.Shop.internal", "192.0.2.1", 8050)
    assert not allowed(("*.shop.internal:8000-8099",), "db.shop.internal", "192.0.2.1", 8100)
    assert allowed(("[2001:db8::1]:22",), "x", "2001:db8::1", 22)


def test_cloud_metadata_is_reached_only_by_its_exact_address() -> None:
    assert not allowed(("*:*",), "169.254.169.254", "169.254.169.254")
    assert not allowed(("0.0.0.0/0:*",), "x", "169.254.169.254")
    assert allowed(("169.254.169.254:80",), "x", "169.254.169.254")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"compos": {}}, "did you mean 'compose'"),
        ({"compose": {"privileged": "yes"}}, "privileged"),
        ({"capabilities": ["compose", "root"]}, r"unknown capabilities \['root'\]"),
        ({"forward": {"targets": ["localhost"]}}, "is not HOST:PORT"),
        ({"forward": {"targets": ["10.0.0.0/99:1"]}}, "10.0.0.0/99"),
        ({"compose": {"bind_folders": ["../x"]}}, "not an absolute folder"),
        ({"gateway": {"sources": ["ingresses"]}}, r"unknown gateway.sources \['ingresses'\]"),
        ({"gateway": {"namespace": ["shop"]}}, "did you mean 'namespaces'"),
    ],
)
def test_wrong_file_is_explained(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(raw, "policy.toml")


def test_while_the_file_is_wrong_nothing_is_allowed(tmp_path: Path) -> None:
    settings = AgentSettings(state_folder=tmp_path)
    (tmp_path / "policy.toml").write_text("capabilities = [")

    found = load_or_deny(settings)

    assert found is DENY_ALL
    for refused in (lambda: found.require("logs"), lambda: found.require_project("x"), lambda: found.require_exec("x")):
        with pytest.raises(PolicyRefused):
            refused()
    with pytest.raises(SettingsError, match="is not TOML"):
        load(settings)


def test_projects_and_commands_are_limited_by_patterns() -> None:
    found = parse({"compose": {"projects": ["shop-*"]}, "exec": {"projects": ["shop-dev"]}}, "x")

    found.require_project("shop-live")
    found.require_exec("shop-dev")
    with pytest.raises(PolicyRefused, match="'blog'"):
        found.require_project("blog")
    with pytest.raises(PolicyRefused):
        found.require_exec("shop-live")
    with pytest.raises(PolicyRefused):
        found.require_exec("")


@given(
    level=st.sampled_from(list(Level)),
    privileged=st.booleans(),
    bind_mounts=st.booleans(),
    host_network=st.booleans(),
    devices=st.booleans(),
)
def test_an_order_never_gets_more_than_the_host_grants(level: Level, **rules: bool) -> None:
    own = parse({"compose": rules}, "x").for_project(Level.PRIVILEGED.value)

    asked = parse({"compose": rules}, "x").for_project(level.value)

    assert asked == stricter(own, asked)
    assert asked == stricter(for_level(level), asked)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"gateway": {"enabled": False}}, "does not allow the gateway"),
        ({"gateway": {"namespaces": ["web"]}}, "does not publish the namespace 'shop'"),
        ({"capabilities": ["kubernetes"]}, "does not allow forward"),
    ],
)
def test_gateway_reaches_what_the_owner_lets_it(raw: dict[str, Any], message: str) -> None:
    found = parse(raw, "policy.toml")
    with pytest.raises(PolicyRefused, match=message):
        found.require_gateway("shop")
    assert not found.may_claim("ingress", "shop")


def test_gateway_is_allowed_unless_the_owner_says_otherwise() -> None:
    LocalPolicy().require_gateway("shop")
    assert LocalPolicy().may_claim("compose")
    found = parse({"gateway": {"namespaces": ["shop-*"], "sources": ["ingress"]}}, "policy.toml")
    found.require_gateway("shop-1")
    assert found.may_claim("ingress", "shop-1")
    assert not found.may_claim("httproute", "shop-1")


def test_wrong_policy_publishes_nothing() -> None:
    with pytest.raises(PolicyRefused):
        DENY_ALL.require_gateway("shop")
    assert not DENY_ALL.may_claim("compose")
