"""Conformance 18 to 25: watches and followed logs. What ends them, and what must never do so."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import differential, javascript
from tests.support import kubernetes_objects as objects
from tests.support.kubectl import Going
from tests.support.kubernetes_stack import Stack, User
from tests.support.meddling_api import Call, MeddlingApi
from tests.testbed.kubectl import VERSIONS

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

BOTH = ("1.28", "1.37")
EVENTS = 10_000
# Longer than any interval of ours in these tests (heartbeats of 2 s, offline after 6 s) and than kubectl's pings.
QUIET_SECONDS = 25.0
SPEAKS = "n=0; while true; do n=$((n+1)); echo line $n; sleep 0.2; done"


@pytest.fixture(scope="module")
def home(stack: Stack) -> Iterator[str]:
    """A namespace with a pod that speaks all the time, one that died once, and one that is silent."""
    with stack.empty_namespace("k8-streams") as name:
        died = objects.pod("died", "sh", "-c", "echo this is life $(date +%s%N); sleep 1")
        silent = objects.pod("silent", "sh", "-c", "echo once; exec sleep 100000")
        objects.apply(stack.direct(), name, objects.pod("speaker", "sh", "-c", SPEAKS), died, silent)
        objects.wait_for_pods(stack.direct(), name, "pod/speaker", "pod/silent")
        yield name


@pytest.fixture(scope="module")
def idle(home: str, ada: User, stack: Stack) -> Iterator[tuple[float, Going, Going]]:
    """A watch and a followed log that nothing happens on, from the beginning of this module on."""
    watch = ada.client().going("-n", home, "get", "configmaps", "-w", "-l", "for=idle", "-o", "name")
    logs = ada.client().going("-n", home, "logs", "-f", "silent")
    with watch, logs:
        logs.line("once")
        yield time.monotonic(), watch, logs


# 18
@pytest.mark.parametrize("version", VERSIONS)
def test_change_shows_in_a_watch_within_a_second(
    version: str, idle: object, home: str, ada: User, stack: Stack
) -> None:
    with ada.client(version).going("-n", home, "get", "configmaps", "-w", "-o", "name") as watch:
        watch.line("kube-root-ca.crt")
        for number in range(3):
            name = f"seen-{number}-{version.replace('.', '-')}"
            began = time.monotonic()
            stack.admin.apply(f"/api/v1/namespaces/{home}/configmaps", objects.named("ConfigMap", name))
            moment, _ = watch.line(name)
            assert moment - began < 1


def invent_events(call: Call) -> None:
    """Ten thousand events in one watch, several in a piece and some cut in two."""
    if "watch=" not in call.line:
        call.pass_on()
        return
    call.begin_chunks()
    held = b""
    for number in range(EVENTS):
        held += json.dumps({"type": "MODIFIED", "object": invented(number)}).encode() + b"\n"
        if number % 7 == 0:
            cut = len(held) // 2 if number % 3 == 0 else len(held)
            call.chunk(held[:cut])
            held = held[cut:]
    call.chunk(held)
    call.chunk(b"")


def invented(number: int) -> dict[str, Any]:
    metadata = {"name": f"event-{number}", "namespace": "default", "resourceVersion": str(1000 + number)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def test_ten_thousand_events_come_in_order(meddling: MeddlingApi, ada: User) -> None:
    meddling.script = invent_events
    with ada.http(base_url=ada.stack.server("meddled")) as api:
        text = api.get("/api/v1/configmaps?watch=1").text
    names = [json.loads(line)["object"]["metadata"]["name"] for line in text.splitlines()]
    assert names == [f"event-{number}" for number in range(EVENTS)]


# 19
def test_watch_ends_cleanly_when_its_time_is_over(home: str, ada: User) -> None:
    with ada.http() as api:
        began = time.monotonic()
        path = f"/api/v1/namespaces/{home}/pods?watch=1&timeoutSeconds=2"
        with api.stream("GET", path) as answer:
            list(answer.iter_raw())  # httpx raises unless the last chunk comes
        assert 1 < time.monotonic() - began < 6


# 20
def test_expired_version_is_told_by_the_event_of_the_server(home: str, seeded: str, ada: User) -> None:
    with ada.http() as api:
        path = f"/api/v1/namespaces/{home}/configmaps"
        # The kind is younger than that version, on the newest cluster, too.
        young = f"/apis/towline.test/v1/namespaces/{seeded}/widgets"
        answer = api.get(f"{young}?watch=1&resourceVersion=1&timeoutSeconds=5")
        event = json.loads(answer.text.splitlines()[0])
        assert (answer.status_code, event["type"]) == (200, "ERROR")
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
        token = api.get(f"{path}?limit=1").json()["metadata"].get("continue", "")
        assert api.get(f"{path}?limit=1&continue={token[:-8]}broken").status_code == 400


def expire_watches(call: Call) -> None:
    """Every watch begins with a 410; everything else is real."""
    if "watch=" not in call.line:
        call.pass_on()
        return
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": 410,
        "reason": "Expired",
        "message": "old",
    }
    call.begin_chunks()
    call.chunk(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
    call.chunk(b"")


def test_informer_of_javascript_lists_anew_after_a_410(meddling: MeddlingApi, ada: User, home: str) -> None:
    meddling.script = expire_watches
    said = javascript.run(ada.client(cluster="meddled"), "inform", home, "3")
    assert said["lists"] >= 3
    assert "kube-root-ca.crt" in said["seen"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_watch_of_python_is_told_of_a_410(meddling: MeddlingApi, ada: User, home: str) -> None:
    from kubernetes import client, config, watch

    meddling.script = expire_watches
    api = client.CoreV1Api(config.new_client_from_config(str(ada.client(cluster="meddled").config)))
    with pytest.raises(client.ApiException) as caught:
        list(watch.Watch().stream(api.list_namespaced_config_map, home, resource_version="5", timeout_seconds=5))
    assert caught.value.status == 410
    assert api.list_namespaced_config_map(home).items


# 21
def test_streaming_list_and_its_refusal_pass(home: str, ada: User) -> None:
    whole = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=3"
    with ada.http() as api:
        path = f"/api/v1/namespaces/{home}/configmaps"
        events = [json.loads(line) for line in api.get(f"{path}?{whole}").text.splitlines()]
        assert events[0]["type"] == "ADDED"
        marks = [each["object"]["metadata"].get("annotations", {}) for each in events if each["type"] == "BOOKMARK"]
        assert {"k8s.io/initial-events-end": "true"} in marks
        refused = api.get(f"{path}?watch=1&sendInitialEvents=true")
        assert (refused.status_code, refused.json()["reason"]) == (422, "Invalid")


# 22
@pytest.mark.parametrize("version", VERSIONS)
def test_followed_log_shows_each_line_within_a_second(version: str, home: str, ada: User) -> None:
    with ada.client(version).going("-n", home, "logs", "-f", "speaker", "--tail=1") as logs:
        logs.line("line")
        moments = [logs.line("line")[0] for _ in range(5)]
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert max(gaps) < 1, gaps


@pytest.mark.parametrize("version", BOTH)
def test_logs_of_the_last_life_and_parts_of_logs(version: str, home: str, ada: User) -> None:
    client = ada.client(version)
    deadline = time.monotonic() + 60
    said = ""  # the kubelet may just be throwing the last life but one away
    while not said.startswith("this is life"):
        assert time.monotonic() < deadline, said
        threading.Event().wait(0.2)
        said = client.run("-n", home, "logs", "died", "--previous").stdout
    assert len(client.succeed("-n", home, "logs", "speaker", "--tail=3").stdout.splitlines()) == 3
    (line,) = client.succeed("-n", home, "logs", "silent", "--timestamps").stdout.splitlines()
    assert line[:2] == "20"
    assert line.endswith("Z once")
    assert 0 < len(client.succeed("-n", home, "logs", "speaker", "--since=1s").stdout.splitlines()) < 12


# 25
@pytest.mark.parametrize("words", ["get pods -w -l nothing=here", "logs -f silent"])
def test_interrupted_client_ends_the_request_at_the_api_server(words: str, home: str, ada: User, stack: Stack) -> None:
    log = differential.AuditLog.from_now(stack.audit_log)
    with ada.client().going("-n", home, *words.split()) as going:
        if "logs" in words:
            going.line("once")
        wait_until(lambda: any(is_open(each) for each in stages(log, stack.account, home).values()), 10)
        going.interrupt()
        began = time.monotonic()
        wait_until(lambda: not any(is_open(each) for each in stages(log, stack.account, home).values()), 5)
        assert time.monotonic() - began < 2


def stages(log: differential.AuditLog, account: str, namespace: str) -> dict[str, set[str]]:
    """What the audit log says so far about the long requests of a namespace, except those of `idle`."""
    log.read()
    found: dict[str, set[str]] = {}
    for each in log.events:
        address = each["requestURI"]
        if (
            each["user"]["username"] == account
            and namespace in address
            and ("watch=" in address or "follow=" in address)
        ):
            found.setdefault(each["auditID"], set()).add(each["stage"])
    return found


def is_open(seen: set[str]) -> bool:
    return "ResponseComplete" not in seen


def wait_until(condition: Any, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# 19, and the second half of 22: nothing happens for long, then something
def test_quiet_streams_stay_open(idle: tuple[float, Going, Going], home: str, stack: Stack) -> None:
    began, watch, logs = idle
    threading.Event().wait(max(0.0, QUIET_SECONDS - (time.monotonic() - began)))
    late = objects.named("ConfigMap", "late", metadata={"labels": {"for": "idle"}})
    stack.admin.apply(f"/api/v1/namespaces/{home}/configmaps", late)
    watch.line("configmap/late", timeout=5)
    assert logs.process.poll() is None


# 23, 24: the last ones, as they end processes
@pytest.mark.parametrize("version", BOTH)
def test_followed_log_ends_with_an_error_when_the_agent_is_killed(
    version: str, home: str, ada: User, stack: Stack
) -> None:
    client = ada.client(version)
    with client.going("-n", home, "logs", "-f", "speaker", "--tail=1") as logs:
        logs.line("line")
        stack.kill("agent")
        try:
            assert logs.wait(20) == 1
            assert "unexpected EOF" in logs.stderr
        finally:
            stack.start_agent()
    assert client.succeed("-n", home, "logs", "speaker", "--tail=1").stdout.startswith("line")


def test_followed_log_ends_with_an_error_when_the_control_plane_restarts(home: str, ada: User, stack: Stack) -> None:
    client = ada.client()
    with client.going("-n", home, "logs", "-f", "speaker", "--tail=1") as logs:
        logs.line("line")
        stack.stop("server")
        try:
            assert logs.wait(20) == 1
            assert logs.stderr
        finally:
            stack.start_server()
    wait_until(lambda: stack.is_served("prod-1"), 30)
    assert client.succeed("-n", home, "logs", "speaker", "--tail=1").stdout.startswith("line")
