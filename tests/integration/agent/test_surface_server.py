"""The surface on a socket: who gets in, what is refused with which words, and what a caller can make it hold."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from tests.support.surface import Served, make_parts, served

from towline.agent.errors import DockerAway, KubernetesError, PolicyRefused, StorageError
from towline.agent.surface import catalogue, connectivity, features, figures, health, runtime, server, signing_in
from towline.agent.surface.addresses import Address
from towline.agent.surface.answers import answer
from towline.agent.surface.endpoints import Endpoint, Kind, Parameter, Right
from towline.agent.surface.requests import caller_of, given, read_json
from towline.agent.surface.server import Surface

OWN = (
    *health.ENDPOINTS,
    *features.ENDPOINTS,
    *runtime.ENDPOINTS,
    *connectivity.ENDPOINTS,
    *figures.ENDPOINTS,
    *signing_in.ENDPOINTS,
)
CLOSED = [each for each in catalogue.ENDPOINTS if each.right is not Right.OPEN]


def name_of(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


def path_of(endpoint: Endpoint) -> str:
    return re.sub(r"\{\w+\}", "x", endpoint.path)


@pytest.fixture
async def surface(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(make_parts(tmp_path / "agent")) as one:
        yield one


# -- every endpoint ------------------------------------------------------------------------------


async def refused(surface: Served, method: str, path: str, **more: Any) -> tuple[int, dict[str, Any], Any]:
    async with surface.client.request(method, surface.url + path, **more) as got:
        assert got.content_type == "application/json"
        assert got.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in got.headers
        error = (await got.json())["error"]
        assert error.keys() == {"code", "message", "hint", "detail", "request_id"}
        assert error["request_id"] == got.headers["X-Request-Id"] != ""
        return got.status, error, got.headers


@pytest.mark.parametrize("endpoint", CLOSED, ids=name_of)
async def test_nobody_gets_in_without_a_token(surface: Served, endpoint: Endpoint) -> None:
    wrong = "twl_" + "0" * 42
    for headers in (
        {},
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic eA=="},
    ):
        status, error, _ = await refused(surface, endpoint.method, path_of(endpoint), headers=headers)
        assert (status, error["code"]) == (401, "unauthenticated")
        assert wrong not in json.dumps(error)


@pytest.mark.parametrize("endpoint", CLOSED, ids=name_of)
async def test_token_in_the_address_is_refused_with_the_reason(surface: Served, endpoint: Endpoint) -> None:
    path = f"{path_of(endpoint)}?token={surface.operate}"

    status, error, _ = await refused(surface, endpoint.method, path, headers=surface.operator)

    assert status == 401
    assert "histories and logs" in error["message"]
    assert surface.operate not in json.dumps(error)


@pytest.mark.parametrize("endpoint", [each for each in CLOSED if each.right is Right.OPERATE], ids=name_of)
async def test_token_that_reads_does_not_operate(surface: Served, endpoint: Endpoint) -> None:
    status, error, _ = await refused(surface, endpoint.method, path_of(endpoint), headers=surface.reader)

    assert (status, error["code"]) == (403, "forbidden")


@pytest.mark.parametrize("endpoint", catalogue.ENDPOINTS, ids=name_of)
async def test_other_method_is_refused_with_those_that_are_taken(surface: Served, endpoint: Endpoint) -> None:
    status, error, headers = await refused(surface, "DELETE", path_of(endpoint), headers=surface.operator)

    assert (status, error["code"]) == (405, "method_not_allowed")
    taken = {each.method for each in catalogue.ENDPOINTS if each.path == endpoint.path}
    assert set(headers["Allow"].split(", ")) == taken


@pytest.mark.parametrize("endpoint", catalogue.ENDPOINTS, ids=name_of)
async def test_unknown_parameter_is_refused(surface: Served, endpoint: Endpoint) -> None:
    path = f"{path_of(endpoint)}?nonsense=1"

    status, error, _ = await refused(surface, endpoint.method, path, headers=surface.operator)

    assert (status, error["code"]) == (400, "bad_request")
    assert "'nonsense'" in error["message"]


@pytest.mark.parametrize("endpoint", [each for each in CLOSED if not each.takes_ticket], ids=name_of)
async def test_ticket_opens_streams_alone(surface: Served, endpoint: Endpoint) -> None:
    async with surface.client.post(f"{surface.url}/api/tickets", headers=surface.operator) as got:
        ticket = (await got.json())["ticket"]

    status, error, _ = await refused(surface, endpoint.method, f"{path_of(endpoint)}?ticket={ticket}")

    assert (status, error["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/", "/health/", "//health", "/static/x", "/%2e%2e/x"])
async def test_unknown_path_is_not_found(surface: Served, path: str) -> None:
    status, error, _ = await refused(surface, "GET", path, headers=surface.reader)

    assert (status, error["code"]) == (404, "not_found")


@pytest.mark.parametrize("endpoint", OWN, ids=name_of)
async def test_example_works_as_it_is_documented(surface: Served, endpoint: Endpoint) -> None:
    await surface.parts.capabilities.look()
    environment = os.environ | {"URL": surface.url, "TOKEN": surface.read}
    command = f"curl -sS -w '\\n%{{http_code}} %{{content_type}}' {endpoint.curl}"

    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=30
    )

    body, _, ending = done.stdout.rpartition("\n")
    status, kind = ending.split(" ", 1)
    # nothing runs on this host in this test: it is not ready, and says so in the same shape
    assert int(status) in ({503} if endpoint.path == "/ready" else {200, 201}), done.stdout + done.stderr
    assert kind.startswith(endpoint.answer)
    if endpoint.answer == "application/json":
        assert set(endpoint.fields) <= json.loads(body).keys()


# -- endpoints of these tests --------------------------------------------------------------------


async def echo(request: web.Request) -> web.StreamResponse:
    found = {"right": caller_of(request).right.name, "n": given(request, "n"), "name": request.match_info["name"]}
    return answer(found)


async def swallow(request: web.Request) -> web.StreamResponse:
    return answer(await read_json(request, dict[str, int]))


async def fail(request: web.Request) -> web.StreamResponse:
    raise {
        "kubernetes": KubernetesError("nobody answers there"),
        "docker": DockerAway("the service is stopped"),
        "policy": PolicyRefused("the policy of this host does not allow it"),
        "bug": ZeroDivisionError("the secret is swordfish"),
    }[request.match_info["how"]]


async def break_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"the first half")
    raise KubernetesError("gone in the middle")


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun")
    await asyncio.Event().wait()
    return response


NUMBER = (Parameter("n", "A number.", Kind.WHOLE, default=3, most=9),)
PLAYED = (
    Endpoint("GET", "/echo/{name}", echo, Right.READ, "", "", NUMBER),
    Endpoint("GET", "/stream/{name}", echo, Right.OPERATE, "", "", NUMBER, takes_ticket=True),
    Endpoint("POST", "/swallow", swallow, Right.OPERATE, "", ""),
    Endpoint("GET", "/fail/{how}", fail, Right.READ, "", ""),
    Endpoint("GET", "/break", break_off, Right.READ, "", ""),
    Endpoint("GET", "/endless", endless, Right.READ, "", ""),
    *signing_in.ENDPOINTS,
)


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(make_parts(tmp_path / "agent"), endpoints=PLAYED) as one:
        yield one


async def test_who_operates_may_read(played: Served) -> None:
    assert await played.get("/echo/a%20b?n=4", headers=played.operator) == (
        200, {"right": "OPERATE", "n": 4, "name": "a b"},
    )  # fmt: skip
    assert (await played.get("/echo/x"))[1]["right"] == "READ"


async def test_ticket_is_good_once_and_has_the_right_of_its_token(played: Served) -> None:
    async with played.client.post(f"{played.url}/api/tickets", headers=played.operator) as got:
        made = await got.json()
    assert made["right"] == "operate"

    assert (await played.get(f"/stream/x?ticket={made['ticket']}", headers={}))[0] == 200
    assert (await played.get(f"/stream/x?ticket={made['ticket']}", headers={}))[0] == 401

    async with played.client.post(f"{played.url}/api/tickets", headers=played.reader) as got:
        reading = (await got.json())["ticket"]
    assert (await played.get(f"/stream/x?ticket={reading}", headers={}))[0] == 403


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [("kubernetes", 503, "unavailable"), ("docker", 503, "unavailable"), ("policy", 403, "forbidden")],
)
async def test_failure_of_a_part_is_told(played: Served, how: str, status: int, code: str) -> None:
    found, body = await played.get(f"/fail/{how}")

    assert (found, body["error"]["code"]) == (status, code)


async def test_bug_is_logged_and_not_told(played: Served) -> None:
    with structlog.testing.capture_logs() as logs:
        status, body = await played.get("/fail/bug")

    assert (status, body["error"]["code"]) == (500, "internal")
    assert "swordfish" not in json.dumps(body)
    assert [each["path"] for each in logs if each["log_level"] == "error"] == ["/fail/{how}"]


async def test_answer_that_had_begun_is_cut_and_not_ended(played: Served) -> None:
    with pytest.raises(aiohttp.ClientError):
        async with played.client.get(f"{played.url}/break", headers=played.reader) as got:
            await got.read()


@pytest.mark.parametrize(
    ("body", "kind"), [(b"{", "application/json"), (b'{"a": "b"}', "application/json"), (b'{"a": 1}', "text/plain")]
)
async def test_unusable_body_is_refused(played: Served, body: bytes, kind: str) -> None:
    headers = {**played.operator, "Content-Type": kind}

    async with played.client.post(f"{played.url}/swallow", data=body, headers=headers) as got:
        assert (got.status, (await got.json())["error"]["code"]) == (400, "bad_request")


@pytest.mark.parametrize("chunked", [None, True])
async def test_large_body_is_refused_before_it_is_held(played: Served, chunked: bool | None) -> None:
    data = b'{"a": 1' + b" " * server.BODY_BYTES + b"}"
    headers = {**played.operator, "Content-Type": "application/json"}

    async with played.client.post(
        f"{played.url}/swallow", data=io.BytesIO(data), headers=headers, chunked=chunked
    ) as got:
        assert (got.status, (await got.json())["error"]["code"]) == (413, "too_large")


# -- what a caller can do to it ------------------------------------------------------------------


async def test_rebound_name_reaches_nothing_on_loopback(surface: Served) -> None:
    for path in ("/health", "/api/health/detailed"):
        status, error, _ = await refused(surface, "GET", path, headers={**surface.reader, "Host": "evil.example"})
        assert (status, error["code"]) == (403, "forbidden")


async def test_page_of_another_origin_reaches_nothing(surface: Served) -> None:
    headers = {**surface.reader, "Origin": "http://evil.example"}

    status, error, _ = await refused(surface, "GET", "/api/health/detailed", headers=headers)

    assert (status, error["code"]) == (403, "cross_site")


async def test_surface_that_others_reach_takes_any_name(tmp_path: Path) -> None:
    async with served(make_parts(tmp_path), listen="0.0.0.0") as one:
        assert (await one.get("/health", headers={"Host": "agent.towline.svc:8080"}))[0] == 200


async def raw(surface: Served, request: bytes) -> bytes:
    assert surface.surface.address is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", surface.surface.address.port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 2 * server.LINE_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2 * server.FIELD_BYTES + b"\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(100)),
    ],
    ids=["line", "field", "fields"],
)
async def test_oversized_head_is_refused(surface: Served, head: bytes) -> None:
    said = await raw(surface, head + b"Connection: close\r\n\r\n")

    assert said.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), said[:200]


async def test_silent_connection_is_closed(surface: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.2)
    async with served(make_parts(tmp_path / "other")) as one:
        assert await raw(one, b"GET /health HTTP/1.1\r\nHost: loc") == b""


async def test_connection_too_many_is_closed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    async with served(make_parts(tmp_path)) as one:
        assert one.surface.address is not None
        held = [await asyncio.open_connection("127.0.0.1", one.surface.address.port) for _ in range(2)]
        while one.surface.connections < 2:
            await asyncio.sleep(0)

        assert await raw(one, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        for _, writer in held:
            writer.close()


async def test_nothing_that_a_caller_sends_is_logged(surface: Served) -> None:
    with structlog.testing.capture_logs() as logs:
        await surface.get(f"/api/health/detailed?token={surface.operate}")
        await surface.get("/no/such-path-of-a-caller")

    assert not logs


async def test_broken_request_is_not_quoted_in_any_log(
    surface: Served, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    with structlog.testing.capture_logs() as logs:
        for broken in (f"GET /ws?ticket={surface.read} HTTP/9.x", f"GET / HTTP/1.1\r\nAuthori zation: {surface.read}"):
            assert b" 400 " in (await raw(surface, f"{broken}\r\nHost: localhost\r\n\r\n".encode())).split(b"\r\n")[0]

    said = "".join((*map(str, logs), *(str(each.__dict__) for each in caplog.records), *capfd.readouterr()))
    assert surface.read not in said
    assert [each["event"] for each in logs] == ["local request cannot be read"] * 2


async def test_streams_end_with_the_surface(played: Served) -> None:
    async with played.client.get(f"{played.url}/endless", headers=played.reader) as got:
        assert await got.content.readany() == b"begun"
        async with asyncio.timeout(10):
            await played.surface.stop()
        with pytest.raises(aiohttp.ClientError):
            await got.content.read()


async def test_caller_who_goes_away_ends_his_request(played: Served) -> None:
    async with played.client.get(f"{played.url}/endless", headers=played.reader) as got:
        await got.content.readany()
        assert played.surface.statistics.running == 1
        got.close()

    async with asyncio.timeout(10):
        while played.surface.statistics.running:
            await asyncio.sleep(0.005)


async def test_taken_port_is_told(surface: Served, tmp_path: Path) -> None:
    address = surface.surface.address
    assert address is not None
    second = Surface(make_parts(tmp_path / "second"))

    with pytest.raises(StorageError, match=f"cannot listen on 127.0.0.1:{address.port}"):
        await second.start(Address("127.0.0.1", address.port))


# -- figures -------------------------------------------------------------------------------------


async def test_every_figure_that_is_documented_is_scraped(surface: Served) -> None:
    await surface.parts.capabilities.look()
    await surface.get("/health")
    async with surface.client.get(f"{surface.url}/metrics", headers=surface.reader) as got:
        text = await got.text()

    families = {family.name: family for family in text_string_to_metric_families(text)}
    for figure in figures.FIGURES:
        family = families[figure.name]
        assert (family.type, family.documentation) == (figure.kind, figure.about)
        assert all(set(figure.labels) == sample.labels.keys() for sample in family.samples)
    counted = {
        sample.labels["path"]: sample.value
        for sample in families["towline_agent_http_requests"].samples
        if sample.name.endswith("_total")
    }
    assert counted["/health"] == 1
    assert "process_resident_memory_bytes" in families
