"""What the server says of a link."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from towline.control.agents.models import Agent
from towline.control.clusters.models import Cluster
from towline.control.links.doctor import examine

NOW = datetime(2026, 3, 4, 14, 5, tzinfo=UTC)


def _cluster(**values: Any) -> Cluster:
    return Cluster(
        **{"last_seen_at": NOW - timedelta(seconds=5), "link_reconnects": 0, "link_last_error": "", **values}
    )


def _agent(state: str = "active") -> Agent:
    return Agent(id="agt_1", state=state, state_reason="it presented generation 1", hostname="web-1", version="1.0.0")


def _link(**values: Any) -> Any:
    times = {"min": 1.0, "median": 2.0, "max": 3.0}
    base = {"connected_at": NOW, "epoch": 3, "clock_offset": 0.0, "rtt_ms": lambda: times}
    return SimpleNamespace(session=SimpleNamespace(remote_address="192.0.2.7"), **{**base, **values})


def _failed(*arguments: Any) -> dict[str, str]:
    return {check.name: check.reason for check in examine(*arguments) if not check.ok}


def test_a_link_that_is_well_has_nothing_to_say() -> None:
    assert _failed(_cluster(), [_agent()], _link(), NOW) == {}


def test_a_cluster_without_an_agent_is_told_to_join() -> None:
    assert "join token" in _failed(_cluster(), [], None, NOW)["agent"]


def test_a_quarantined_agent_says_why_and_what_to_do() -> None:
    reason = _failed(_cluster(), [_agent("suspect")], None, NOW)["agent"]
    assert "generation 1" in reason and "Re-admit" in reason


def test_an_agent_that_never_connected_points_at_proxies() -> None:
    assert "WebSockets" in _failed(_cluster(last_seen_at=None), [_agent()], None, NOW)["link"]


def test_a_short_silence_is_told_from_a_long_one() -> None:
    assert "Lost at 14:04" in _failed(_cluster(), [_agent()], None, NOW)["link"]
    gone = _cluster(last_seen_at=NOW - timedelta(hours=2), link_last_error="connection reset")
    found = _failed(gone, [_agent()], None, NOW)
    assert "No word since 12:05" in found["link"]
    assert "connection reset" in found["last link"]


def test_a_wrong_clock_a_slow_line_and_a_shaky_one_are_named() -> None:
    slow = {"min": 1.0, "median": 2000.0, "max": 3000.0}
    found = _failed(_cluster(link_reconnects=12), [_agent()], _link(clock_offset=-3600.0, rtt_ms=lambda: slow), NOW)
    assert "3600 s behind" in found["clock"]
    assert set(found) == {"clock", "round trip", "steadiness"}
