"""Files that a project names and its bundle does not bring."""

import pytest

from towline.compose.presence import missing
from towline.compose.project import parse

FOLDER = "/srv/shop"


def _missing(body: str, *files: str) -> list[str]:
    parsed = parse(f"services:\n  web:\n    image: a\n    {body}\n", folder=FOLDER)
    return [f"{each.severity} {each}" for each in missing(parsed.project, parsed.document, FOLDER, files)]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ("env_file: web.env", "web.env"),
        ("build: ./img", "img"),
        ("build: .", "."),
        ("extends: {service: a, file: base.yaml}", "base.yaml"),
    ],
)
def test_a_file_that_compose_needs_is_missed_by_name_and_line(body: str, path: str) -> None:
    assert _missing(body)[0].startswith("error line 4: services.web.")
    assert f"'{path}' is not in the bundle" in _missing(body)[0]


def test_what_the_bundle_brings_is_not_missed() -> None:
    assert _missing("env_file: web.env", "web.env") == []
    assert _missing("build: ./img", "img/Dockerfile") == []
    assert _missing("build: .", "Dockerfile") == []


def test_what_is_optional_ours_or_elsewhere_is_not_missed() -> None:
    assert _missing("env_file: [{path: local.env, required: false}]") == []
    assert _missing("env_file: .env") == []
    assert _missing("volumes: ['/etc/localtime:/etc/localtime:ro', './.towline/secrets/key:/key:ro']") == []


def test_a_missing_mount_is_a_warning_when_it_looks_like_a_file() -> None:
    assert _missing("volumes: ['./nginx.conf:/nginx.conf']")[0].startswith("warning line 4")
    assert _missing("volumes: ['./data:/data']") == []
