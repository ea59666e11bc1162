"""Image references."""

import pytest

from towline.compose import references
from towline.compose.errors import ReferenceRefused
from towline.compose.references import Reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", Reference("docker.io", "library/nginx")),
        ("nginx:1.27", Reference("docker.io", "library/nginx", "1.27")),
        ("acme/web", Reference("docker.io", "acme/web")),
        ("docker.io/nginx", Reference("docker.io", "library/nginx")),
        ("registry.example/acme/web:1", Reference("registry.example", "acme/web", "1")),
        ("localhost/web", Reference("localhost", "web")),
        ("host:5000/a/b:t@" + DIGEST, Reference("host:5000", "a/b", "t", DIGEST)),
        ("[::1]:5000/a", Reference("[::1]:5000", "a")),
    ],
)
def test_references_are_read_as_people_write_them(text: str, expected: Reference) -> None:
    assert references.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "Nginx", "registry@evil", "nginx@sha256:abc", "nginx@md5:" + "a" * 32, "a" * 5000, "-x", "a:",
        "a:" + "t" * 129,
        "a//b", "a/../b", "a b", "a\nb", "nginx:-x", "http://x/y", "x/y@" + DIGEST.upper(), "a..b", "ä",
    ],
)  # fmt: skip
def test_what_no_registry_would_take_is_refused(text: str) -> None:
    with pytest.raises(ReferenceRefused):
        references.parse(text)


@pytest.mark.parametrize(
    ("text", "pattern", "fits"),
    [
        ("nginx:1.27", "nginx", True), ("nginx:1.27", "nginx:1.*", True), ("nginx", "nginx:1.*", False),
        ("nginx", "nginx:latest", True), ("registry.example/acme/web", "registry.example/acme/*", True),
        ("evil.io/registry.example/acme/web", "registry.example/acme/*", False),
        ("registry.example/acme", "registry.example/acme/*", False), ("anything/at/all", "*", True),
        ("evil/nginx", "nginx", False),
        ("nginx@" + DIGEST, "nginx:1.*", False),
    ],
)  # fmt: skip
def test_patterns_match_the_whole_repository(text: str, pattern: str, fits: bool) -> None:
    assert references.matches(references.parse(text), [pattern]) is fits


def test_a_reference_is_pinned_to_a_digest() -> None:
    assert references.parse("nginx:1").pinned(DIGEST) == f"docker.io/library/nginx@{DIGEST}"
    with pytest.raises(ReferenceRefused):
        references.parse("nginx").pinned("latest")
