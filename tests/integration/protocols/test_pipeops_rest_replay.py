"""The recording of a real PipeOps REST agent, call by call and byte by byte, against a whole server over TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import httpx
from tests.support.control_app import grant_row
from tests.support.prepared import sqlite_copy
from tests.support.rest_trace import TOKEN, Call, recorded
from tests.support.served import https, served

from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import Reach, Right, Rights, Role
from towline.control.protocols.tokens import Wanted
from towline.control.server import Running


def request_of(call: Call) -> bytes:
    """The call as it was on the wire: the agent's own head, in its order, and its body."""
    head = [f"{call.method} {call.path} HTTP/1.1", *(f"{name}: {value}" for name, value in call.headers.items())]
    return "\r\n".join([*head, "", call.body]).encode()


async def sent(running: Running, call: Call) -> tuple[int, Any]:
    """Send a call's bytes on a connection of its own. Returns: status and body of the answer."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.check_hostname = False  # the recorded name is not ours
    tls.load_verify_locations(cadata=running.control.tls.material.authority_pem)
    name = call.headers["Host"].partition(":")[0]
    reader, writer = await asyncio.open_connection("localhost", running.port, ssl=tls, server_hostname=name)
    try:
        writer.write(request_of(call))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")
        )
        body = await reader.readexactly(length)
    finally:
        writer.close()
    return int(head.split(" ", 2)[1]), json.loads(body)


async def test_the_recorded_agent_finds_what_it_found_in_its_own_system(prepared_sqlite: Path, tmp_path: Path) -> None:
    async with served(sqlite_copy(prepared_sqlite, tmp_path), tmp_path) as running:
        viewer = await _prepared(running)
        for call in recorded():
            assert len(call.body.encode()) == int(call.headers["Content-Length"])
            status, reply = await sent(running, call)
            assert status == call.status, (call.path, reply)
            assert set(call.reply) <= set(reply) and reply["status"] == call.reply["status"]
        async with https(running, headers={"authorization": f"Bearer {viewer}"}) as client:
            await _is_as_it_said(client)
            await _carries_no_streams(client)


async def _prepared(running: Running) -> str:
    """Take the recorded agent's token over, and make somebody who looks. Returns: that one's token."""
    control = running.control
    actor = Actor("system", control.default_org, username="test")
    async with control.db.begin() as tx:
        user = await control.accounts.add_user(tx, actor, "vera", "", ())
        tx.add(grant_row(control.default_org, user.id, Right(Role.OWNER, Reach()), await tx.now()))
    who = Actor("user", control.default_org, user.id, "vera", "127.0.0.1")
    access = Access(who, Rights((Right(Role.OWNER, Reach()),)), control.access.watch)
    await control.protocols.tokens.create(access, Wanted("pipeops", secret=TOKEN))
    made = await control.accounts.create_token(access, "vera", kind="user", right=None, lifetime=None)
    return made.secret


async def _is_as_it_said(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while (await client.get("/api/v1/clusters/trace/kubernetes")).json()["state"] != "partial":
            await asyncio.sleep(0.1)
    known = (await client.get("/api/v1/clusters/trace/kubernetes")).json()
    assert known["connected"]
    assert known["nodes"]["ready"] == known["nodes"]["total"] == 1
    assert known["pods"] == {"total": 3, "running": 3, "pending": 0, "succeeded": 0, "failed": 0, "unwell": 0}
    assert known["workloads"]["kinds"] == {"Deployment": {"total": 1, "unwell": 0}}
    (web,) = (await client.get("/api/v1/clusters/trace/kubernetes/workloads")).json()["items"]
    assert (web["name"], web["ready"], web["desired_known"]) == ("web", 2, False)


async def _carries_no_streams(client: httpx.AsyncClient) -> None:
    """What such an agent cannot carry is refused at once, in the shape of who asks, and the pages say so."""
    answer = await client.get("/k8s/clusters/trace/api/v1/namespaces/default/pods")
    assert answer.status_code == 503 and "no streams" in answer.json()["message"], answer.text
    page = await client.get("/clusters/trace/pods", headers={"accept": "text/html"})
    assert page.status_code == 200 and "no streams" in page.text
    for name in ("", "/nodes", "/workloads"):
        page = await client.get(f"/clusters/trace{name}", headers={"accept": "text/html"})
        assert page.status_code == 200 and "cannot be seen" in page.text
    assert "2/–" in page.text
