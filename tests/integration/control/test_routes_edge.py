"""Routes from end to end: declared by the API, served by the real edge, through a link, to a real HTTP server."""

import asyncio
from pathlib import Path

from structlog.testing import capture_logs
from tests.support.gateway import fake_dns, http_target, published

from towline.control.access.permissions import Role


async def test_a_declared_route_answers_for_its_name(database_url: str, tmp_path: Path) -> None:
    async with published(database_url, tmp_path) as scene, http_target() as port:
        await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        body = {"name": "web", "to": f"tcp/127.0.0.1:{port}", "clusters": ["edge-1"], "host": "Shop.Example.net."}
        made = await dora.post("/api/v1/routes", json=body)
        assert made.status_code == 201, made.text
        answer = await scene.get("shop.example.net", "/hello?x=1")
        assert (answer.status_code, answer.content) == (200, b"you asked for GET /hello?x=1 HTTP/1.1")
        unknown = await scene.get("other.example.net")
        assert unknown.status_code == 404 and "route_unknown" in unknown.text
        assert (await dora.delete("/api/v1/routes/web")).status_code == 204
        assert (await scene.get("shop.example.net")).status_code == 404


async def test_names_below_the_gateways_domain_are_given_out(database_url: str, tmp_path: Path) -> None:
    async with (
        fake_dns() as dns,
        published(database_url, tmp_path, gateway_domain="apps.example.net", dns_resolvers=[dns.address]) as scene,
        http_target() as port,
    ):
        agent = await scene.agent("edge-1")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        made = await dora.post("/api/v1/routes", json={"name": "web", "to": "service/shop/web:http"})
        assert made.json()["host"] == "web-edge-1.apps.example.net", made.text
        agent.ports["web:http"] = port
        await scene.settled()
        assert (await scene.get("web-edge-1.apps.example.net")).status_code == 200
        assert (await scene.get("nothing.apps.example.net")).status_code == 404
        assert (await scene.get("apps.example.net")).status_code == 404

        found = (await dora.get("/api/v1/routes/web/check")).json()
        lights = {light["name"]: light for light in found["lights"]}
        assert lights["agent"]["state"] == lights["target"]["state"] == "ok", found
        assert lights["name"]["state"] == "failed" and "CNAME towline.test" in lights["name"]["reason"]
        dns.records["*.apps.example.net.", "A"] = dns.records["towline.test.", "A"] = ["192.0.2.1"]
        found = (await dora.get("/api/v1/routes/web/check")).json()
        assert {light["name"]: light["state"] for light in found["lights"]}["name"] == "ok"
        assert (await dora.get("/api/v1/gateway")).json()["wildcard"]["state"] == "ok"
        dns.records["*.apps.example.net.", "A"] = ["198.51.100.9"]
        wrong = (await dora.get("/api/v1/gateway")).json()
        assert wrong["wildcard"]["state"] == "failed"
        assert "*.apps.example.net CNAME towline.test" in wrong["wildcard"]["reason"]


async def test_server_says_at_its_start_that_names_below_its_domain_do_not_lead_here(tmp_path: Path) -> None:
    changes = {"gateway_domain": "apps.example.net"}
    for here in (False, True):
        folder = tmp_path / str(here)
        folder.mkdir()
        async with fake_dns() as dns:
            dns.records["towline.test.", "A"] = ["192.0.2.1"]
            if here:
                dns.records["*.apps.example.net.", "A"] = ["192.0.2.1"]
            with capture_logs() as logs:
                url = f"sqlite:///{folder / 'towline.sqlite'}"
                async with published(url, folder, dns_resolvers=[dns.address], **changes) as scene:
                    await scene.app.control.gateway._tasks.join()
        said = [line for line in logs if "do not lead here" in line["event"]]
        assert len(said) == (0 if here else 1)
        for line in said:
            assert line["log_level"] == "warning" and line["domain"] == "apps.example.net"
            assert "the whole domain needs one record: *.apps.example.net CNAME towline.test" in line["why"]


async def test_target_sets_no_cookie_for_its_neighbours(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n"
            b"SET-cookie: one=1; Path=/; Domain=.Apps.example.net; Secure\r\nset-cookie: two=2; Path=/\r\n\r\n"
        )
        writer.close()
        await writer.wait_closed()

    target = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    async with target, published(url, tmp_path, gateway_domain="apps.example.net") as scene:
        await scene.agent("edge-1")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        to = f"tcp/127.0.0.1:{target.sockets[0].getsockname()[1]}"
        own = {"set_answer_headers": {"Set-Cookie": "three=3; Domain=example.net"}}
        for name, options in (("web", {}), ("odd", own)):
            made = await dora.post("/api/v1/routes", json={"name": name, "to": to, "options": options})
            assert made.status_code == 201, made.text
        await scene.settled()
        plain = await scene.get("web-edge-1.apps.example.net")
        assert plain.headers.get_list("set-cookie") == ["one=1; Path=/; Secure", "two=2; Path=/"]
        odd = await scene.get("odd-edge-1.apps.example.net")
        assert odd.headers.get_list("set-cookie") == ["three=3"]


async def test_a_target_that_is_not_there_is_said_by_the_check(database_url: str, tmp_path: Path) -> None:
    async with published(database_url, tmp_path) as scene:
        agent = await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        await dora.post("/api/v1/routes", json={"name": "web", "to": "service/a/b:1", "host": "a.example.net"})
        await scene.settled()
        found = (await dora.get("/api/v1/routes/web/check")).json()
        lights = {light["name"]: light for light in found["lights"]}
        assert lights["target"]["state"] == "failed" and "nothing listens" in lights["target"]["reason"]
        assert (await scene.get("a.example.net")).status_code in (502, 503)
        await agent.agent.stop()
        away = await scene.get("a.example.net")
        assert away.status_code == 503


async def test_a_path_that_could_be_read_in_two_ways_is_answered_with_400(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    async with published(url, tmp_path) as scene, http_target() as port:
        await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        for name, path in (("web", "/"), ("admin", "/admin")):
            body = {"name": name, "to": f"tcp/127.0.0.1:{port}", "host": "a.example.net", "path": path}
            assert (await dora.post("/api/v1/routes", json=body)).status_code == 201
        await scene.settled()
        assert (await scene.get("a.example.net", "/admin;x")).status_code == 400
        assert (await scene.get("a.example.net", "/a%2Fb")).status_code == 200
