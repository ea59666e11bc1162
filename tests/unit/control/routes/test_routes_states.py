"""What decides about a route, without a database."""

from typing import Any

import pytest

from towline.control.routes.states import Facts, RouteState, judge


def facts(**changes: Any) -> Facts:
    values: dict[str, Any] = {
        "source": "ingress", "decision": "", "decided_by": "", "existed": False, "mode": "automatic",
        "is_leaving": False, "is_gone": False, "problem": "",
    }  # fmt: skip
    return Facts(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "state", "holds"),
    [
        ({}, RouteState.ACTIVE, True),
        ({"source": "declared", "mode": "off"}, RouteState.ACTIVE, True),
        ({"mode": "proposals"}, RouteState.PROPOSED, False),
        ({"mode": "proposals", "decision": "accepted"}, RouteState.ACTIVE, True),
        ({"mode": "proposals", "decision": "automatic"}, RouteState.ACTIVE, True),
        ({"mode": "off"}, RouteState.REFUSED, False),
        ({"mode": "off", "decision": "accepted"}, RouteState.REFUSED, False),
        ({"decision": "refused", "decided_by": "ada"}, RouteState.REFUSED, False),
        ({"problem": "not yours"}, RouteState.REFUSED, False),
        ({"problem": "not yours", "decision": "accepted"}, RouteState.REFUSED, False),
        ({"caution": "its source asks for sign-in"}, RouteState.PROPOSED, False),
        ({"caution": "its source asks for sign-in", "decision": "accepted"}, RouteState.ACTIVE, True),
        ({"is_leaving": True}, RouteState.LEAVING, True),
        ({"is_leaving": True, "is_gone": True}, RouteState.LEAVING, False),
        ({"is_leaving": True, "mode": "proposals"}, RouteState.PROPOSED, False),
        ({"source": "declared", "problem": "not yours"}, RouteState.REFUSED, False),
    ],
)
def test_a_verdict(changes: dict[str, Any], state: RouteState, holds: bool) -> None:
    verdict = judge(facts(**changes))
    assert (verdict.state, verdict.holds) == (state, holds)
    assert verdict.reason or state is RouteState.ACTIVE


def test_a_refusal_names_who_refused() -> None:
    assert "ada" in judge(facts(decision="refused", decided_by="ada")).reason
