"""What somebody sends is checked before a row is written, with the line of each finding."""

from typing import Any

import pytest

from towline.compose.revision import Revision
from towline.control.deployments.content import Checked, Draft, check

WEB = "services:\n  web:\n    image: shop/web:1\n"


def examine(compose: str = WEB, *, level: str = "standard", has_own_folder: bool = False, **more: Any) -> Checked:
    content = Revision(project="shop", compose=compose, **more)
    return check(Draft(content, level, has_own_folder))


def only(checked: Checked) -> str:
    assert len(checked.errors) == 1, checked.errors
    return checked.errors[0].message


def test_a_plain_project_has_no_errors_and_names_its_services() -> None:
    checked = examine()
    assert checked.errors == ()
    known = {"name": "web", "image": "shop/web:1", "replicas": 1}
    assert checked.services() == [{**known, "one_shot": False, "may_end": True}]
    assert not examine(WEB + "    restart: always\n").services()[0]["may_end"]


def test_text_that_is_no_yaml_is_refused_with_its_place() -> None:
    checked = examine("services:\n  web: [")
    assert checked.errors[0].line > 0
    assert not checked.breaks_policy
    assert checked.services() == []


def test_a_mistake_names_line_path_and_what_to_do() -> None:
    problem = examine("services:\n  web:\n    image: shop/WEB\n").errors[0]
    assert (problem.line, problem.path) == (3, "services.web.image")
    assert problem.hint


def test_what_policy_forbids_names_key_line_and_rule() -> None:
    checked = examine(WEB + "    privileged: true\n")
    problem = checked.errors[0]
    assert (problem.line, problem.path, bool(problem.rule)) == (4, "services.web.privileged", True)
    assert checked.breaks_policy


def test_a_higher_level_allows_what_a_lower_one_refuses() -> None:
    assert not examine(WEB + "    privileged: true\n", level="privileged").errors
    assert examine(WEB + "    volumes: [/srv/data:/data]\n", level="restricted").breaks_policy


def test_a_broken_file_that_also_breaks_policy_counts_as_broken() -> None:
    assert not examine("services:\n  web:\n    image: a/B\n    privileged: true\n").breaks_policy


def test_variables_come_from_the_env_file_and_the_request() -> None:
    compose = "services:\n  web:\n    image: shop/web:${TAG:?}\n    environment: {A: '${A:?}'}\n"
    assert only(examine(compose, env="TAG=2\n")).startswith("the variable A is required")
    assert not examine(compose, env="TAG=2\n", variables={"A": "1"}).errors
    assert examine(compose).variables() == ["A", "TAG"]


def test_a_variable_of_the_request_wins_over_the_env_file() -> None:
    checked = examine("services:\n  web:\n    image: shop/web:${TAG}\n", env="TAG=1\n", variables={"TAG": "2"})
    assert checked.services()[0]["image"] == "shop/web:2"


def test_an_env_file_that_cannot_be_read_names_its_line() -> None:
    problem = examine(env="A=1\n= broken\n").errors[0]
    assert (problem.line, problem.path) == (2, "env")


def test_a_secret_that_was_sent_needs_no_definition_in_the_file() -> None:
    compose = WEB + "    secrets: [db_password]\n"
    assert "not defined" in only(examine(compose))
    assert not examine(compose, secrets={"db_password": "1"}).errors


def test_files_beside_the_compose_file_must_be_in_the_bundle() -> None:
    compose = WEB + "    env_file: app.env\nconfigs:\n  site: {file: ./site.conf}\n"
    messages = [problem.message for problem in examine(compose).errors]
    assert len(messages) == 2
    assert not examine(compose, files={"app.env": "a", "site.conf": "b"}).errors


def test_an_adopted_project_has_files_that_nobody_sent() -> None:
    assert not examine(WEB + "    env_file: app.env\n", has_own_folder=True).errors


def test_an_env_file_that_was_sent_is_there_under_its_usual_name() -> None:
    assert not examine(WEB + "    env_file: .env\n", env="A=1\n").errors


def test_a_build_needs_its_context_in_the_bundle() -> None:
    compose = "services:\n  web:\n    build: ./web\n"
    assert "build context" in only(examine(compose))
    assert not examine(compose, files={"web/Dockerfile": "a"}).errors


def test_an_inline_dockerfile_needs_no_context() -> None:
    compose = 'services:\n  web:\n    build:\n      dockerfile_inline: "FROM scratch"\n'
    assert not [each for each in examine(compose).errors if "bundle" in each.message]


@pytest.mark.parametrize(
    "compose",
    [
        WEB + "    env_file: ../../etc/passwd\n",
        WEB + "secrets:\n  key: {file: /etc/shadow}\n",
        "include:\n  - https://example.org/compose.yaml\n" + WEB,
        WEB + "    volumes: ['/var/run/docker.sock:/s']\n",
        "volumes:\n  data: {driver_opts: {type: none, o: bind, device: /etc}}\n" + WEB,
        WEB + "    ports: ['70000:80']\n",
        WEB + "    ports: ['0:80']\n",
        "services:\n  web:\n    image: registry@evil\n",
        "services:\n  web:\n    image: a\n    image: b\n",
        "a: &a [x]\nb: !!python/object:os.system {}\n",
        "services: {web: {image: a}}\n---\nservices: {}\n",
    ],
)
def test_hostile_content_is_refused(compose: str) -> None:
    assert examine(compose).errors


def test_no_finding_repeats_the_value_of_a_variable() -> None:
    compose = "services:\n  web:\n    image: '${IMAGE}'\n    environment: {KEY: '${HIDDEN:?}'}\n"
    checked = examine(compose, env="HIDDEN=\n", variables={"IMAGE": "shop/web:1"})
    assert "shop/web" not in str(checked.problems)


def test_a_name_cannot_be_a_variable_and_a_secret() -> None:
    assert "both" in only(examine(variables={"KEY": "1"}, secrets={"KEY": "1"}))


def test_variables_that_steer_docker_itself_are_refused() -> None:
    assert only(examine(env="DOCKER_HOST=tcp://elsewhere\n"))
