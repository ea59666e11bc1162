"""What is wrong with a pod, in words that people search for."""

import msgspec
import pytest

from towline.kube.objects import Pod
from towline.kube.times import moment
from towline.kube.troubles import HEALTHY_RUN, MAX_TROUBLE_CHARACTERS, Crash, Trouble, pod_trouble

SINCE = "2026-11-21T10:05:00Z"
NOW = moment(SINCE)
NOT_READY = {"type": "Ready", "status": "False", "lastTransitionTime": SINCE}


def container(name: str = "c", *, ready: bool = False, state: object = None, last: object = None) -> dict[str, object]:
    return {"name": name, "ready": ready, "state": state or {}, "lastState": last or {}}


def waiting(reason: str, message: str = "") -> dict[str, object]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(reason: str, code: int) -> dict[str, object]:
    return {"terminated": {"reason": reason, "exitCode": code}}


def found(*containers: dict[str, object], now: float = NOW, metadata: object = None, **status: object) -> Trouble:
    body = {"metadata": metadata or {}, "status": {"containerStatuses": list(containers), **status}}
    return pod_trouble(msgspec.convert(body, Pod), now)


def trouble(*containers: dict[str, object], **more: object) -> str:
    return found(*containers, **more).words


RUNNING = {"running": {"startedAt": SINCE}}


@pytest.mark.parametrize(
    ("one", "expected"),
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
def test_trouble_of_a_container_is_named(one: dict[str, object], expected: str) -> None:
    assert trouble(one, phase="Running", conditions=[NOT_READY]) == expected


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


# -- what ends again and again ---------------------------------------------------------------------


LONG_BEFORE = "2026-11-21T09:05:00Z"


def run(code: int = 3, reason: str = "Error", *, began: str = SINCE) -> dict[str, object]:
    """An end at SINCE."""
    return {"terminated": {"reason": reason, "exitCode": code, "startedAt": began, "finishedAt": SINCE}}


def again(restarts: int = 2, *, state: object = None, last: object = None) -> dict[str, object]:
    made = container(ready=True, state=state or RUNNING, last=run() if last is None else last)
    return made | {"restartCount": restarts}


def test_container_that_runs_between_two_ends_is_told_until_it_has_run_for_long_enough() -> None:
    told = found(again(), phase="Running", now=NOW + 5)
    assert told.words == "Restarting (c): last end: exit code 3"
    assert told.crash == Crash("c", "Error", 3, runs=True)
    assert told.until == NOW + HEALTHY_RUN
    assert found(again(), phase="Running", now=told.until - 1) == told
    assert found(again(), phase="Running", now=told.until) == Trouble("")


def test_memory_that_ran_out_is_named_while_the_container_runs_again() -> None:
    assert trouble(again(last=run(137, "OOMKilled")), phase="Running") == "Restarting (c): last end: OOMKilled"


@pytest.mark.parametrize(
    "one",
    [again(1), again(last={}), again(9, last=run(began=LONG_BEFORE))],
    ids=["began again once", "nobody knows its last end", "ended after an hour"],
)
def test_container_that_began_again_for_another_reason_is_well(one: dict[str, object]) -> None:
    assert found(one, phase="Running") == Trouble("")


@pytest.mark.parametrize(
    ("one", "crash"),
    [
        (again(4, state=run()), Crash("c", "Error", 3, runs=False)),
        (again(4, state=waiting("CrashLoopBackOff")), Crash("c", "Error", 3, runs=False)),
        (container(state=waiting("CrashLoopBackOff")), Crash("c", "", 0, runs=False)),
        (again(0, state=run()), None),
        (again(9, state=run(began=LONG_BEFORE)), None),
        (again(4, state=waiting("ImagePullBackOff")), None),
    ],
)
def test_how_it_ended_is_told_of_what_is_started_again(one: dict[str, object], crash: Crash | None) -> None:
    told = found(one, phase="Running")
    assert (told.crash, told.until) == (crash, 0)


def test_what_is_down_is_told_before_what_runs_again() -> None:
    down = container("d", state=waiting("ImagePullBackOff"))
    assert trouble(again(), down, phase="Running") == "ImagePullBackOff (d)"


def test_job_that_ended_well_after_some_failures_has_no_trouble() -> None:
    done = again(3, state={"terminated": {"reason": "Completed", "exitCode": 0, "finishedAt": SINCE}})
    assert found(done, phase="Running") == Trouble("")
