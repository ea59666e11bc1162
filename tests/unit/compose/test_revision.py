"""Revisions, and what differs between two."""

import pytest

from towline.compose.diff import Change, Difference, Line, compare, lines
from towline.compose.errors import EnvironmentRefused, NameRefused
from towline.compose.revision import Revision, check_secrets

BASE = """services:
  web:
    image: nginx:1
    ports: ["8080:80"]
    environment: {A: "${A}", DB: "pg://u:${DB_PASSWORD}@db"}
    volumes: [./conf:/etc/nginx:ro]
    secrets: [key]
    env_file: web.env
    depends_on: [db]
  db: {image: postgres, volumes: ["data:/x"]}
volumes: {data: }
"""


def _revision(compose: str = BASE, **more: object) -> Revision:
    given: dict[str, object] = {
        "env": "A=1\n",
        "secrets": {"DB_PASSWORD": "v1", "key": "v1"},
        "files": {"conf/nginx.conf": "aa", "web.env": "bb", "README": "cc"},
    }
    return Revision("shop", compose, **(given | more))


def _reasons(new: Revision, old: Revision | None = None) -> dict[str, tuple[Change, tuple[str, ...]]]:
    found = compare(old or _revision(), new)
    return {each.service: (each.change, each.reasons) for each in found.services}


UNTOUCHED = (Change.UNCHANGED, ())


def test_equal_revisions_change_nothing() -> None:
    found = compare(_revision(), _revision())
    assert {each.change for each in found.services} == {Change.UNCHANGED}
    assert not found.changes_containers
    assert found.lines == ()


def test_without_an_old_revision_everything_is_added() -> None:
    found = compare(None, _revision())
    assert {each.change for each in found.services} == {Change.ADDED}
    assert found.volumes_added == ("data",)
    assert found.lines[0] == Line("+", "services:", 0, 1)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("nginx:1", "nginx:2", "image: nginx:1 → nginx:2"),
        ('ports: ["8080:80"]', 'ports: ["8081:80"]', "ports changed"),
        ('A: "${A}"', 'A: "2"', "environment: A changed"),
        ('A: "${A}", ', 'B: x, A: "${A}", ', "environment: B added"),
        ("./conf:/etc/nginx:ro", "./conf:/etc/nginx", "mounts changed"),
        ("    depends_on: [db]", "    depends_on: [db]\n    command: [x]", "command added"),
        ("    depends_on: [db]", "    depends_on: [db]\n    restart: always", "restart: none → always"),
        ("    depends_on: [db]", "    depends_on: [db]\n    build: .", "build: the section changed"),
    ],
)
def test_a_service_is_recreated_and_says_why(old: str, new: str, reason: str) -> None:
    found = _reasons(_revision(BASE.replace(old, new)))
    assert found["web"][0] is Change.RECREATED
    assert reason in found["web"][1]
    assert found["db"] == UNTOUCHED


def test_services_volumes_and_networks_come_and_go() -> None:
    text = BASE.replace('  db: {image: postgres, volumes: ["data:/x"]}\n', "  cache: {image: redis}\n")
    text = text.replace("volumes: {data: }", "networks: {front: }").replace("[db]", "[cache]")
    found = compare(_revision(), _revision(text))
    assert [(each.service, each.change) for each in found.services] == [
        ("web", Change.UNCHANGED), ("cache", Change.ADDED), ("db", Change.REMOVED),
    ]  # fmt: skip
    assert (found.volumes_removed, found.networks_added) == (("data",), ("front",))


def test_a_new_number_of_containers_is_only_a_scale() -> None:
    text = BASE.replace("  db: {image", "  db: {scale: 2, image")
    assert _reasons(_revision(text))["db"] == (Change.SCALED, ("1 → 2 containers",))


def test_what_compose_does_not_hash_recreates_nothing() -> None:
    text = BASE.replace("    depends_on: [db]", "    pull_policy: always\n    x-note: y")
    assert _reasons(_revision(text))["web"] == UNTOUCHED


def test_a_changed_secret_recreates_its_users_without_a_value() -> None:
    found = _reasons(_revision(secrets={"DB_PASSWORD": "v2", "key": "v1"}))
    assert found["web"] == (Change.RECREATED, ("environment: DB changed",))
    assert found["db"] == UNTOUCHED
    found = _reasons(_revision(secrets={"DB_PASSWORD": "v1", "key": "v2"}))
    assert found["web"] == (Change.RECREATED, ("files: .towline/secrets/key",))


def test_a_changed_file_recreates_the_services_that_see_it() -> None:
    found = _reasons(_revision(files={"conf/nginx.conf": "zz", "web.env": "bb", "README": "zz"}))
    assert found["web"] == (Change.RECREATED, ("files: conf/nginx.conf",))
    found = _reasons(_revision(files={"conf/nginx.conf": "aa", "web.env": "zz", "README": "cc"}))
    assert found["web"] == (Change.RECREATED, ("env_file: web.env",))


def test_a_changed_volume_definition_recreates_its_users() -> None:
    text = BASE.replace("volumes: {data: }", "volumes: {data: {labels: {a: b}}}")
    assert _reasons(_revision(text))["db"] == (Change.RECREATED, ("volume data changed",))


def test_other_image_content_under_the_same_name_is_told() -> None:
    old, new = (_revision(images={"web": "nginx@sha256:" + digit * 64}) for digit in "ab")
    assert _reasons(new, old)["web"] == (Change.RECREATED, ("image content: aaaaaaaaaaaa → bbbbbbbbbbbb",))


def test_no_value_appears_in_a_difference_but_the_files_own_text() -> None:
    old = _revision(variables={"A": "hunter2"}, secrets={"DB_PASSWORD": "hunter3", "key": "v1"})
    new = _revision(variables={"A": "hunter4"}, secrets={"DB_PASSWORD": "hunter5", "key": "v1"})
    found: Difference = compare(old, new)
    assert (found.variables, found.secrets) == (("A",), ("DB_PASSWORD",))
    assert "hunter" not in str(found)


def test_lines_show_the_change_with_its_surroundings() -> None:
    old = "\n".join(str(number) for number in range(20))
    found = lines(old, old.replace("10", "ten"))
    assert [(line.sign, line.text) for line in found] == [
        (" ", "7"), (" ", "8"), (" ", "9"), ("-", "10"), ("+", "ten"), (" ", "11"), (" ", "12"), (" ", "13"),
    ]  # fmt: skip
    assert (found[3].old, found[4].new) == (11, 11)


def test_texts_too_long_to_compare_give_no_lines() -> None:
    assert lines("a\n" * 5000, "b\n" * 5000) == ()


def test_the_fingerprint_covers_all_that_decides() -> None:
    prints = {
        _revision().fingerprint(),
        _revision(env="A=2\n").fingerprint(),
        _revision(variables={"A": "1"}).fingerprint(),
        _revision(secrets={"DB_PASSWORD": "v2", "key": "v1"}).fingerprint(),
        _revision(files={}).fingerprint(),
        _revision(bundle="sha256:x").fingerprint(),
    }
    assert len(prints) == 6
    assert _revision(images={"web": "x"}).fingerprint() == _revision().fingerprint()


@pytest.mark.parametrize("name", ["COMPOSE_FILE", "DOCKER_HOST", "COMPOSE_PROJECT_NAME", "BUILDKIT_HOST"])
def test_variables_that_steer_docker_are_refused(name: str) -> None:
    with pytest.raises(EnvironmentRefused):
        _revision(variables={name: "x"}).values()
    with pytest.raises(EnvironmentRefused):
        _revision(env=f"{name}=x\n").values()


def test_profiles_may_be_chosen() -> None:
    assert _revision(variables={"COMPOSE_PROFILES": "debug"}).values()["COMPOSE_PROFILES"] == "debug"


def test_variables_win_over_the_env_file_and_secrets_over_both() -> None:
    values = _revision(env="A=1\nB=1\n", variables={"B": "2"}, secrets={"C": "v1"}).values()
    assert (values["A"], values["B"]) == ("1", "2")
    assert values["C"].startswith("‹secret C ")


def test_a_name_is_a_variable_or_a_secret_but_not_both() -> None:
    with pytest.raises(EnvironmentRefused, match="both"):
        check_secrets({"A": "x"}, {"A": "y"})
    with pytest.raises(NameRefused):
        check_secrets({"../x": "x"}, {})
