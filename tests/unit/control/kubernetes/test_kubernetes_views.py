"""What pages say of objects: states in words, rows of pods, lines that a reader has, YAML that can be edited."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from towline.control.errors import ApiError
from towline.control.kubernetes import pod_logs, pod_rows, shells, views
from towline.control.kubernetes.actions import checked, conflicts
from towline.control.kubernetes.kinds import BY_KIND, KINDS, PODS, page_of
from towline.kube.times import moment


def pod(phase: str = "Running", *statuses: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", **metadata}, "status": {"phase": phase, "containerStatuses": list(statuses)}}


STAMP = "2026-01-02T03:04:05Z"
NOW = moment(STAMP)
ENDED = {"terminated": {"exitCode": 3, "reason": "Error", "startedAt": STAMP, "finishedAt": STAMP}}
LOOPS = {
    "name": "up", "ready": True, "restartCount": 4, "state": {"running": {"startedAt": STAMP}}, "lastState": ENDED,
}  # fmt: skip
UP = {"name": "up", "ready": True, "state": {"running": {}}}
BAD = {"name": "bad", "ready": False, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}


@pytest.mark.parametrize(
    ("found", "tone", "word", "why"),
    [
        (pod("Running", UP), "healthy", "Running", ""),
        (pod("Running", UP, BAD), "degraded", "1 of 2 ready", "ImagePullBackOff (bad): no such image"),
        (pod("Running", LOOPS), "degraded", "1 of 1 ready", "Restarting (up): last end: exit code 3"),
        (pod("Pending", BAD), "down", "Pending", "ImagePullBackOff (bad): no such image"),
        (pod("Pending"), "working", "Pending", ""),
        (pod("Succeeded"), "unknown", "Succeeded", ""),
        (pod("Running", BAD, deletionTimestamp="2026-01-02T03:04:05Z"), "working", "Terminating", ""),
    ],
)
def test_the_state_of_a_pod_names_its_reason(found: dict[str, Any], tone: str, word: str, why: str) -> None:
    assert views.pod_state(found, NOW) == (tone, word, why)


@pytest.mark.parametrize(
    ("status", "ready", "tone"),
    [
        ("Running", "2/2", "healthy"),
        ("Running", "1/2", "degraded"),
        ("CrashLoopBackOff", "0/1", "down"),
        ("Init:CrashLoopBackOff", "0/1", "down"),
        ("Init:0/2", "0/1", "working"),
        ("Init:Error", "0/1", "down"),
        ("ContainerCreating", "0/1", "working"),
        ("Completed", "0/1", "unknown"),
        ("Evicted", "0/1", "down"),
    ],
)
def test_the_words_of_kubectl_are_one_of_five_states(status: str, ready: str, tone: str) -> None:
    assert pod_rows.tone(status, ready) == tone


@pytest.mark.parametrize(
    ("restarts", "tone"),
    [
        ("0", "healthy"), ("1 (5s ago)", "healthy"), ("2 (5s ago)", "degraded"), ("7 (9m59s ago)", "degraded"),
        ("7 (10m ago)", "healthy"), ("7 (3h2m ago)", "healthy"), ("7 (2d ago)", "healthy"), ("7", "healthy"),
    ],
)  # fmt: skip
def test_a_pod_that_began_again_a_moment_ago_is_not_quite_well(restarts: str, tone: str) -> None:
    assert pod_rows.tone("Running", "1/1", restarts) == tone


def test_a_workload_is_as_well_as_its_counts() -> None:
    spec = {"replicas": 2}
    states = [
        views.workload_state({"kind": "Deployment", "spec": spec, "status": status}, "why")[:2]
        for status in ({"readyReplicas": 2, "updatedReplicas": 2}, {"readyReplicas": 1, "updatedReplicas": 2}, {})
    ]
    assert states == [("healthy", "2 of 2 ready"), ("degraded", "1 of 2 ready"), ("down", "0 of 2 ready")]
    assert views.workload_state({"kind": "Deployment", "spec": {"replicas": 0}}, "")[1] == "Scaled to none"


def test_yaml_to_edit_holds_nothing_that_the_server_writes_itself() -> None:
    found = {
        "apiVersion": "v1", "kind": "Pod", "spec": {"script": "one\ntwo\n"}, "status": {"phase": "Running"},
        "metadata": {"name": "p", "uid": "u", "managedFields": [], "annotations": {views.LAST_APPLIED: "{}", "a": "b"}},
    }  # fmt: skip
    text = views.editable(found)
    assert yaml.safe_load(text) == {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {"a": "b"}},
        "spec": {"script": "one\ntwo\n"},
    }  # fmt: skip
    assert "script: |" in text


def test_no_kind_with_a_page_holds_secrets_and_every_page_has_an_address() -> None:
    assert "secrets" not in KINDS
    for kind in BY_KIND.values():
        assert page_of("prod", kind.kind, "shop", "a").endswith(f"/kubernetes/shop/{kind.resource}/a")
    assert page_of("prod", "Secret", "shop", "a") == ""


def test_paths_are_encoded() -> None:
    assert PODS.path("a/b", "c?d", "log", x="1&2") == "/api/v1/namespaces/a%2Fb/pods/c%3Fd/log?x=1%262"


def test_the_sieve_keeps_what_comes_behind_the_cursor() -> None:
    lines = b"T1 a\nT2 b\nT2 c\nT3 d\n"
    assert pod_logs.Sieve("").keep(lines) == lines
    assert pod_logs.Sieve("T2/1").keep(lines) == b"T2 c\nT3 d\n"
    assert pod_logs.Sieve("T2/2").keep(lines) == b"T3 d\n"
    assert pod_logs.Sieve("T9/1").keep(lines) == b""
    split = pod_logs.Sieve("T2/2")
    assert [split.keep(line + b"\n") for line in lines.splitlines()] == [b"", b"", b"", b"T3 d\n"]


async def test_blocks_hold_whole_lines_wherever_the_bytes_are_cut() -> None:
    data = b"T1 a\nT2 bb\nT3 c"
    for size in range(1, len(data) + 1):
        found = [block async for block in pod_logs.blocks(_pieces(data, size))]
        assert b"".join(found) == data + b"\n"
        assert all(block.endswith(b"\n") for block in found)


async def test_a_line_without_end_comes_in_pieces() -> None:
    longest = pod_logs.LONGEST_LINE
    found = [block async for block in pod_logs.blocks(_pieces(b"T1 " + b"x" * 3 * longest, 1000))]
    assert all(len(block) <= longest + 1 and block.startswith(b"T1 ") for block in found)
    assert sum(block.count(b"x") for block in found) == 3 * longest


async def _pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def test_conflicts_name_fields_and_their_owners() -> None:
    cause = {"reason": "FieldManagerConflict", "field": ".spec.x", "message": 'conflict with "argo" using apps/v1'}
    found = conflicts({"details": {"causes": [cause, {"reason": "Other"}]}})
    assert found == [{"field": ".spec.x", "owner": "argo", "how": "using apps/v1"}]


@pytest.mark.parametrize(
    "text", ["", "[]", "a: [", "kind: Pod", "kind: Service\nmetadata: {name: p}", "!!python/none x"]
)
def test_what_is_not_the_object_of_the_page_is_refused(text: str) -> None:
    with pytest.raises(ApiError):
        checked(text, PODS, "shop", "p")


def test_dates_in_yaml_stay_text_of_json() -> None:
    body = checked("kind: Pod\nmetadata: {name: p, annotations: {at: 2026-01-02}}\nstatus: {}", PODS, "shop", "p")
    assert body == b'{"kind":"Pod","metadata":{"name":"p","annotations":{"at":"2026-01-02"}}}'


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (b'{"status":"Success"}', 0),
        (b'{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}', 7),
        (b'{"status":"Failure","message":"no such container"}', -1),
        (b"not json", -1),
    ],
)
def test_the_end_of_a_command_is_read_from_its_status(status: bytes, code: int) -> None:
    assert shells.ending(status)["code"] == code


def test_usage_is_told_for_each_container_and_nonsense_counts_as_nothing() -> None:
    told = {
        "containers": [
            {"name": "main", "usage": {"cpu": "12345678n", "memory": "2Mi"}},
            {"name": "side", "usage": {"cpu": "?", "memory": "-"}},
            {"name": "new"},
        ]
    }
    used = views.usage(told)
    assert used["main"] == (pytest.approx(0.012345678), 2 * 1024 * 1024)
    assert (used["side"], used["new"]) == ((0.0, 0.0), (0.0, 0.0))
    assert views.usage({}) == {}
