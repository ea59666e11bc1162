"""Conformance 57 to 62, and the F ones of exec: what happens when a part is away, slow, or not what it should be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest
from tests.support import kubernetes_objects as objects
from tests.support.exec_socket import ExecSocket
from tests.support.kubectl import Going
from tests.support.kubernetes_stack import Stack, User
from tests.support.meddling_api import Call, MeddlingApi
from tests.testbed.kubectl import VERSIONS

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

MEBIBYTE = 1024 * 1024
GROWTH = 32 * MEBIBYTE
AWAY = "away-4"


@pytest.fixture(scope="module")
def home(stack: Stack) -> Iterator[str]:
    with stack.empty_namespace("k8-failure") as name:
        objects.apply(stack.direct(), name, objects.pod("shell"))
        objects.wait_for_pods(stack.direct(), name, "pod/shell")
        yield name


# 57
@pytest.fixture(scope="module")
def away(stack: Stack) -> str:
    """A cluster whose agent never came."""
    stack.join("away", AWAY)
    return AWAY


@pytest.mark.parametrize("version", VERSIONS)
def test_missing_agent_is_told_to_a_client_that_knows_nothing_yet(version: str, away: str, ada: User) -> None:
    done = ada.client(version, cluster=away).run("get", "pods")
    assert done.returncode == 1
    assert "Warning: " in done.stderr, done.stderr
    assert f"no agent of {away} is connected" in done.stderr


def test_missing_agent_is_answered_at_once_and_never_to_be_tried_again(away: str, ada: User, stack: Stack) -> None:
    began = time.monotonic()
    with ada.http(base_url=stack.server(away)) as api:
        answer = api.get("/api/v1/pods")
    assert time.monotonic() - began < 1
    assert (answer.status_code, answer.json()["reason"]) == (503, "ServiceUnavailable")
    assert "retry-after" not in answer.headers


# 58
def test_agent_that_comes_back_is_used_by_the_next_command(home: str, ada: User, stack: Stack) -> None:
    client = ada.client()
    client.succeed("-n", home, "get", "pods")
    stack.kill("agent")
    client.fail("-n", home, "get", "pods", says="no agent of")
    stack.start_agent()
    client.succeed("-n", home, "get", "pods")


# 59
def test_api_server_that_is_down_is_told_with_its_cause(meddling: MeddlingApi, ada: User, stack: Stack) -> None:
    with ada.http(base_url=stack.server("meddled")) as api:
        assert api.get("/version").status_code == 200
        meddling.close()
        try:
            answer = api.get("/version", headers={"accept": "application/json"})
        finally:
            meddling.listen()
        assert answer.status_code == 504, answer.text
        assert "refused" in answer.text.lower(), answer.text
        assert stack.is_connected("meddled")
        deadline = time.monotonic() + 20
        while api.get("/version").status_code != 200:
            assert time.monotonic() < deadline


# 60
def busy(call: Call) -> None:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429, "reason": "TooManyRequests"}
    fields = ("Retry-After: 7", "X-Kubernetes-Pf-Flowschema-Uid: u")
    call.answer("429 Too Many Requests", json.dumps(body).encode(), *fields)


def test_throttling_of_the_api_server_passes_unchanged(meddling: MeddlingApi, ada: User, stack: Stack) -> None:
    meddling.script = busy
    with ada.http(base_url=stack.server("meddled")) as api:
        answer = api.get("/api/v1/pods")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.headers["x-kubernetes-pf-flowschema-uid"] == "u"
    assert answer.json()["reason"] == "TooManyRequests"


# 30
def refuse_websockets(call: Call) -> None:
    if call.upgrade == "websocket":
        call.answer("403 Forbidden", b"{}")
    else:
        call.pass_on()


@pytest.mark.parametrize("version", ["1.32", "1.37"])
def test_client_falls_back_to_spdy_when_websockets_are_refused(
    version: str, meddling: MeddlingApi, home: str, ada: User
) -> None:
    meddling.script = refuse_websockets
    before = len(meddling.calls)
    done = ada.client(version, cluster="meddled").run("-n", home, "exec", "shell", "--", "echo", "here")
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
    methods = [line.split()[0] for line in meddling.calls[before:] if "/exec?" in line]
    assert methods == ["GET", "POST"]


# 62
def test_slow_reader_of_a_flood_costs_no_memory(home: str, ada: User, stack: Stack) -> None:
    with ExecSocket(ada, home, "shell", "cat", "/dev/zero") as flood:
        flood.receive()
        before = {name: stack.memory(name) for name in ("server", "agent")}
        deadline, read = time.monotonic() + 6, 0
        grown = 0
        while time.monotonic() < deadline:
            read += len(flood.receive()[1])
            grown = max(grown, *(stack.memory(name) - before[name] for name in before))
            time.sleep(0.03)
    assert read > 0
    assert grown < GROWTH, f"{grown / MEBIBYTE:.0f} MiB"


# 31: the last one, as it waits
def test_missing_pongs_end_the_client_after_a_minute(unanswered: tuple[float, Going]) -> None:
    began, shell = unanswered
    assert shell.wait(90) != 0
    assert 50 < shell.ended_at - began < 80
    assert shell.stderr


def redirect(to: str) -> Callable[[Call], None]:
    return lambda call: call.answer("301 Moved", b"", f"Location: {to}")


# beside 41
def test_redirect_to_the_api_servers_own_address_stays_on_the_way_through_towline(
    meddling: MeddlingApi, ada: User, stack: Stack
) -> None:
    where = {
        f"https://127.0.0.1:{meddling.port}/api/v1/?limit=1": (301, "/k8s/clusters/meddled/api/v1/?limit=1"),
        "/api/v1/": (301, "/k8s/clusters/meddled/api/v1/"),
        f"https://127.0.0.1:{meddling.port + 1}/api/v1/": (502, None),
        "https://elsewhere.test/api/v1/": (502, None),
    }
    with ada.http(base_url=stack.server("meddled"), follow_redirects=False) as api:
        for named, expected in where.items():
            meddling.script = redirect(named)
            answer = api.get("/api/v1")
            assert (answer.status_code, answer.headers.get("location")) == expected, named
