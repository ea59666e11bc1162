"""Files on the host: the override, the env file, secrets."""

import pytest
import yaml

from towline.compose import environment, hostfiles, overrides
from towline.compose.errors import EnvironmentRefused, NameRefused, ReferenceRefused
from towline.compose.revision import Revision

TEXT = """services:
  web:
    image: nginx
    environment: {PW: "${DB_PASSWORD}"}
    secrets: [key]
    volumes: [./app.conf:/app.conf:ro]
  db: {image: postgres}
"""
FILES = {"app.conf": "aa", "other": "bb"}
REVISION = Revision("shop", TEXT, "# mine\nA=1\n", {"B": "two words"}, {"DB_PASSWORD": "1", "key": "1"}, FILES)
PIN = "docker.io/library/nginx@sha256:" + "a" * 64
IMAGE_ID = "sha256:" + "b" * 64


def _override(revision: Revision = REVISION, **more: object) -> dict[str, object]:
    project = revision.parse("/srv/shop").project
    given = {"secrets": revision.secrets, "versions": revision.secrets, "files": revision.files}
    text = overrides.render(project, folder="/srv/shop", **(given | more))
    found = yaml.safe_load(text) if text else {}
    assert isinstance(found, dict)
    return found


def test_secrets_are_wired_to_their_files() -> None:
    assert _override()["secrets"] == {"key": {"file": "./.towline/secrets/key"}}


def test_a_secret_that_the_file_defines_itself_is_left_alone() -> None:
    text = TEXT + "secrets: {key: {file: ./mine}}\n"
    assert "secrets" not in _override(Revision("shop", text, secrets={"key": "1", "DB_PASSWORD": "1"}))


def test_only_services_that_see_a_file_carry_its_digest() -> None:
    services = _override()["services"]
    assert isinstance(services, dict)
    assert list(services) == ["web"]
    assert len(services["web"]["labels"]["towline.files"]) == 64


@pytest.mark.parametrize(
    "changed", [{"files": {"app.conf": "zz", "other": "bb"}}, {"versions": {"DB_PASSWORD": "1", "key": "2"}}]
)
def test_the_digest_changes_with_what_the_service_sees(changed: dict[str, object]) -> None:
    assert _override(**changed) != _override()


@pytest.mark.parametrize(
    "changed", [{"files": {"app.conf": "aa", "other": "zz"}}, {"versions": {"DB_PASSWORD": "2", "key": "1"}}]
)
def test_the_digest_stays_when_something_else_changes(changed: dict[str, object]) -> None:
    assert _override(**changed) == _override()


def test_pins_replace_the_image_and_never_pull_an_image_id() -> None:
    services = _override(pins={"web": PIN, "db": IMAGE_ID})["services"]
    assert isinstance(services, dict)
    assert (services["web"]["image"], services["web"]["pull_policy"]) == (PIN, "missing")
    assert services["db"] == {"image": IMAGE_ID, "pull_policy": "never"}


def test_an_image_without_a_digest_is_no_pin() -> None:
    with pytest.raises(ReferenceRefused):
        _override(pins={"web": "nginx:1"})


def test_only_services_whose_name_means_another_image_now_need_a_pin() -> None:
    recorded = {"web": PIN, "db": IMAGE_ID}
    assert overrides.pins_needed(recorded, {"web": PIN}) == {"db": IMAGE_ID}


def test_a_plain_project_needs_no_override() -> None:
    assert _override(Revision("shop", "services: {web: {image: nginx}}")) == {}


def _files(override: str = "") -> dict[str, tuple[bytes, int]]:
    values = {"DB_PASSWORD": "hun'ter$2\n", "key": "filesecret"}
    interpolated = REVISION.parse().variables()
    rendered = hostfiles.render(REVISION, secret_values=values, interpolated=interpolated, override=override)
    return {file.path: (file.content, file.mode) for file in rendered}


def test_the_compose_file_stays_as_it_was_written() -> None:
    assert _files()["compose.yaml"] == (TEXT.encode(), 0o644)


def test_the_env_file_names_the_project_and_its_files_so_that_plain_compose_works() -> None:
    content, mode = _files("services: {}\n")[".env"]
    assert mode == 0o600
    assert content.startswith(b"# mine\nA=1\n")
    assert environment.parse(content.decode()) == {
        "A": "1", "B": "two words", "DB_PASSWORD": "hun'ter$2\n", "COMPOSE_PROJECT_NAME": "shop",
        "COMPOSE_FILE": "compose.yaml:.towline/override.yaml",
    }  # fmt: skip


def test_secrets_are_files_that_any_user_of_a_container_can_read() -> None:
    assert _files()[".towline/secrets/key"] == (b"filesecret", 0o444)


def test_a_secret_that_the_file_does_not_interpolate_stays_out_of_the_env_file() -> None:
    assert b"filesecret" not in _files()[".env"][0]


def test_no_secret_shows_in_a_repr() -> None:
    rendered = hostfiles.render(REVISION, secret_values={"key": "filesecret"}, interpolated=frozenset())
    assert "filesecret" not in repr(rendered)


def test_a_secret_cannot_choose_its_path_nor_a_variable_add_lines() -> None:
    with pytest.raises(NameRefused):
        hostfiles.render(REVISION, secret_values={"../../x": "y"}, interpolated=frozenset())
    hostile = Revision("shop", TEXT, variables={"A=1\nB": "x"})
    with pytest.raises(EnvironmentRefused):
        hostfiles.render(hostile, secret_values={}, interpolated=frozenset())
