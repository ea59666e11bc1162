"""Paths and templates of kubectl."""

import pytest

from towline.commandline import jsonpath
from towline.commandline.errors import BadCommand

LIST = {"items": [
    {"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}}, "spec": {"replicas": 2}},
    {"metadata": {"name": "b"}, "spec": {"ports": [80, 443]}},
]}  # fmt: skip


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.items[*].metadata.name}", "a b"),
        ("{.items[0].spec}", '{"replicas":2}'),
        ("{.items[-1].spec.ports[1]}", "443"),
        ("{.items[0].metadata.labels.app\\.kubernetes\\.io/name}", "x"),
        ("{.items[0].metadata.labels['app.kubernetes.io/name']}", "x"),
        ('{range .items[*]}{.metadata.name}{"\\n"}{end}', "a\nb\n"),
        ("{range .items[*]}{@.metadata.name}, {end}", "a, b, "),
        ("names: {.items[*].metadata.name}.", "names: a b."),
        ("{.nothing.here}", ""),
        ("{$.items[0].metadata.name}", "a"),
        ("plain", "plain"),
    ],
)
def test_templates_are_filled(template: str, text: str) -> None:
    assert jsonpath.fill(jsonpath.template(template), LIST) == text


@pytest.mark.parametrize(
    "template",
    [
        "{.items[?(@.x)]}", "{..name}", "{range .items[*]}", "{end}", "{.a", "{.a[b]}", "{.a[99999999999]}",
        "{" + ".a" * 100 + "}",
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused(template: str) -> None:
    with pytest.raises(BadCommand):
        jsonpath.template(template)


def test_a_path_needs_no_braces() -> None:
    assert jsonpath.find(LIST, jsonpath.path("items[0].metadata.name")) == ["a"]
    assert jsonpath.find(LIST, jsonpath.path("{.items[*].spec.ports[0]}")) == [80]
    assert jsonpath.find(LIST, jsonpath.path(".")) == [LIST]
