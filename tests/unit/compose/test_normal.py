"""One shape for every syntax."""

from typing import Any

import pytest

from towline.compose.document import KeyPath
from towline.compose.normal import from_config, is_true, normalise


def _service(**body: Any) -> tuple[dict[str, Any], list[tuple[KeyPath, str]]]:
    wrong: list[tuple[KeyPath, str]] = []
    model = normalise({"services": {"web": body}}, lambda path, message: wrong.append((path, message)))
    return model["services"]["web"], wrong


PAIRS = [
    ({"environment": ["A=1", "B", "C="]}, {"environment": {"A": "1", "B": None, "C": ""}}),
    ({"environment": {"A": 1, "B": None, "C": True}}, {"environment": {"A": "1", "B": None, "C": "true"}}),
    ({"labels": ["a=1", "b"]}, {"labels": {"a": "1", "b": ""}}),
    ({"depends_on": ["db"]}, {"depends_on": {"db": {}}}),
    ({"networks": ["a"]}, {"networks": {"a": {}}}),
    ({"networks": {"a": None}}, {"networks": {"a": {}}}),
    ({"env_file": "a.env"}, {"env_file": [{"path": "a.env"}]}),
    ({"build": "."}, {"build": {"context": "."}}),
    ({"extends": "base"}, {"extends": {"service": "base"}}),
    ({"tmpfs": "/run"}, {"tmpfs": ["/run"]}),
    ({"secrets": ["a"]}, {"secrets": [{"source": "a"}]}),
    ({"volumes": ["/x"]}, {"volumes": [{"type": "volume", "target": "/x", "read_only": False}]}),
    ({"volumes": ["aa:/x:ro,z"]}, {"volumes": [{"type": "volume", "source": "aa", "target": "/x", "read_only": True}]}),
    ({"volumes": ["./a:/x"]}, {"volumes": [{"type": "bind", "source": "./a", "target": "/x", "read_only": False}]}),
    ({"volumes": [{"target": "/x"}]}, {"volumes": [{"type": "volume", "target": "/x", "read_only": False}]}),
    ({"ports": ["80"]}, {"ports": [{"target": "80", "protocol": "tcp"}]}),
    ({"ports": [80]}, {"ports": [{"target": "80", "protocol": "tcp"}]}),
    ({"ports": ["8080:80/udp"]}, {"ports": [{"target": "80", "published": "8080", "protocol": "udp"}]}),
    ({"ports": ["[::1]::80/tcp"]}, {"ports": [{"target": "80", "host_ip": "::1", "protocol": "tcp"}]}),
    ({"ports": ["127.0.0.1::80"]}, {"ports": [{"target": "80", "host_ip": "127.0.0.1", "protocol": "tcp"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("written", "normal"), PAIRS)
def test_each_syntax_has_one_normal_form_and_the_normal_form_is_its_own(
    written: dict[str, Any], normal: dict[str, Any]
) -> None:
    assert _service(**written) == (normal, [])
    assert _service(**normal) == (normal, [])


@pytest.mark.parametrize(
    "body",
    [
        {"environment": 5}, {"environment": {"A": []}}, {"environment": [{}]}, {"ports": "80:80"}, {"ports": [True]},
        {"volumes": [5]}, {"volumes": ["a:"]}, {"cap_add": "ALL"}, {"secrets": [5]}, {"env_file": [{}]}, {"image": []},
        {"deploy": 1}, {"build": []}, {"network_mode": {}},
    ],
)  # fmt: skip
def test_a_wrong_shape_is_reported_and_left_out(body: dict[str, Any]) -> None:
    _, wrong = _service(**body)
    assert wrong
    assert wrong[0][0][:2] == ("services", "web")


def test_the_old_form_of_external_is_read() -> None:
    model = normalise({"volumes": {"a": {"external": {"name": "b"}}}}, lambda path, message: None)
    assert model["volumes"] == {"a": {"external": True, "name": "b"}}


@pytest.mark.parametrize("value", [True, "yes", "y", "ON", "odd", 1, 5.0])
def test_what_compose_takes_for_true_and_what_is_odd_is_true(value: object) -> None:
    assert is_true(value)


@pytest.mark.parametrize("value", [False, None, "No", "n", "off", "FALSE"])
def test_what_compose_takes_for_false_is_false(value: object) -> None:
    assert not is_true(value)


def test_the_dollar_signs_of_config_are_taken_back() -> None:
    assert from_config({"a": ["$$x", 1, None]}) == {"a": ["$x", 1, None]}
