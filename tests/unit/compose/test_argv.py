"""Argument lists for docker compose."""

import pytest

from towline.compose.argv import PROBES, Compose, Dialect, Pull, detect
from towline.compose.errors import NameRefused
from towline.compose.names import ProjectName

V2 = Dialect(("docker", "compose"), (2, 40, 3))
V1 = Dialect(("docker-compose",), (1, 29, 2))
SHOP = Compose(V2, ProjectName("shop"), "/srv/shop", ("compose.yaml", ".towline/override.yaml"), (".env",))
HEAD = [
    "--project-directory", "/srv/shop", "--project-name", "shop", "--env-file", "/srv/shop/.env",
    "--file", "/srv/shop/compose.yaml", "--file", "/srv/shop/.towline/override.yaml",
]  # fmt: skip
QUIET = ["docker", "compose", *HEAD]
LIVE = ["docker", "compose", "--progress=json", *HEAD]


def test_up_neither_pulls_nor_builds_nor_waits() -> None:
    assert SHOP.up() == [*LIVE, "up", "--detach", "--no-build", "--remove-orphans", "--pull", "never"]


def test_up_can_name_services_and_leave_their_dependencies_alone() -> None:
    found = SHOP.up(["web", "db"], no_deps=True, scales={"web": 3}, recreate=True)
    assert found[-6:] == ["--no-deps", "--force-recreate", "--scale", "web=3", "web", "db"]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (SHOP.config(), [*QUIET, "config", "--format", "json"]),
        (SHOP.config_hashes(), [*QUIET, "config", "--hash", "*"]),
        (SHOP.config_images(), [*QUIET, "config", "--images"]),
        (SHOP.pull(Pull.MISSING), [*LIVE, "pull", "--ignore-buildable", "--policy", "missing"]),
        (SHOP.pull(Pull.ALWAYS, ["web"]), [*LIVE, "pull", "--ignore-buildable", "--policy", "always", "web"]),
        (SHOP.build(pull=True), [*LIVE, "build", "--pull"]),
        (
            SHOP.scale({"web": 3, "db": 0}),
            [
                *[*LIVE, "up", "--detach", "--no-build", "--no-recreate", "--no-deps", "--pull", "never"],
                *["--scale", "web=3", "--scale", "db=0", "web", "db"],
            ],
        ),
        (SHOP.stop(["web"], timeout=5), [*LIVE, "stop", "--timeout", "5", "web"]),
        (SHOP.start(), [*LIVE, "start"]),
        (SHOP.restart(), [*LIVE, "restart"]),
        (SHOP.remove(["web"]), [*LIVE, "rm", "--force", "--stop", "web"]),
        (SHOP.down(), [*LIVE, "down", "--remove-orphans"]),
        (SHOP.down(volumes=True), [*LIVE, "down", "--remove-orphans", "--volumes"]),
        (SHOP.ps(), [*QUIET, "ps", "--all", "--format", "json"]),
    ],
)
def test_each_command_has_its_list(found: list[str], expected: list[str]) -> None:
    assert found == expected


def test_volumes_are_removed_only_when_asked() -> None:
    assert not any("volume" in part or part == "-v" for part in SHOP.down() + SHOP.remove(["web"]))


@pytest.mark.parametrize("name", ["--rm", "-d", "a;id", "", "$(id)", "a b"])
def test_no_name_can_become_an_option(name: str) -> None:
    for build in (SHOP.up, SHOP.stop, SHOP.start, SHOP.restart, SHOP.remove):
        with pytest.raises(NameRefused):
            build([name])
    with pytest.raises(NameRefused):
        SHOP.scale({name: 1})
    with pytest.raises(NameRefused):
        Compose(V2, ProjectName(name), "/srv/shop")


def test_counts_cannot_be_negative_and_folders_are_absolute() -> None:
    with pytest.raises(ValueError, match="negative"):
        SHOP.scale({"web": -1})
    with pytest.raises(ValueError, match="absolute"):
        Compose(V2, ProjectName("shop"), "shop")


def test_version_1_gets_only_what_it_knows() -> None:
    old = Compose(V1, ProjectName("shop"), "/srv/shop")
    head = [
        "docker-compose",
        "--project-directory",
        "/srv/shop",
        "--project-name",
        "shop",
        "--file",
        "/srv/shop/compose.yaml",
    ]
    assert old.up() == [*head, "up", "--detach", "--no-build", "--remove-orphans"]
    assert old.pull(Pull.MISSING) == [*head, "pull", "--quiet"]
    assert old.config() == [*head, "config", "--quiet"]
    assert old.ps() == [*head, "ps", "--quiet"]
    assert old.scale({"web": 2})[-3:] == ["--scale", "web=2", "web"]


@pytest.mark.parametrize(
    ("output", "version"),
    [("2.40.3\n", (2, 40, 3)), ("v2.29.1-desktop.1\n", (2, 29, 1)), ("Docker Compose version v2.5", (2, 5, 0))],
)
def test_the_version_is_found_in_what_a_probe_prints(output: str, version: tuple[int, int, int]) -> None:
    assert detect(PROBES[0], output) == Dialect(("docker", "compose"), version)


def test_a_probe_that_prints_no_version_finds_nothing() -> None:
    assert detect(PROBES[0], "docker: 'compose' is not a docker command.") is None
    assert detect(PROBES[1], "1.29.2") == V1


def test_older_releases_go_without_json_progress_and_pull_policy() -> None:
    dialect = Dialect(("docker", "compose"), (2, 20, 0))
    found = Compose(dialect, ProjectName("shop"), "/srv/shop").pull(Pull.MISSING)
    assert "--progress=json" not in found
    assert "--policy" not in found
