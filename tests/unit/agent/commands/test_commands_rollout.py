"""When a roll-out is over, which pods a drain moves, and which selector finds a workload's pods."""

from __future__ import annotations

from typing import Any

import pytest

from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.kube.nodes import judge
from towline.agent.commands.kube.rollout import progress
from towline.agent.commands.kube.selectors import of_workload
from towline.commandline.reading import parse


def workload(kind: str, spec: dict[str, Any], status: dict[str, Any], generation: int = 1) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"name": "web", "generation": generation},
        "spec": spec,
        "status": {"observedGeneration": 1, **status},
    }


@pytest.mark.parametrize(
    ("status", "words", "is_over"),
    [
        ({"updatedReplicas": 1}, "1 out of 3 new replicas", False),
        ({"updatedReplicas": 3, "replicas": 4}, "1 old replicas are pending", False),
        ({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 2}, "2 of 3 updated replicas", False),
        ({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}, "successfully rolled out", True),
    ],
)
def test_a_deployment_is_followed_step_by_step(status: dict[str, Any], words: str, is_over: bool) -> None:
    told, over = progress(workload("Deployment", {"replicas": 3}, status))
    assert words in told
    assert over is is_over


def test_a_change_that_nobody_has_seen_yet_is_waited_for() -> None:
    told, over = progress(workload("DaemonSet", {}, {}, generation=2))
    assert told == "Waiting for daemonset spec update to be observed..."
    assert not over


def test_a_deployment_that_gave_up_ends_the_command() -> None:
    condition = {"type": "Progressing", "reason": "ProgressDeadlineExceeded"}
    with pytest.raises(CommandEnds, match="exceeded its progress deadline"):
        progress(workload("Deployment", {}, {"conditions": [condition]}))


def test_sets_are_followed_by_their_own_counts() -> None:
    daemon = {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}
    assert progress(workload("DaemonSet", {}, daemon))[1]
    assert not progress(workload("DaemonSet", {}, {**daemon, "numberAvailable": 1}))[1]
    state = {"readyReplicas": 2, "updateRevision": "b", "currentRevision": "a", "updatedReplicas": 1}
    assert not progress(workload("StatefulSet", {"replicas": 2}, state))[1]
    assert progress(workload("StatefulSet", {"replicas": 2}, {**state, "currentRevision": "b"}))[1]
    with pytest.raises(CommandEnds, match="RollingUpdate"):
        progress(workload("StatefulSet", {"updateStrategy": {"type": "OnDelete"}}, state))


def pod(**more: Any) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "web", **more.pop("metadata", {})}
    return {"metadata": metadata, "spec": more.pop("spec", {}), "status": more.pop("status", {"phase": "Running"})}


def owned(kind: str) -> dict[str, Any]:
    return {"ownerReferences": [{"kind": kind, "name": "x", "controller": True}]}


SCRATCH = {"volumes": [{"name": "s", "emptyDir": {}}]}


@pytest.mark.parametrize(
    ("found", "flags", "leaves", "problem"),
    [
        (pod(metadata=owned("ReplicaSet")), (), True, ""),
        (pod(), (), False, "no controller"),
        (pod(), ("--force",), True, ""),
        (pod(metadata=owned("DaemonSet")), (), False, "daemon set"),
        (pod(metadata=owned("DaemonSet")), ("--ignore-daemonsets",), False, ""),
        (pod(metadata=owned("ReplicaSet"), spec=SCRATCH), (), False, "emptyDir"),
        (pod(metadata=owned("ReplicaSet"), spec=SCRATCH), ("--delete-emptydir-data",), True, ""),
        (pod(metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}), (), False, ""),
        (pod(status={"phase": "Succeeded"}), (), True, ""),
    ],
)
def test_a_drain_moves_what_comes_back_elsewhere(
    found: dict[str, Any], flags: tuple[str, ...], leaves: bool, problem: str
) -> None:
    verdict = judge(found, parse("kubectl", ["drain", "n1", *flags]).parsed)
    assert verdict.leaves is leaves
    assert problem in verdict.problem
    assert bool(verdict.problem) is bool(problem)


def test_selectors_of_workloads_are_written_as_queries() -> None:
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"},
            {"key": "new", "operator": "Exists"},
            {"key": "zone", "operator": "NotIn", "values": ["x"]},
        ],
    }
    found = of_workload({"metadata": {"name": "web"}, "spec": {"selector": selector}})
    assert found == "app=web,tier in (a,b),!old,new,zone notin (x)"
    with pytest.raises(CommandEnds, match="selects no pods"):
        of_workload({"metadata": {"name": "web"}, "spec": {}})
