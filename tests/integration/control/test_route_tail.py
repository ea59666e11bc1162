"""Watching requests to a route: by the API as they end, and for whom."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.support.gateway import http_target, published
from tests.support.served import https

from towline.control.access.permissions import Reach, Right, Role


async def test_requests_are_listed_and_followed_as_they_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    async with published(url, tmp_path) as scene, http_target() as port:
        await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        body = {"name": "web", "to": f"tcp/127.0.0.1:{port}", "host": "shop.example.net"}
        assert (await dora.post("/api/v1/routes", json=body)).status_code == 201
        await scene.settled()
        await scene.get("shop.example.net", "/before?secret=1")
        lines = (await dora.get("/api/v1/routes/web/tail", params={"follow": "false"})).json()
        assert [(line["path"], line["status"], line["route"]) for line in lines] == [("/before", 200, "web")]
        token = await scene.app.token("otto", Right(Role.OPERATOR, Reach()))
        headers = {"authorization": f"Bearer {token}"}
        path = "/api/v1/routes/web/tail"
        async with https(scene.running, headers=headers) as client, client.stream("GET", path) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            arriving = answer.aiter_lines()
            async with asyncio.timeout(20):
                assert (await _next(arriving))["path"] == "/before"
                await scene.get("shop.example.net", "/now")
                assert (await _next(arriving))["path"] == "/now"


async def _next(arriving) -> dict[str, object]:
    async for line in arriving:
        if line.startswith("data: "):
            found: dict[str, object] = json.loads(line[6:])
            return found
    raise AssertionError("the stream ended")


async def test_tail_needs_what_reading_logs_needs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    async with published(url, tmp_path) as scene:
        await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        body = {"name": "web", "to": "tcp/127.0.0.1:9", "host": "shop.example.net"}
        assert (await dora.post("/api/v1/routes", json=body)).status_code == 201
        path = "/api/v1/routes/web/tail"
        assert (await scene.app.client().get(path)).status_code == 401
        vera = await scene.app.user("vera", Role.VIEWER)
        assert (await vera.get(path)).status_code == 403
        other = await scene.app.user("eve", Role.OWNER, org_id=await scene.app.org("other"))
        assert (await other.get(path)).status_code == 404


async def test_figures_of_routes_are_shown_to_prometheus(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    async with published(url, tmp_path) as scene, http_target() as port:
        await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        body = {"name": "web", "to": f"tcp/127.0.0.1:{port}", "host": "shop.example.net"}
        assert (await dora.post("/api/v1/routes", json=body)).status_code == 201
        await scene.settled()
        for _ in range(3):
            await scene.get("shop.example.net")
        registry = scene.app.control.metrics.registry
        labels = {"route": "web"}
        assert registry.get_sample_value("towline_route_requests_total", labels | {"status": "2xx"}) == 3
        assert registry.get_sample_value("towline_route_seconds_count", labels) == 3
        assert registry.get_sample_value("towline_route_seconds_bucket", labels | {"le": "+Inf"}) == 3
        assert registry.get_sample_value("towline_route_open_requests", labels) == 0
