"""From a file to a project, and whether it hangs together."""

import json
from pathlib import Path

import pytest

from towline.compose import normal
from towline.compose.model import FileKind, Lifetime
from towline.compose.ports import Published
from towline.compose.problems import Severity
from towline.compose.project import Parsed, build, parse

SHOP = """
services:
  web:
    image: nginx:${TAG:-1.27}
    ports: ["127.0.0.1:8080:80"]
    volumes: [./conf:/etc/nginx:ro, data:/data]
    env_file: web.env
    depends_on: {db: {condition: service_healthy}, migrate: {condition: service_completed_successfully}}
    secrets: [key]
  db: {image: postgres, healthcheck: {test: [CMD, "true"]}, restart: always}
  migrate: {build: ./migrate}
  debug: {image: busybox, profiles: [debug]}
volumes: {data: }
secrets: {key: {file: ./key.txt}}
"""


def _errors(text: str, **more: object) -> list[str]:
    return [str(problem) for problem in parse(text, **more).errors]


def test_a_project_is_read_whole() -> None:
    parsed = parse(SHOP, {}, name="shop", folder="/srv/shop")
    web = parsed.project.services["web"]
    assert parsed.problems == ()
    assert web.image == "nginx:1.27"
    assert web.ports == (Published("127.0.0.1", 8080, 8080, 80, "tcp"),)
    assert [(mount.kind, mount.source, mount.read_only) for mount in web.mounts] == [
        ("bind", "/srv/shop/conf", True),
        ("volume", "data", False),
    ]
    assert parsed.variables() == {"TAG"}


def test_lifetimes_follow_from_what_the_file_says() -> None:
    services = parse(SHOP).project.services
    assert {name: service.lifetime for name, service in services.items()} == {
        "web": Lifetime.LONG, "db": Lifetime.LONG, "migrate": Lifetime.ONE_SHOT, "debug": Lifetime.UNKNOWN,
    }  # fmt: skip


@pytest.mark.parametrize(("profiles", "active"), [("", False), ("a", False), ("debug", True), ("a,*", True)])
def test_services_of_profiles_start_only_when_chosen(profiles: str, active: bool) -> None:
    assert parse(SHOP, {"COMPOSE_PROFILES": profiles}).project.services["debug"].is_active is active


def test_files_that_a_project_needs_are_listed() -> None:
    files = {(use.kind, use.path): use.services for use in parse(SHOP, folder="/srv/shop").project.files}
    assert files == {
        (FileKind.ENV_FILE, "/srv/shop/web.env"): ("web",),
        (FileKind.MOUNT, "/srv/shop/conf"): ("web",),
        (FileKind.BUILD, "/srv/shop/migrate"): ("migrate",),
        (FileKind.SECRET, "/srv/shop/key.txt"): ("web",),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("serices: {}\n", "line 1: serices: unknown section 'serices' (did you mean 'services'?)"),
        ("services: {}\n", "line 1: services: the project has no services (add one under 'services:')"),
        ("services:\n  web: {}\n", "line 2: services.web: web has neither an image nor a build (add 'image:')"),
        (
            "services:\n  web:\n    image: a\n    depends_on: [dbb]\n  db: {image: a}\n",
            "line 4: services.web.depends_on.dbb: web depends on 'dbb', which does not exist (did you mean 'db'?)",
        ),
        (
            "services:\n  web:\n    image: a\n    networks: [front]\n",
            "line 4: services.web.networks.front: web uses network 'front', which is not defined "
            "(define it under 'networks:')",
        ),
        (
            "services:\n  web:\n    image: a\n    ports:\n      - 70000:80\n",
            "line 5: services.web.ports[0]: the published port must be a number from 1 to 65535 "
            '(write it as "8080:80")',
        ),
        (
            "services:\n  web:\n    image: a\n    depends_on: {db: {condition: healthy}}\n  db: {image: a}\n",
            "line 4: services.web.depends_on.db: unknown condition 'healthy' (did you mean 'service_healthy'?)",
        ),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n",
            "line 2: services.a.depends_on: a circle of dependencies: a → b → a (break it)",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_to_do(text: str, expected: str) -> None:
    assert expected in _errors(text)


def test_a_secret_of_the_deployment_needs_no_definition() -> None:
    text = "services: {web: {image: a, secrets: [key]}}"
    assert "not defined" in _errors(text)[0]
    assert _errors(text, secrets={"key"}) == []


def test_another_project_name_in_the_file_is_an_error() -> None:
    text = "name: blog\nservices: {web: {image: a}}"
    assert _errors(text, name="blog") == []
    assert "names the project 'blog'" in _errors(text, name="shop")[0]


@pytest.mark.parametrize("written", ["0777", "1.10", "1e3", "0x1F", "+5"])
def test_numbers_that_yaml_changes_are_warned_about(written: str) -> None:
    parsed = parse(f"services:\n  web:\n    image: a\n    environment:\n      A: {written}\n")
    assert [(problem.line, problem.severity) for problem in parsed.problems] == [(5, Severity.WARNING)]


@pytest.mark.parametrize("written", ["8080", "1.5", "'0777'", "no", "x1", "-5", "1.10.3", "$B", "true"])
def test_values_that_arrive_as_written_are_not(written: str) -> None:
    parsed = parse(f"services:\n  web:\n    image: a\n    environment:\n      A: {written}\n", {"B": "0777"})
    assert parsed.problems == ()


def test_many_services_without_a_circle_are_checked_fast() -> None:
    rows = ["services:", "  s0: {image: a}"]
    for number in range(1, 400):
        needed = ", ".join(f"s{other}" for other in range(max(0, number - 5), number))
        rows.append(f"  s{number}: {{image: a, depends_on: [{needed}]}}")
    assert _errors("\n".join(rows)) == []


def test_wrong_shapes_are_problems_not_crashes() -> None:
    parsed: Parsed = parse("services: {web: {image: [], ports: 5, volumes: x, depends_on: 1, deploy: 1, build: 1}}")
    assert len(parsed.errors) >= 6


def test_what_compose_prints_becomes_the_same_project() -> None:
    printed = json.loads((Path(__file__).parent / "samples" / "config.json").read_bytes())
    model = normal.normalise(normal.from_config(printed), lambda path, message: pytest.fail(message))
    project = build(model, folder="/srv/project")
    assert set(project.services) == {"web", "mig", "own"}
    assert project.services["mig"].lifetime is Lifetime.ONE_SHOT
    assert project.services["web"].body["environment"] == {"PW": "se'cret$x\\", "V": "a b"}
