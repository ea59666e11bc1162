"""Conformance 1 to 11: plain requests, large lists, compression, caching, the prefix and the host form."""

from __future__ import annotations

import gzip
import json
import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from tests.support import differential
from tests.support.kubectl import Client
from tests.support.kubernetes_stack import CLUSTER, Stack, User
from tests.testbed.kubectl import VERSIONS

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

BULK = "k8-bulk"
OBJECTS = 1200
LARGE, LARGE_BYTES = 100, 1_000_000
MEBIBYTE = 1024 * 1024
# What one process may grow by while a list passes through it; a list that was kept would show as many times that.
GROWTH = 32 * MEBIBYTE


@pytest.fixture(scope="module")
def bulk(stack: Stack) -> Iterator[str]:
    """A namespace with 1,200 small objects."""
    with stack.empty_namespace(BULK):
        fill(stack, f"/api/v1/namespaces/{BULK}/configmaps", "bulk", OBJECTS, "x")
        yield BULK


def fill(stack: Stack, path: str, name: str, count: int, value: str) -> None:
    """Make many objects, straight."""
    with stack.direct_http() as api, ThreadPoolExecutor(4) as threads:

        def make(number: int) -> None:
            metadata = {"name": f"{name}-{number:04}", "labels": {"bulk": name}}
            answer = api.post(path, json={"metadata": metadata, "data": {"key": value}})
            assert answer.status_code == 201, answer.text

        list(threads.map(make, range(count)))


# 1
@pytest.mark.parametrize("version", VERSIONS)
def test_version_is_that_of_the_cluster_behind(version: str, ada: User, stack: Stack) -> None:
    through = json.loads(ada.client(version).succeed("version", "-o", "json").stdout)
    straight = json.loads(stack.direct(version=version).succeed("version", "-o", "json").stdout)
    assert through == straight
    assert through["serverVersion"]["gitVersion"].startswith("v1.36")


# 2
def test_clusters_under_one_host_share_no_discovery_cache(ada: User, stack: Stack) -> None:
    stack.join("never-started", "empty-2")
    client, other = ada.client(), ada.client(cluster="empty-2")
    cold = client.succeed("get", "ns").stdout.split()[0::3]
    warm = client.succeed("get", "ns").stdout.split()[0::3]
    assert cold == warm
    shared = {"KUBECACHEDIR": str(client.home / "cache")}
    failed = other.program(*other.command("get", "ns"), env=shared)
    assert failed.returncode == 1, failed.stdout
    names = {path.name for path in (client.home / "cache" / "discovery").rglob("*")}
    assert CLUSTER.replace("-", "_") in names, names
    client.succeed("get", "ns")


# 5
def test_long_list_comes_in_chunks_with_every_row_once(bulk: str, ada: User, stack: Stack) -> None:
    client = ada.client()
    client.succeed("-n", bulk, "get", "configmaps", "-l", "bulk=none")
    before = stack.memory("server")
    log = differential.AuditLog.from_now(stack.audit_log)
    rows = client.succeed("-n", bulk, "get", "configmaps", "-l", "bulk=bulk", "-o", "name").stdout.split()
    assert rows == [f"configmap/bulk-{number:04}" for number in range(OBJECTS)]
    lists = [
        each for each in log.requests(stack.account) if each["requestURI"].partition("?")[0].endswith("/configmaps")
    ]
    assert len(lists) == 3, [each["requestURI"] for each in lists]
    assert stack.memory("server") - before < GROWTH


@pytest.fixture(scope="module")
def large(stack: Stack) -> Iterator[str]:
    """A namespace whose list is 100 MB."""
    with stack.empty_namespace("k8-large") as name:
        fill(stack, f"/api/v1/namespaces/{name}/configmaps", "large", LARGE, "y" * LARGE_BYTES)
        yield name


def raw_request(user: User, target: str, *, receive_buffer: int) -> tuple[socket.socket, socket.socket]:
    """Ask on a socket of our own, whose buffer holds little. Returns: the TLS socket and the plain one below."""
    parts = urlsplit(user.stack.server())
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    plain.connect(("127.0.0.1", parts.port))
    secured = user.stack.trust().wrap_socket(plain, server_hostname="127.0.0.1")
    fields = [f"Host: 127.0.0.1:{parts.port}", f"Authorization: Bearer {user.token}"]
    secured.sendall("\r\n".join([f"GET {parts.path}{target} HTTP/1.1", *fields, "", ""]).encode())
    return secured, plain


# 6, 61
def test_slow_reader_of_a_long_list_costs_no_memory_and_nobody_time(large: str, ada: User, stack: Stack) -> None:
    before = {name: stack.memory(name) for name in ("server", "agent")}
    log = differential.AuditLog.from_now(stack.audit_log)
    with ada.http() as other:
        other.get("/version")
        sock, _ = raw_request(ada, f"/api/v1/namespaces/{large}/configmaps", receive_buffer=65536)
        with sock:
            read, times, grown = 0, [], 0
            deadline = time.monotonic() + 6
            while time.monotonic() < deadline:
                read += len(sock.recv(65536))
                began = time.monotonic()
                assert other.get("/version").status_code == 200
                times.append(time.monotonic() - began)
                grown = max(grown, *(stack.memory(name) - before[name] for name in before))
                threading.Event().wait(0.02)
    assert 0 < read < LARGE * LARGE_BYTES / 2
    assert statistics.median(times) < 0.05, sorted(times)[-10:]
    assert grown < GROWTH, f"{grown / MEBIBYTE:.0f} MiB"
    gone = time.monotonic()
    (event,) = (each for each in log.requests(stack.account) if large in each["requestURI"])
    assert event["stage"] in ("ResponseComplete", "Panic"), event
    assert time.monotonic() - gone < 2


# 7
def test_compressed_answers_pass_byte_for_byte(ada: User, stack: Stack) -> None:
    kept = ("etag", "vary", "content-encoding", "content-type", "last-modified", "cache-control")
    asked = {"accept-encoding": "gzip", "accept": "application/json"}
    seen = []
    for api in (ada.http(), stack.direct_http()):
        with api, api.stream("GET", "/openapi/v2", headers=asked) as answer:
            body = b"".join(answer.iter_raw())
            seen.append((answer.status_code, {name: answer.headers.get(name) for name in kept}, body))
    assert seen[0] == seen[1]
    assert seen[0][1]["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(seen[0][2]))["swagger"] == "2.0"


# 8
def test_unchanged_openapi_document_is_not_sent_again(ada: User) -> None:
    with ada.http() as api:
        tag = api.get("/openapi/v2").headers["etag"]
        again = api.get("/openapi/v2", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")


# 9
@pytest.mark.parametrize("version", VERSIONS)
def test_trailing_slash_of_the_server_address_changes_nothing(version: str, ada: User, seeded: str) -> None:
    client = ada.client(version, server=f"{ada.stack.server()}/")
    assert "talker" in client.succeed("-n", seeded, "get", "pods").stdout
    assert client.succeed("-n", seeded, "exec", "talker", "-c", "main", "--", "echo", "here").stdout == "here\n"


# 10
@pytest.mark.parametrize("version", VERSIONS)
def test_raw_requests_work_or_are_told_what_is_missing(version: str, ada: User) -> None:
    done = ada.client(version).run("get", "--raw", "/version")
    if version == "1.37":
        assert json.loads(done.stdout)["gitVersion"].startswith("v1.36")
    else:  # these drop the prefix
        assert done.returncode == 1
        assert "has no cluster prefix" in done.stderr, done.stderr


# 11
def serve_by_proxy(client: Client, *words: str) -> None:
    """`kubectl proxy` must serve the version, and a watch that brings its events at once."""
    with client.going("proxy", "--port=0", *words) as proxy:
        _, line = proxy.line("Starting to serve on")
        found = re.search(r"127\.0\.0\.1:\d+", line)
        assert found
        with httpx.Client(base_url=f"http://{found[0]}", timeout=10) as api:
            assert api.get("/version").json()["gitVersion"].startswith("v1.36")
            with api.stream("GET", "/api/v1/namespaces/k8-read/pods?watch=true&timeoutSeconds=5") as watch:
                assert json.loads(next(watch.iter_lines()))["type"] == "ADDED"


def test_kubectl_proxy_works_with_the_prefix_when_told_so(ada: User, seeded: str) -> None:
    serve_by_proxy(ada.client(), "--append-server-path")


# 65
@pytest.mark.parametrize("version", VERSIONS)
def test_host_of_the_cluster_s_own_needs_no_exceptions(version: str, ada: User, seeded: str, stack: Stack) -> None:
    client = stack.own_host_client(ada.token, version)
    assert json.loads(client.succeed("get", "--raw", "/version").stdout)["gitVersion"].startswith("v1.36")
    assert "talker" in client.succeed("-n", seeded, "get", "pods").stdout
    assert client.succeed("-n", seeded, "exec", "talker", "-c", "main", "--", "echo", "here").stdout == "here\n"
    assert client.succeed("explain", "pod.spec").stdout == ada.client(version).succeed("explain", "pod.spec").stdout
    serve_by_proxy(client)
