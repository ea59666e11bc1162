"""Routes in words: each state has a light and a reason, lights name their cluster, figures say how long it took."""

from datetime import UTC, datetime
from typing import Any

import pytest

from towline.control.routes import words
from towline.control.routes.schemas import ClusterShown, Light, RouteOut, TargetOut
from towline.gateway.route_figures import RouteFigure

WHEN = datetime(2026, 1, 2, tzinfo=UTC)


def route(*connected: bool, **changes: Any) -> RouteOut:
    targets = [
        TargetOut(cluster=ClusterShown(id=f"clu_{n}", name=f"edge-{n}"), to="tcp/127.0.0.1:80", connected=one)
        for n, one in enumerate(connected or (True,), 1)
    ]
    values: dict[str, Any] = {
        "id": "rte_1", "name": "web", "host": "web.example.net", "path": "/", "path_type": "prefix", "url": "",
        "source": "declared", "ref": "", "cluster": None, "targets": targets, "options": {}, "users": [], "notes": [],
        "tls": False, "state": "active", "reason": "", "enabled": True, "existed": False, "decision": "",
        "decided_by": "", "leaving_at": None, "created_at": WHEN, "created_by": "", "changed_at": WHEN,
    }  # fmt: skip
    return RouteOut(**(values | changes))


@pytest.mark.parametrize(
    ("shown", "tone", "word"),
    [
        (route(), "healthy", "Live"),
        (route(True, False), "degraded", "Degraded"),
        (route(False), "down", "Away"),
        (route(enabled=False), "unknown", "Off"),
        (route(state="proposed", reason="it was there"), "unknown", "Proposed"),
        (route(state="conflict", reason="shop answers"), "down", "Conflict"),
        (route(state="refused", decision="refused", reason="refused by ada"), "unknown", "Refused"),
        (route(state="refused", reason="under no verified domain"), "down", "Refused"),
        (route(state="leaving", reason="its source went away"), "degraded", "Leaving"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_state_has_a_light_a_word_and_a_reason(shown: RouteOut, tone: str, word: str) -> None:
    said = words.state(shown)
    assert (said.tone, said.word) == (tone, word)
    assert bool(said.reason) == (tone != "healthy")


def test_a_route_that_is_called_like_a_page_is_shown_by_its_id() -> None:
    assert words.page_of(route(name="new")) == "/routes/rte_1"
    assert words.page_of(route(name="edge-1.ingress.shop.web.0.0")) == "/routes/edge-1.ingress.shop.web.0.0"


def test_lights_before_a_test_say_what_is_known() -> None:
    lights = {(one.name, one.cluster): one.state for one in words.untested(route(True, False))}
    assert lights == {
        ("route", ""): "ok", ("name", ""): "unknown", ("certificate", ""): "unknown",
        ("agent", "edge-1"): "ok", ("target", "edge-1"): "unknown",
        ("agent", "edge-2"): "failed", ("target", "edge-2"): "unknown",
    }  # fmt: skip


@pytest.mark.parametrize("options", [{"tls_passthrough": True}, {"tcp_port": 5432}])
def test_light_of_a_certificate_says_that_a_raw_target_ends_tls_itself(options: dict[str, Any]) -> None:
    (light,) = [one for one in words.untested(route(options=options)) if one.name == "certificate"]
    assert light.state == "ok" and "the target itself ends" in light.reason


def test_lights_name_their_cluster_when_there_are_several() -> None:
    one = Light(name="agent", cluster="edge-1", state="ok", reason="connected")
    other = Light(name="agent", cluster="edge-2", state="failed", reason="away")
    assert [lamp.title for lamp in words.lamps([one])] == ["Agent is connected"]
    assert [lamp.title for lamp in words.lamps([one, other])] == [
        "Agent is connected (edge-1)",
        "Agent is connected (edge-2)",
    ]


def test_figures_say_what_share_was_answered_within_which_time() -> None:
    found = RouteFigure("web")
    assert words.figures(None) is None
    assert words.figures(found) is None
    for seconds in [0.02] * 18 + [0.4] * 2:
        found.open += 1
        found.end(200, 1, 1, seconds)
    shown = words.figures(found)
    assert shown is not None
    assert (shown.total, shown.median, shown.most) == (20, "within 25 ms", "within 500 ms")
    assert list(shown.classes) == [(2, "2xx answered", 20)]
    assert max(bar.height for bar in shown.bars) == words.TALLEST


def test_answers_beyond_the_last_bound_are_said_to_be_so() -> None:
    assert words.within([0] * 13 + [3], 0.5) == "over 60 s"
    assert words.within([0] * 14, 0.5) == ""
