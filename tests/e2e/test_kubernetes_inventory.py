"""The shipped agent and server: what an agent with the default rights tells of a real cluster, and what stays."""

from typing import Any

import pytest
from tests.support.kubernetes_stack import CLUSTER, Stack, User
from tests.support.product import wait_for

pytestmark = pytest.mark.kubernetes

PATH = f"/api/v1/clusters/{CLUSTER}/kubernetes"
WAIT = 60.0


def _shown(stack: Stack, user: User, path: str = "") -> Any:
    with stack.http(user.token) as client:
        found = client.get(PATH + path)
    assert found.status_code == 200, found.text
    return found.json()


def test_the_overview_shows_the_cluster_and_stays_when_the_agent_is_killed(stack: Stack, ada: User) -> None:
    wait_for(lambda: _shown(stack, ada)["nodes"]["ready"] == 1, "the node of the cluster", WAIT)
    wait_for(lambda: _shown(stack, ada)["version"], "the version of the cluster", WAIT)
    shown = _shown(stack, ada)
    assert (shown["state"], shown["missing"]) == ("live", [])
    assert shown["metrics"] is False
    (node,) = _shown(stack, ada, "/nodes")["items"]
    assert node["ready"]
    assert node["capacity"]["cpu"] >= 1
    stack.kill("agent")
    try:
        wait_for(lambda: _shown(stack, ada)["state"] == "away", "the server to notice", WAIT)
        away = _shown(stack, ada)
        assert (away["nodes"]["total"], away["version"]) == (1, shown["version"])
        assert away["age"] >= 0
    finally:
        stack.start_agent()
    wait_for(lambda: _shown(stack, ada)["state"] == "live", "the agent to tell everything again", WAIT)
