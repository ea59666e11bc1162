"""Partial objects: what is read of real ones, and that nulls and unknown fields do no harm."""

import gc

import msgspec
import pytest

from towline.kube import objects
from towline.kube.objects import (
    Counts,
    CronJob,
    DaemonSet,
    Deployment,
    Event,
    Job,
    List,
    Namespace,
    Node,
    NodeMetrics,
    Pod,
    PodMetrics,
    ReplicaSet,
    StatefulSet,
    counts,
)  # fmt: skip

NODE = b"""{"kind":"Node","apiVersion":"v1","metadata":{"name":"n1","uid":"u","resourceVersion":"7",
"managedFields":[{}],
"creationTimestamp":"2026-11-21T10:00:00Z","labels":{"kubernetes.io/arch":"amd64","node-role.kubernetes.io/control-plane":"",
"topology.kubernetes.io/zone":"eu-1","other":"x"}},"spec":{"podCIDR":"10.0.0.0/24","unschedulable":true,
"taints":[{"key":"k","effect":"NoSchedule"}]},"status":{"capacity":{"cpu":"2","memory":"4Gi","pods":"110"},
"allocatable":{"cpu":"1900m"},"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":null,"reason":"KubeletReady"}],
"addresses":[{"type":"InternalIP","address":"10.0.0.4"}],"images":[{"names":["a"]}],
"nodeInfo":{"kubeletVersion":"v1.36.3","osImage":"Debian","containerRuntimeVersion":"containerd://2.1"}}}"""
POD = b"""{"metadata":{"name":"web-1","namespace":"a","uid":"u","labels":{"app":"web","app.kubernetes.io/name":"webby"},
"ownerReferences":[{"kind":"Thing","name":"t"},{"kind":"ReplicaSet","name":"web","controller":true,"uid":"x"}]},
"spec":{"nodeName":"n1","containers":[{"name":"c","env":[{"name":"A","value":"secret"}]}]},
"status":{"phase":"Running","startTime":"2026-11-21T10:00:00Z","podIP":"10.1.0.2","conditions":[{"type":"Ready","status":"False",
"lastProbeTime":null,"lastTransitionTime":"2026-11-21T10:05:00Z"}],"containerStatuses":[{"name":"c","ready":false,
"restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"exitCode":1,"reason":"Error"}}},
{"name":"d","ready":true,"restartCount":1,"state":{"running":{"startedAt":"2026-11-21T10:00:01Z"}},"lastState":{}}]}}"""


def test_node_is_read() -> None:
    node = msgspec.json.decode(NODE, type=Node)
    assert (node.metadata.name, node.metadata.resource_version) == ("n1", "7")
    assert node.metadata.labels is not None
    assert (node.metadata.labels.architecture, node.metadata.labels.zone, node.metadata.labels.control_plane) == (
        "amd64",
        "eu-1",
        "",
    )
    assert node.spec.unschedulable
    assert node.status.capacity == {"cpu": "2", "memory": "4Gi", "pods": "110"}
    assert node.status.allocatable == {"cpu": "1900m"}
    assert [(c.type, c.status) for c in node.status.conditions or ()] == [("Ready", "True")]
    assert [(a.type, a.address) for a in node.status.addresses or ()] == [("InternalIP", "10.0.0.4")]
    assert node.status.node_info.kubelet_version == "v1.36.3"


def test_pod_is_read_and_its_environment_is_not() -> None:
    pod = msgspec.json.decode(POD, type=Pod)
    assert (pod.metadata.namespace, pod.spec.node_name, pod.status.phase, pod.status.pod_ip) == (
        "a",
        "n1",
        "Running",
        "10.1.0.2",
    )
    assert pod.metadata.labels is not None
    assert (pod.metadata.labels.app, pod.metadata.labels.app_name) == ("web", "webby")
    assert pod.metadata.owner is not None
    assert (pod.metadata.owner.kind, pod.metadata.owner.name) == ("ReplicaSet", "web")
    assert pod.restarts == 4
    assert "secret" not in repr(pod)


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (Deployment, b'{"spec":{"replicas":3},"status":{"readyReplicas":2,"updatedReplicas":1}}', Counts(3, 2, 1)),
        (Deployment, b'{"spec":{},"status":{}}', Counts(1, 0, 0)),
        (Deployment, b'{"spec":{"replicas":0},"status":{}}', Counts(0, 0, 0)),
        (StatefulSet, b'{"spec":{"replicas":2},"status":{"readyReplicas":2,"updatedReplicas":2}}', Counts(2, 2, 2)),
        (
            DaemonSet,
            b'{"status":{"desiredNumberScheduled":5,"numberReady":4,"updatedNumberScheduled":3}}',
            Counts(5, 4, 3),
        ),
        (Job, b'{"spec":{"completions":4,"parallelism":2},"status":{"succeeded":1,"active":2}}', Counts(4, 1, 1)),
        (Job, b'{"spec":{"completions":null},"status":{}}', Counts(1, 0, 0)),
    ],
)
def test_workloads_are_counted(kind: type[Deployment], body: bytes, expected: Counts) -> None:
    assert counts(msgspec.json.decode(body, type=kind)) == expected


def test_cron_job_is_read() -> None:
    body = b'{"spec":{"schedule":"*/5 * * * *","suspend":true},'
    body += b'"status":{"lastScheduleTime":"2026-11-21T10:00:00Z","active":[{"name":"j"}]}}'
    cron = msgspec.json.decode(body, type=CronJob)
    assert (cron.spec.schedule, cron.spec.suspend, cron.status.last_schedule_time) == (
        "*/5 * * * *",
        True,
        "2026-11-21T10:00:00Z",
    )


@pytest.mark.parametrize(
    ("body", "times", "last"),
    [
        (b'{"count":7,"firstTimestamp":"2026-11-21T09","lastTimestamp":"2026-11-21T10","eventTime":null}',
         7, "2026-11-21T10"),
        (b'{"lastTimestamp":null,"eventTime":"2026-11-21T10:00:00.000001Z"}', 1, "2026-11-21T10:00:00.000001Z"),
        (b'{"eventTime":"a","series":{"count":3,"lastObservedTime":"b"}}', 3, "b"),
        (b'{"metadata":{"creationTimestamp":"c"},"lastTimestamp":null}', 1, "c"),
    ],
)  # fmt: skip
def test_event_says_how_often_and_when_last(body: bytes, times: int, last: str) -> None:
    event = msgspec.json.decode(body, type=Event)
    assert (event.times, event.last_time) == (times, last)


def test_event_names_what_it_is_about() -> None:
    body = b'{"type":"Warning","reason":"BackOff","message":"m",'
    body += b'"involvedObject":{"kind":"Pod","namespace":"a","name":"p"}}'
    event = msgspec.json.decode(body, type=Event)
    assert (event.type, event.reason, event.message, event.involved_object.name) == ("Warning", "BackOff", "m", "p")


def test_metrics_are_read() -> None:
    node = msgspec.json.decode(
        b'{"metadata":{"name":"n"},"usage":{"cpu":"12n","memory":"1Ki"},"window":"10s"}', type=NodeMetrics
    )
    pod = msgspec.json.decode(b'{"containers":[{"name":"c","usage":{"cpu":"1m"}}]}', type=PodMetrics)
    assert node.usage == {"cpu": "12n", "memory": "1Ki"}
    assert [(c.name, c.usage) for c in pod.containers or ()] == [("c", {"cpu": "1m"})]


def test_list_page_is_read_with_its_continuation() -> None:
    body = (
        b'{"kind":"PodList","metadata":{"resourceVersion":"9","continue":"tok","remainingItemCount":2},"items":['
        + POD
        + b"]}"
    )
    page = msgspec.json.decode(body, type=List[Pod])
    assert (page.metadata.resource_version, page.metadata.continue_token, page.metadata.remaining_item_count) == (
        "9",
        "tok",
        2,
    )
    assert [pod.metadata.name for pod in page.items or ()] == ["web-1"]
    assert msgspec.json.decode(b'{"metadata":{},"items":null}', type=List[Pod]).items is None


@pytest.mark.parametrize(
    "kind",
    [
        Node,
        Namespace,
        Pod,
        Deployment,
        StatefulSet,
        DaemonSet,
        ReplicaSet,
        Job,
        CronJob,
        Event,
        NodeMetrics,
        PodMetrics,
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"metadata":{"labels":null,"ownerReferences":null,"creationTimestamp":null,"deletionTimestamp":null}}',
        b'{"metadata":{"x":1},"unknown":{"a":[1]},"status":{"conditions":null}}',
    ],
)  # fmt: skip
def test_missing_and_null_fields_are_no_error(kind: type[object], body: bytes) -> None:
    msgspec.json.decode(body, type=kind)


def test_parts_cost_the_collector_nothing() -> None:
    parts = [part for part in vars(objects).values() if isinstance(part, type) and issubclass(part, msgspec.Struct)]
    assert len(parts) > 30
    assert all(part.__struct_config__.gc is False for part in parts)
    assert not gc.is_tracked(msgspec.json.decode(POD, type=Pod))
