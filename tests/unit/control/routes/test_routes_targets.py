"""Targets as people write them, and as they are stored."""

import pytest

from towline.control.routes.targets import TargetInvalid, parse, place_of, restored, shown, stored
from towline.wire.streams import KubeService, Service, Tcp


@pytest.mark.parametrize(
    ("text", "target", "place"),
    [
        ("service/shop/web:80", KubeService(namespace="shop", name="web", port="80"), ("", "shop")),
        ("service/shop/web:http", KubeService(namespace="shop", name="web", port="http"), ("", "shop")),
        ("pod/shop/web-0:8080", KubeService(namespace="shop", name="web-0", port="8080", resource="pod"), ("", "shop")),
        ("compose/shop/web:80", Service(project="shop", service="web", port=80), ("shop", "")),
        ("tcp/10.0.0.7:5432", Tcp(host="10.0.0.7", port=5432), ("", "")),
        ("tcp/[fd00::7]:80", Tcp(host="fd00::7", port=80), ("", "")),
    ],
)
def test_a_target_is_read_shown_and_stored(
    text: str, target: KubeService | Service | Tcp, place: tuple[str, str]
) -> None:
    assert parse(text) == target
    assert shown(target) == text
    assert restored(stored(target)) == target
    assert place_of(target) == place


@pytest.mark.parametrize(
    "text",
    [
        "", "web", "service/web:80", "service/shop/web", "service/shop/web:0", "service/shop/web:70000", "tcp/:80",
        "service/Shop/web:80", "service/shop/web:_x", "compose/shop:80", "compose/shop/web:http", "tcp/a b:80",
        "unix/run/docker.sock:1", "service/shop/we/b:80", "tcp/host:٣", "service/shop/web:" + "9" * 600,
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_what_a_target_looks_like(text: str) -> None:
    with pytest.raises(TargetInvalid, match="write"):
        parse(text)


def test_a_stored_target_of_another_kind_is_not_taken() -> None:
    with pytest.raises(TargetInvalid):
        restored({"kind": "exec", "container": "x"})
