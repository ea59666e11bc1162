"""The health of a cluster and the reason for it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from towline.control.clusters.health import Capability, Health, Known, judge

NOW = datetime(2026, 3, 4, 14, 5, tzinfo=UTC)
WELL = Known(
    now=NOW,
    connected=True,
    last_seen_at=NOW - timedelta(seconds=3),
    agent_state="active",
    capabilities=(Capability("compose", True),),
    disk_free_bytes=50 * 2**30,
)


def test_a_connected_agent_with_docker_is_healthy() -> None:
    assert judge(WELL).state is Health.HEALTHY


def test_a_dead_docker_is_named_with_its_time_and_its_reason() -> None:
    broken = Capability("compose", False, "permission denied on the socket", NOW - timedelta(minutes=3))
    verdict = judge(replace(WELL, capabilities=(broken,)))
    assert verdict.state is Health.DEGRADED
    assert verdict.reason == "Docker does not answer since 14:02 UTC: permission denied on the socket"


def test_a_link_lost_moments_ago_is_not_down() -> None:
    verdict = judge(replace(WELL, connected=False, last_error="connection reset"))
    assert verdict.state is Health.WORKING
    assert "14:04 UTC: connection reset" in verdict.reason


def test_silence_of_three_heartbeats_is_down() -> None:
    verdict = judge(replace(WELL, connected=False, last_seen_at=NOW - timedelta(seconds=90)))
    assert verdict.state is Health.DOWN
    assert verdict.reason == "No word from the agent since 14:03 UTC"


def test_another_day_is_named_in_full() -> None:
    verdict = judge(replace(WELL, connected=False, last_seen_at=NOW - timedelta(days=2)))
    assert "2026-03-02 14:05 UTC" in verdict.reason


def test_a_cluster_without_an_agent_is_unknown() -> None:
    assert judge(replace(WELL, agent_state="", connected=False)).state is Health.UNKNOWN


def test_a_quarantined_agent_says_why() -> None:
    verdict = judge(replace(WELL, agent_state="suspect", agent_reason="it presented generation 3"))
    assert verdict.state is Health.DOWN
    assert "it presented generation 3" in verdict.reason


def test_an_agent_that_waits_for_approval_is_working() -> None:
    assert judge(replace(WELL, agent_state="pending")).state is Health.WORKING


def test_an_agent_that_never_connected_says_so() -> None:
    assert "not connected yet" in judge(replace(WELL, connected=False, last_seen_at=None)).reason


def test_sick_containers_are_named_and_cut_off() -> None:
    verdict = judge(replace(WELL, unhealthy=("e", "d", "c", "b", "a")))
    assert verdict.state is Health.DEGRADED
    assert verdict.reason == "5 containers are not well: a, b, c and 2 more"


def test_what_is_unwell_in_kubernetes_is_the_reason() -> None:
    known = replace(WELL, troubles="1 thing is not well: node n1: not ready")
    assert judge(known).reason == "1 thing is not well: node n1: not ready"


def test_an_agent_of_a_kubernetes_cluster_needs_no_docker() -> None:
    without = Capability("compose", False, "no Docker")
    known = replace(WELL, capabilities=[without, Capability("kubernetes", True)])
    assert judge(known).state is Health.HEALTHY


def test_an_api_server_that_does_not_answer_is_named_before_what_was_unwell() -> None:
    gone = Capability("kubernetes", False, "connection refused")
    known = replace(WELL, capabilities=[gone], troubles="1 thing is not well: node n1")
    assert judge(known).reason == "Kubernetes is not served: connection refused"


def test_a_full_disk_is_degraded() -> None:
    assert "100 MiB" in judge(replace(WELL, disk_free_bytes=100 * 2**20)).reason
