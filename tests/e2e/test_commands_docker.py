"""Commands on a real host: `towline run` to the agent that `towline up` brought, and real Docker behind it."""

import json

import pytest
from tests.support.commands import FAILED, USAGE, answer, fail, succeed
from tests.support.product import Product

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


def test_docker_words_run_on_the_host_of_a_project(shop: Product) -> None:
    listed = succeed(shop, "towline run here -- docker ps")
    assert "w4cli" in listed
    name = next(line.split()[-1] for line in listed.splitlines() if "w4cli" in line)
    (found,) = json.loads(succeed(shop, f"towline run here -- docker inspect {name}"))
    assert found["Name"] == f"/{name}"
    assert "w4cli" in succeed(shop, "towline run here -- compose -p w4cli ps")


def test_a_container_that_is_not_there_ends_with_one_and_is_on_record(shop: Product) -> None:
    said = fail(shop, "towline run here -- docker inspect no-such-container", FAILED, "exit code 1")
    assert "no-such-container" in said
    (run, *_) = answer(shop, "towline runs")
    assert (run["state"], run["arguments"]) == ("failed", ["inspect", "no-such-container"])
    ends = [one for one in answer(shop, "towline audit --action command.end") if one["detail"]["run"] == run["id"]]
    assert [one["detail"]["exit_code"] for one in ends] == [1]


@pytest.mark.parametrize("words", ["run alpine", "exec x sh", "-H tcp://x ps", "ps ';' id"])
def test_what_is_not_in_the_list_never_leaves(shop: Product, words: str) -> None:
    before = len(answer(shop, "towline runs"))
    fail(shop, f"towline run here -- docker {words}", USAGE)
    assert len(answer(shop, "towline runs")) == before
