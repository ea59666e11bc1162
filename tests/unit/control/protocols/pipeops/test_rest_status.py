"""What a status of a REST agent becomes in the inventory, beginning with what a real one sent."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.rest_trace import bodies

from towline.control.protocols.pipeops.rest_status import (
    DEADLINE_SECONDS,
    MISSING,
    SETTLE_SECONDS,
    STUCK_SECONDS,
    Book,
)
from towline.wire import kube_inventory, link
from towline.wire import pipeops_rest as rest

NOW = 1_800_000_000.0


def status(**body: Any) -> rest.Status:
    return rest.decode(rest.Status, json.dumps(body), limit=rest.MAX_STATUS_BYTES)


def pod(name: str = "web-1", **changes: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "shop", "ready": True, "phase": "Running", "containers": 1} | changes


def told(book: Book, now: float = NOW, **body: Any) -> link.KubeInventory:
    found = book.take(status(**body), now=now)
    assert found is not None
    return found


def test_the_recorded_status_becomes_an_inventory_of_what_it_says() -> None:
    first, _ = bodies("/status")
    found = Book().take(rest.decode(rest.Status, first), now=NOW)
    assert found is not None and found.full
    assert [node.name for node in found.nodes] == ["node1"]
    assert found.nodes[0].ready and found.nodes[0].pods == 3 and found.nodes[0].version == "v1.36.3"
    assert found.nodes[0].allocatable == kube_inventory.Amounts(cpu=2.0, memory_bytes=24581684 * 1024)
    assert [one.name for one in found.namespaces] == [
        "default", "kube-node-lease", "kube-public", "kube-system", "pipeops-system",
    ]  # fmt: skip
    assert found.namespaces[0].pods == kube_inventory.PodCounts(total=2, running=2)
    assert found.namespaces[1].pods == kube_inventory.PodCounts()
    (web,) = found.workloads
    assert (web.kind, web.namespace, web.name, web.state, web.ready) == ("Deployment", "default", "web", "ready", 2)
    assert found.pods == ()


def test_the_second_recorded_status_changes_nothing() -> None:
    first, second = bodies("/status")
    book = Book()
    book.take(rest.decode(rest.Status, first), now=NOW)
    assert book.take(rest.decode(rest.Status, second), now=NOW + 30) is None


def test_what_a_rest_agent_does_not_tell_is_named_and_not_counted_as_nothing() -> None:
    found = told(Book(), deployments=[{"name": "web", "namespace": "shop", "ready": True}])
    assert found.about is not None and found.about.missing == MISSING
    assert found.workloads[0].desired_known is False
    assert found.about.metrics is False


def test_all_is_told_again_after_the_book_was_forgotten() -> None:
    book = Book()
    told(book, namespaces=["shop"])
    book.forget()
    assert told(book, now=NOW + 30, namespaces=["shop"]).full


def test_what_changed_is_told_alone() -> None:
    book = Book()
    told(book, namespaces=["shop", "bank"], nodes=[{"name": "n1", "ready": True}])
    found = told(book, now=NOW + 30, namespaces=["shop"], nodes=[{"name": "n1", "ready": False}])
    assert not found.full and found.about is None
    assert [one.name for one in found.nodes] == ["n1"] and found.nodes[0].trouble == "not ready"
    assert found.namespaces == ()
    assert found.removed == (kube_inventory.Reference(section="namespaces", key="bank"),)


def test_a_pod_that_is_not_ready_is_told_when_it_stays_so() -> None:
    book, sick = Book(), pod(ready=False, restarts=3)
    assert told(book, pods=[sick]).pods == ()
    found = told(book, now=NOW + SETTLE_SECONDS, pods=[sick])
    assert [(one.name, one.reason, one.since) for one in found.pods] == [("web-1", "not ready, 3 restarts", NOW)]
    assert found.namespaces[0].pods.unwell == 1


def test_a_pod_that_became_ready_is_taken_back() -> None:
    book, sick = Book(), pod(ready=False)
    book.take(status(pods=[sick]), now=NOW)
    told(book, now=NOW + 60, pods=[sick])
    found = told(book, now=NOW + 90, pods=[pod()])
    assert found.removed == (kube_inventory.Reference(section="pods", key="shop/web-1"),)


def test_a_pod_that_is_ready_in_between_begins_anew() -> None:
    book, sick = Book(), pod(ready=False)
    book.take(status(pods=[sick]), now=NOW)
    book.take(status(pods=[pod()]), now=NOW + 30)
    assert book.take(status(pods=[sick]), now=NOW + 60) is None


def test_a_pod_that_does_not_start_is_told_after_minutes() -> None:
    book, waiting = Book(), pod(ready=False, phase="Pending")
    assert told(book, pods=[waiting]).pods == ()
    assert book.take(status(pods=[waiting]), now=NOW + STUCK_SECONDS - 1) is None
    assert told(book, now=NOW + STUCK_SECONDS, pods=[waiting]).pods[0].reason == "still not started"


def test_a_pod_that_failed_is_told_at_once_and_one_that_is_done_never() -> None:
    found = told(Book(), pods=[pod("a", ready=False, phase="Failed"), pod("b", ready=False, phase="Succeeded")])
    assert [(one.name, one.reason) for one in found.pods] == [("a", "Failed; the agent does not tell why")]


def test_a_deployment_that_stays_unready_becomes_degraded() -> None:
    book, unready = Book(), [{"name": "web", "namespace": "shop", "ready": False}]
    assert told(book, deployments=unready).workloads[0].state == "progressing"
    found = told(book, now=NOW + DEADLINE_SECONDS, deployments=unready)
    assert (found.workloads[0].state, found.workloads[0].reason) == ("degraded", "not ready")


def test_pods_are_counted_for_the_deployment_that_made_them() -> None:
    labels = {"pod-template-hash": "5d9948bb55"}
    pods = [
        pod("web-5d9948bb55-a", labels=labels),
        pod("web-5d9948bb55-b", labels=labels, ready=False, phase="Failed"),
        pod("web-5d9948bb55-c", labels=labels, namespace="other"),
        pod("web-1"),
    ]
    found = told(Book(), pods=pods, deployments=[{"name": "web", "namespace": "shop", "ready": True}])
    assert found.workloads[0].ready == 1
    assert (found.pods[0].owner_kind, found.pods[0].owner) == ("Deployment", "web")


def test_a_namespace_that_only_pods_name_is_there() -> None:
    assert [one.name for one in told(Book(), namespaces=["bank"], pods=[pod()]).namespaces] == ["bank", "shop"]


def test_quantities_that_cannot_be_read_are_unknown() -> None:
    resources = {"allocatable": {"cpu": "many", "memory": "-1"}, "capacity": {"cpu": "250m", "memory": "1e400"}}
    node = told(Book(), nodes=[{"name": "n1", "resources": resources}]).nodes[0]
    assert node.allocatable == kube_inventory.Amounts()
    assert node.capacity.cpu == 0.25


def test_names_that_no_cluster_has_are_cut() -> None:
    assert len(told(Book(), namespaces=["x" * 100_000]).namespaces[0].name) == 253


def test_sections_are_no_longer_than_the_inventory_takes() -> None:
    most = kube_inventory.MOST_ENTRIES
    many = [pod(f"p{n}", ready=False, phase="Failed") for n in range(most["pods"] + 5)]
    assert len(told(Book(), pods=many).pods) == most["pods"]


_text = st.text(max_size=8)
_pods = st.fixed_dictionaries(
    {}, optional={"name": _text, "namespace": _text, "ready": st.booleans(), "phase": _text, "restarts": st.integers()}
)
_statuses = st.fixed_dictionaries(
    {},
    optional={
        "nodes": st.lists(st.fixed_dictionaries({}, optional={"name": _text, "ready": st.booleans()}), max_size=3),
        "namespaces": st.lists(_text, max_size=3),
        "pods": st.lists(_pods, max_size=4),
        "deployments": st.lists(
            st.fixed_dictionaries({}, optional={"name": _text, "namespace": _text, "ready": st.booleans()}), max_size=3
        ),
    },
)


@settings(max_examples=60)
@given(st.lists(st.tuples(_statuses, st.floats(0, 700)), min_size=1, max_size=5))
def test_what_was_told_always_sums_up_to_the_last_status(turns: list[tuple[dict[str, Any], float]]) -> None:
    book, held, now = Book(), dict[tuple[str, str], Any](), NOW
    last: rest.Status | None = None
    for body, passed in turns:
        now += passed
        try:
            last = rest.decode(rest.Status, json.dumps(body))
        except rest.BadBody:
            continue
        message = book.take(last, now=now)
        if message is not None:
            held = _applied(held, message)
    if last is None:
        return
    book.forget()
    whole = book.take(last, now=now)
    assert whole is not None
    assert held == _applied({}, whole)


def _applied(held: dict[tuple[str, str], Any], message: link.KubeInventory) -> dict[tuple[str, str], Any]:
    found = {} if message.full else dict(held)
    for gone in message.removed:
        del found[gone.section, gone.key]
    for section in ("nodes", "namespaces", "workloads", "pods"):
        for entry in getattr(message, section):
            found[section, kube_inventory.entry_key(entry)] = entry
    return found
