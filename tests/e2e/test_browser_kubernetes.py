"""The list of 5,000 pods in a real browser, told by a stand-in for agent and API server: it scrolls and stays live."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, expect
from tests.support import browser
from tests.support.control_app import ControlApp
from tests.support.kubernetes import Access, ApiStream, Sent, StandIn
from tests.support.page_server import PageServer

from towline.aio.tasks import TaskOwner
from towline.control.access.permissions import Role
from towline.control.clusters.models import Cluster
from towline.control.server import Running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

PODS = 5000
MOST_ROWS = 120
"""Rows in the page at once: what is in sight, and some more."""
SLOW_FRAME_MS = 100
"""A frame that takes longer is one that people see stand still. Half of them count: the machine of a test is busy."""
COLUMNS = [{"name": name} for name in ("Name", "Ready", "Status", "Restarts", "Age", "IP", "Node")]
SCROLL = """async () => {
  const view = document.querySelector("#pods .view"), times = [];
  let last = performance.now();
  for (let at = 0; at < 120; at++) {
    view.scrollTop += 1300;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times.sort((a, b) => a - b);
}"""


def row(number: int, status: str = "Running") -> dict[str, Any]:
    up = int(status == "Running")
    metadata = {"name": f"web-{number:04}", "namespace": f"team-{number % 40:02}"}
    made = {"creationTimestamp": "2026-01-02T03:04:05Z"}
    return {
        "cells": [f"web-{number:04}", f"{up}/1", status, "0", "1d", "10.0.0.1", f"node-{number % 50}"],
        "object": {"metadata": metadata | made},
    }


def table(rows: list[dict[str, Any]], more: str = "") -> dict[str, Any]:
    metadata = {"resourceVersion": "7"} | ({"continue": more} if more else {})
    return {"kind": "Table", "metadata": metadata, "columnDefinitions": COLUMNS, "rows": rows}


class Api:
    """Five thousand pods, page by page, and one that breaks when the test says so."""

    def __init__(self) -> None:
        self.breaks = asyncio.Event()

    async def answer(self, stream: ApiStream, sent: Sent) -> None:
        target = sent.line.split(b" ")[1].decode()
        if "watch=1" in target:
            await stream.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await self.breaks.wait()
            event = {"type": "MODIFIED", "object": table([row(4321, "CrashLoopBackOff")])}
            line = json.dumps(event).encode() + b"\n"
            await stream.write(b"%x\r\n%s\r\n" % (len(line), line))
            return
        query = dict(pair.split("=") for pair in target.partition("?")[2].split("&"))
        first, most = int(query.get("continue", "0")), int(query["limit"])
        last = min(PODS, first + most)
        body = json.dumps(table([row(at) for at in range(first, last)], str(last) if last < PODS else "")).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        await stream.write(head + body)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with PageServer(tmp_path_factory.mktemp("pods")) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: PageServer) -> Iterator[Api]:
    made, access = server.do(_join(server))
    yield made
    server.do(_leave(access))


async def _join(server: PageServer) -> tuple[Api, Access]:
    control, port = server.control, int(server.url.rpartition(":")[2])
    app = ControlApp(control, cast(FastAPI, None), control.settings)
    access = Access(Running(control, cast(Any, None), port), app, TaskOwner("stand-ins"))
    made: StandIn = await access.stand_in("prod")
    async with asyncio.timeout(20):
        while not any(row.capabilities for row in await app.rows(Cluster)):
            await asyncio.sleep(0.05)
    api = Api()
    made.script = api.answer
    return api, access


async def _leave(access: Access) -> None:
    for agent in access.agents:
        await agent.stop()
    await access.owner.close()


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    with browser.launched(chromium_path) as started:
        yield started


def test_five_thousand_pods_scroll_smoothly_are_found_and_change_in_place(
    chromium: Browser, server: PageServer, api: Api
) -> None:
    with browser.window(chromium, server.url, cookie=server.sign_in("ada", Role.VIEWER)) as window:
        page = window.open("/clusters/prod/pods")
        expect(page.locator("[data-count]")).to_have_text("5000 of 5000 pods", timeout=30_000)
        times = page.evaluate(SCROLL)
        assert times[len(times) // 2] < SLOW_FRAME_MS, times
        assert page.locator("#pods tbody tr").count() < MOST_ROWS
        assert page.evaluate("() => document.querySelector('#pods .view').scrollTop") > 100_000
        window.picture("kubernetes-pods-5000")
        page.evaluate("() => { document.querySelector('#pods .view').scrollTop = 0; }")
        page.get_by_label("Name or reason").fill("web-4321")
        expect(page.locator("[data-count]")).to_have_text("1 of 5000 pods")
        link = page.get_by_role("link", name="web-4321")
        link.focus()
        server.do(_break(api))
        expect(page.locator("#pods")).to_contain_text("CrashLoopBackOff")
        expect(link).to_be_focused()
        expect(page.locator("[data-count]")).to_have_text("1 of 5000 pods, 1 unwell")
        assert page.url.endswith("search=web-4321")
        assert window.problems() == []
        assert window.complaints == []


async def _break(api: Api) -> None:
    api.breaks.set()


def test_the_first_pods_are_there_before_any_script(chromium: Browser, server: PageServer, api: Api) -> None:
    cookie = server.sign_in("bea", Role.VIEWER)
    with browser.window(chromium, server.url, cookie=cookie, scripts=False) as window:
        page = window.open("/clusters/prod/pods")
        expect(page.locator("#pods tbody tr")).to_have_count(100)
        expect(page.locator("noscript p")).to_be_visible()
        assert "only the first 100 pods" in page.content()
