"""The one file that an InstaDeploy agent gets: nothing of the order is lost on the way, and nothing unsafe is sent."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from towline.compose import document, interpolation
from towline.control.protocols.instadeploy import rendering
from towline.control.protocols.instadeploy.rendering import Unsendable, render
from towline.wire import orders

FILE = "services:\n  web:\n    image: nginx:1.27\n"


def _order(compose: str = FILE, **changes: Any) -> orders.Deploy:
    return orders.Deploy(
        project="shop", org_id="o", deployment_id="d", revision=1, revision_id="r", compose=compose, **changes
    )


def _service(order: orders.Deploy, name: str = "web") -> dict[str, Any]:
    """Return a service as the host's Compose reads it."""
    loaded = document.load(render(order).text)
    data, problems = interpolation.interpolate(loaded, {})
    assert not [each for each in problems if each.is_error]
    service: dict[str, Any] = data["services"][name]
    return service


def test_a_file_without_variables_is_sent_as_it_was_written() -> None:
    text = FILE + "    # $$ stays\n    command: echo $$HOME\n"

    assert render(_order(text)).text == text


@pytest.mark.parametrize(
    "value", ["plain", "a b", "50%", "pa$$word", "$HOME", "${X}", "'q\"", "1.10", "0x1F", "no", "x\ny", "ü: #"]
)
def test_a_value_reaches_the_container_unchanged(value: str) -> None:
    text = FILE + "    environment:\n      SECRET: ${SECRET}\n      MIXED: a-$SECRET-b\n"

    found = _service(_order(text, variables={"SECRET": value}))["environment"]

    assert found == {"SECRET": value, "MIXED": f"a-{value}-b"}


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40))
def test_any_text_survives_the_file(value: str) -> None:
    text = FILE + "    environment:\n      V: ${V}\n"

    assert _service(_order(text, variables={"V": value}))["environment"]["V"] == value


def test_yaml_1_1_readers_see_the_same_texts() -> None:
    text = FILE + "    environment:\n      V: ${V}\n"
    rendered = render(_order(text, variables={"V": "yes"})).text

    assert yaml.safe_load(rendered)["services"]["web"]["environment"]["V"] == "yes"


def test_the_env_file_gives_values_and_variables_win_over_it() -> None:
    text = FILE + "    environment: ['A=$A', 'B=$B']\n"

    found = _service(_order(text, env="A=1\nB=1\n", variables={"B": "2"}))

    assert found["environment"] == ["A=1", "B=2"]


def test_a_service_that_reads_the_env_file_gets_its_values_written_out() -> None:
    text = FILE + "    env_file: .env\n    environment:\n      OWN: here\n      A: mine\n"

    found = _service(_order(text, env="A=1\nB=2$3\n"))

    assert "env_file" not in found
    assert found["environment"] == {"A": "mine", "B": "2$3", "OWN": "here"}


def test_a_variable_that_only_the_host_knows_is_left_to_it() -> None:
    text = FILE + "    environment:\n      DB: ${DB}-$A\n"

    assert "${DB}-1" in render(_order(text, variables={"A": "1"})).text


def test_no_file_reads_the_token_of_the_agent() -> None:
    text = FILE + "    environment:\n      T: x$AGENT_TOKEN$AGENT_SECRET_TOKEN\n"

    assert _service(_order(text))["environment"]["T"] == "x"


@pytest.mark.parametrize("line", ["image: $X", "volumes: ['${X}:/data']", "ports: ['$X:80']", "network_mode: $X"])
def test_the_host_fills_in_nothing_that_a_policy_judges(line: str) -> None:
    text = f"services:\n  web:\n    {line}\n" + ("" if line.startswith("image") else "    image: nginx\n")

    with pytest.raises(Unsendable, match="the variable X has no value") as caught:
        render(_order(text))

    assert caught.value.code == "invalid_project"


def test_defaults_are_settled_where_a_policy_judges() -> None:
    text = FILE + "    ports: ['${PORT:-8080}:80']\n"

    assert _service(_order(text))["ports"] == ["8080:80"]


def test_numbers_from_variables_are_numbers_where_compose_wants_them() -> None:
    text = FILE + "    privileged: ${P}\n    deploy:\n      replicas: ${N}\n    cpus: ${C}\n"
    order = _order(text, variables={"P": "false", "N": "2", "C": "0.5"}, policy_level="privileged")

    found = _service(order)

    assert (found["privileged"], found["deploy"]["replicas"], found["cpus"]) == (False, 2, 0.5)


def test_chosen_profiles_pins_scales_and_pulls_are_in_the_file() -> None:
    text = "services:\n  web:\n    image: nginx\n  job:\n    image: busybox\n    profiles: [extra]\n"
    digest = "nginx@sha256:" + "a" * 64
    order = _order(
        text, variables={"COMPOSE_PROFILES": "extra"}, image_pins={"web": digest}, scales={"web": 3}, pull="always"
    )

    assert _service(order) == {"image": digest, "pull_policy": "missing", "scale": 3}
    assert _service(order, "job") == {"image": "busybox", "pull_policy": "always"}


def test_the_projects_name_wins_over_the_files() -> None:
    assert yaml.safe_load(render(_order("name: other\n" + FILE)).text)["name"] == "shop"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bundle": "sha256:" + "0" * 64}, "one Compose file and no files besides"),
        ({"secret_names": ("db",), "sealed_secrets": "x"}, "no secrets kept on the host"),
        ({"sealed_registries": "x"}, "docker login"),
    ],
)
def test_what_such_an_agent_has_no_place_for_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Unsendable, match=words) as caught:
        render(_order(**changes))

    assert caught.value.code == "bad_order"


@pytest.mark.parametrize("text", ["services: [", "services:\n  web: 3\n", "a: b\n", "", "services: {}\n"])
def test_a_file_that_compose_would_refuse_is_never_sent(text: str) -> None:
    with pytest.raises(Unsendable) as caught:
        render(_order(text))

    assert caught.value.code == "invalid_project"


def test_the_policy_is_asked_again_with_the_values() -> None:
    text = FILE + "    privileged: ${P}\n"

    with pytest.raises(Unsendable) as caught:
        render(_order(text, variables={"P": "true"}))

    assert caught.value.code == "policy_violation"
    assert caught.value.problems[0].path == "services.web.privileged"


def test_services_that_may_be_gone_are_those_that_say_so() -> None:
    text = (
        "services:\n  web:\n    image: a\n  job:\n    image: b\n    restart: 'no'\n"
        "  init:\n    image: c\n  app:\n    image: d\n    depends_on:\n"
        "      init: {condition: service_completed_successfully}\n"
    )
    found = {each.name: rendering.may_be_gone(each) for each in render(_order(text)).services}

    assert found == {"web": False, "job": True, "init": True, "app": False}


def test_the_values_of_an_order_are_known_before_its_file_is_judged() -> None:
    order = _order(FILE, env="A=1\nB=2\n", variables={"B": "3"})

    assert rendering.values(order) == {"A": "1", "B": "3"}
