"""What is wrong with a pod, in words that people search for."""

import msgspec
import pytest

from towline.kube.objects import Pod
from towline.kube.troubles import MAX_TROUBLE_CHARACTERS, pod_trouble

SINCE = "2026-11-21T10:05:00Z"
NOT_READY = {"type": "Ready", "status": "False", "lastTransitionTime": SINCE}


def container(name: str = "c", *, ready: bool = False, state: object = None, last: object = None) -> dict[str, object]:
    return {"name": name, "ready": ready, "state": state or {}, "lastState": last or {}}


def waiting(reason: str, message: str = "") -> dict[str, object]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(reason: str, code: int) -> dict[str, object]:
    return {"terminated": {"reason": reason, "exitCode": code}}


def trouble(*containers: dict[str, object], metadata: object = None, **status: object) -> str:
    body = {"metadata": metadata or {}, "status": {"containerStatuses": list(containers), **status}}
    return pod_trouble(msgspec.convert(body, Pod))


RUNNING = {"running": {"startedAt": SINCE}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (container(state=waiting("CrashLoopBackOff", "back-off"), last=ended("Error", 7)),
         "CrashLoopBackOff (c): last end: exit code 7"),
        (container(state=waiting("CrashLoopBackOff"), last=ended("OOMKilled", 137)),
         "CrashLoopBackOff (c): last end: OOMKilled"),
        (container(state=waiting("CrashLoopBackOff", "back-off 5m0s")), "CrashLoopBackOff (c): back-off 5m0s"),
        (container(state=waiting("ImagePullBackOff", "no such image")), "ImagePullBackOff (c): no such image"),
        (container(state=waiting("ErrImagePull")), "ErrImagePull (c)"),
        (container(state=waiting("CreateContainerConfigError", 'secret "s" not found')),
         'CreateContainerConfigError (c): secret "s" not found'),
        (container(state=ended("OOMKilled", 137)), "OOMKilled (c): exit code 137"),
        (container(state=ended("Error", 1)), "Error (c): exit code 1"),
        (container(state=ended("", 2)), "Error (c): exit code 2"),
    ],
)  # fmt: skip
def test_trouble_of_a_container_is_named(found: dict[str, object], expected: str) -> None:
    assert trouble(found, phase="Running", conditions=[NOT_READY]) == expected


def test_unschedulable_pod_shows_the_schedulers_message() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
    }
    assert trouble(phase="Pending", conditions=[condition]) == "Unschedulable: 0/3 nodes are available"


def test_pod_that_runs_without_being_ready_says_since_when() -> None:
    slow, fine = container("slow", state=RUNNING), container("fine", ready=True, state=RUNNING)
    assert trouble(slow, fine, phase="Running", conditions=[NOT_READY]) == f"not ready since {SINCE} (slow)"


def test_evicted_pod_says_why() -> None:
    assert (
        trouble(phase="Failed", reason="Evicted", message="The node was low on memory.")
        == "Evicted: The node was low on memory."
    )
    assert trouble(phase="Unknown") == "Unknown"


def test_init_container_is_heard_first() -> None:
    init = [container("init", state=waiting("ImagePullBackOff"))]
    assert (
        trouble(container(state=waiting("PodInitializing")), phase="Pending", initContainerStatuses=init)
        == "ImagePullBackOff (init)"
    )


@pytest.mark.parametrize(
    "words",
    [
        trouble(
            container(ready=True, state=RUNNING), phase="Running", conditions=[{"type": "Ready", "status": "True"}]
        ),
        trouble(container(state=waiting("ContainerCreating")), phase="Pending"),
        trouble(container(state=waiting("PodInitializing")), phase="Pending"),
        trouble(container(state=ended("Completed", 0)), phase="Succeeded"),
        trouble(container(state=ended("Error", 137)), phase="Running", metadata={"deletionTimestamp": SINCE}),
        trouble(container(state=ended("Completed", 0)), container("d", ready=True, state=RUNNING), phase="Running"),
        trouble(container(ready=True, state=RUNNING, last=ended("OOMKilled", 137)), phase="Running"),
        trouble(phase="Pending"),
        trouble(),
    ],
)
def test_pod_that_is_well_or_on_its_way_has_no_trouble(words: str) -> None:
    assert words == ""


def test_trouble_is_short() -> None:
    assert (
        len(trouble(container(state=waiting("ErrImagePull", "x" * 10_000)), phase="Pending")) == MAX_TROUBLE_CHARACTERS
    )
